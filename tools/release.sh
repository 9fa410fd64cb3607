#!/usr/bin/env bash
# release.sh sign: sign every image of release.yaml and its SBOM, and the file itself, keyless, and write images.sha256.
# release.sh verify: the workflow release of GITHUB_REPOSITORY, at the tag GITHUB_REF_NAME, signed release.yaml and its images.
# Both run cosign.
set -euo pipefail

images() { sed -n 's/.*image: \(.*@sha256:[0-9a-f]*\)$/\1/p' release.yaml | sort -u; }

case $1 in
sign)
  sbom=$(mktemp)
  trap 'rm -f "$sbom"' EXIT
  for image in $(images); do
    cosign sign --yes "$image"
    cosign download sbom "$image" >"$sbom"
    cosign attest --yes --type spdxjson --predicate "$sbom" "$image"
  done
  cosign sign-blob --yes --bundle release.yaml.bundle release.yaml
  images | sed 's/\(.*\)@sha256:\(.*\)/\2  \1/' | sort -u >images.sha256
  ;;
verify)
  signer=(--certificate-oidc-issuer https://token.actions.githubusercontent.com
    --certificate-identity "https://github.com/$GITHUB_REPOSITORY/.github/workflows/release.yml@refs/tags/$GITHUB_REF_NAME")
  cosign verify-blob --bundle release.yaml.bundle "${signer[@]}" release.yaml
  for image in $(images); do
    cosign verify "${signer[@]}" "$image" >/dev/null
  done
  ;;
*)
  echo "usage: release.sh sign | verify" >&2
  exit 2
  ;;
esac
