#!/usr/bin/env bash
# generate.sh [check]: write what is generated, or say what differs from it. From the types in shared/experiment and shared/rollout
# come the definitions of the resources Experiment and Metric and copies of the types; from both and the metrics' SQL, pages of
# docs.
set -euo pipefail
definitions=(knative/210-experiment-crd.yaml knative/211-metric-crd.yaml)
generated() { cat "${definitions[@]}" shared/*/zz_generated.deepcopy.go docs/experiment-resource.md docs/metrics.md | cksum; }

before=$(generated)
# It writes both definitions into one stream, by name: each begins with ---.
go tool -modfile=tools/go.mod controller-gen paths=./shared/experiment paths=./shared/rollout object crd:allowDangerousTypes=true output:crd:stdout |
  awk -v files="${definitions[*]}" 'BEGIN { split(files, file, " ") } /^---$/ { n++ } { print >file[n] }'
go run ./docs/reference
if [ "${1:-}" = check ] && [ "$before" != "$(generated)" ]; then
  echo "was not as make generate writes it, and is now: commit ${definitions[*]} shared/*/zz_generated.deepcopy.go docs/experiment-resource.md docs/metrics.md" >&2
  exit 1
fi
