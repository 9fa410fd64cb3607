#!/usr/bin/env bash
# experiment-step.sh: runs one VERB of kn experiment on EXPERIMENT, a file of knative/experiments without .yaml, and writes the report into
# report.html, or for a plan into report.txt. VERB and EXPERIMENT are in the environment and not arguments, because make would expand a $ in
# them.
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
