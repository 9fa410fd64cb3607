#!/usr/bin/env bash
# fuzz.sh TIME: run every fuzz test of the module for so long ("20s"), one after the other.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# over: go test failed for no input, but because its own clock ran out while a worker was busy (go.dev/issue/75804, mended in
# Go 1.27). What an input breaks is told apart: that is reported as such, and written to testdata/fuzz.
over() { grep -qx ' *context deadline exceeded' "$log" && ! grep -qE 'Failing input|panic:|_test\.go:' "$log"; }

for package in $(go list ./...); do
  for name in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
    echo "$package $name"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$package" 2>&1 | tee "$log" || over || exit 1
  done
done
