#!/usr/bin/env bash
# Handles the lock file of each stack in STACK. A lock file has the hashes of the stack's providers, for the platforms of people's machines
# and of GitHub's runners.
#
#   locks.sh write   makes or completes the lock files; commit them afterwards
#   locks.sh check   fails and names each lock file that is not committed, or lacks a platform or a provider
set -euo pipefail
cd "$(dirname "$0")"
wrong=0
for stack in ${STACK:?is not set: expected folders of terraform, such as 01-cluster}; do
  lock=$stack/.terraform.lock.hcl
  if [ "$1" = check ] && ! git ls-files --error-unmatch "$lock" >/dev/null 2>&1; then
    echo "terraform/$lock is not committed: run make locks STACK=$stack, and commit it" >&2
    wrong=1
    continue
  fi
  terraform -chdir="$stack" get >/dev/null # gets the modules, because the lock file also covers their providers
  terraform -chdir="$stack" providers lock -platform=linux_amd64 -platform=darwin_arm64 -platform=windows_amd64 >/dev/null
  if [ "$1" = check ] && ! git diff --exit-code -- "$lock"; then
    echo "terraform/$lock is not what it is for three platforms: run make locks STACK=$stack, look at what changed, and commit it" >&2
    wrong=1
  fi
done
exit "$wrong"
