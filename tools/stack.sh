#!/usr/bin/env bash
# stack.sh ARGUMENT...: runs terraform with these arguments in each stack of STACK. STATE_ACCOUNT is the storage account of the state. In a
# workflow, only locked providers are used.
set -euo pipefail
if [ -z "${STATE_ACCOUNT:-}" ]; then
  echo "STATE_ACCOUNT is not set: expected the storage account that make state created"
  exit 1
fi
export TF_VAR_state_account=$STATE_ACCOUNT
lockfile=${CI:+-lockfile=readonly}
for stack in ${STACK:?}; do
  echo "== $stack"
  terraform -chdir="terraform/$stack" init -input=false ${lockfile:+"$lockfile"} -backend-config=storage_account_name="$STATE_ACCOUNT" >/dev/null
  terraform -chdir="terraform/$stack" "$@"
done
