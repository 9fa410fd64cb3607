#!/usr/bin/env bash
# experiment-step.sh: one VERB of kn experiment for the EXPERIMENT, a file of knative/experiments without its .yaml. report.html,
# or report.txt for a plan, has what is known after it. A workflow gives both names in the environment: make would take a $ in
# them for its own.
set -euo pipefail
file="knative/experiments/$EXPERIMENT.yaml"
experiment() { go run ./cmd/kn-experiment "$@"; }

case $VERB in
plan)
  status=0
  experiment plan -f "$file" >report.txt || status=$?
  cat report.txt
  exit "$status"
  ;;
start) experiment start -f "$file" ;;
report) ;;
*) experiment "$VERB" "$EXPERIMENT" ;;
esac
experiment report "$EXPERIMENT" -o html >report.html
