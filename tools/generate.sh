#!/usr/bin/env bash
# generate.sh [check]: writes the generated files; with check, it fails if they were out of date. From the types in shared/experiment and
# shared/rollout it generates the definitions of the resources Experiment and Metric, and the types' deep copies. From the definitions and the
# metrics' SQL it generates pages of docs.
set -euo pipefail
definitions=(knative/210-experiment-crd.yaml knative/211-metric-crd.yaml)
generated() { cat "${definitions[@]}" shared/*/zz_generated.deepcopy.go docs/experiment-resource.md docs/metrics.md | cksum; }

before=$(generated)
# controller-gen writes both definitions into one stream, sorted by name. Each begins with ---.
go tool -modfile=tools/go.mod controller-gen paths=./shared/experiment paths=./shared/rollout object crd:allowDangerousTypes=true output:crd:stdout |
  awk -v files="${definitions[*]}" 'BEGIN { split(files, file, " ") } /^---$/ { n++ } { print >file[n] }'
go run ./docs/reference
if [ "${1:-}" = check ] && [ "$before" != "$(generated)" ]; then
  echo "generated files were out of date and have been written again: commit ${definitions[*]} shared/*/zz_generated.deepcopy.go docs/experiment-resource.md docs/metrics.md" >&2
  exit 1
fi
