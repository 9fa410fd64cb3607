#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz test of the module for TIME, for example 20s, one after the other.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# timed_out: go test failed without a failing input, because its time limit ended while a worker was busy (go.dev/issue/75804, fixed in
# Go 1.27). An input that fails is reported in another way, and written to testdata/fuzz.
timed_out() { grep -qx ' *context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic:|_test\.go:' "$log"; }

# grep, because go test -list would link the tests of every package first.
grep -rEo --include='*_test.go' --exclude-dir=node_modules '^func Fuzz\w+' . | sort | while IFS=: read -r file name; do
  package=$(dirname "$file") name=${name#func }
  echo "$package $name"
  if go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$package" >"$log" 2>&1 </dev/null; then
    awk '/^fuzz: elapsed/ { last = $0 } END { print last }' "$log"
  elif timed_out; then
    echo "the time limit ended while a worker was busy; no input failed"
  else
    cat "$log"
    exit 1
  fi
done
