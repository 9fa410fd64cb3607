#!/usr/bin/env bash
# fuzz.sh TIME: run every fuzz test of the module for so long ("20s"), one after the other.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# over: go test failed for no input, but because its own clock ran out while a worker was busy (go.dev/issue/75804, mended in
# Go 1.27). What an input breaks is told apart: that is reported as such, and written to testdata/fuzz.
over() { grep -qx ' *context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic:|_test\.go:' "$log"; }

# go test -list would say the same, after linking the tests of every package.
grep -rEo --include='*_test.go' --exclude-dir=node_modules '^func Fuzz\w+' . | sort | while IFS=: read -r file name; do
  package=$(dirname "$file") name=${name#func }
  echo "$package $name"
  if go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$package" >"$log" 2>&1 </dev/null; then
    awk '/^fuzz: elapsed/ { last = $0 } END { print last }' "$log"
  elif over; then
    echo "ended by its own clock, with no input that fails"
  else
    cat "$log"
    exit 1
  fi
done
