#!/usr/bin/env bash
# release.sh sign: signs every image of release.yaml, its SBOM, and the file itself, keyless, and writes images.sha256.
# release.sh verify: checks that the workflow release of GITHUB_REPOSITORY signed release.yaml and its images at the tag GITHUB_REF_NAME.
# Both need cosign.
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
