#!/usr/bin/env bash
# stack.sh ARGUMENT...: terraform with these arguments in each of the stacks of STACK. STATE_ACCOUNT is the storage account of the
# state. A workflow takes the providers that are locked, and no others.
set -euo pipefail
if [ -z "${STATE_ACCOUNT:-}" ]; then
  echo "STATE_ACCOUNT is not set: expected the storage account that make state made"
  exit 1
fi
export TF_VAR_state_account=$STATE_ACCOUNT
lockfile=${CI:+-lockfile=readonly}
for stack in ${STACK:?}; do
  echo "== $stack"
  terraform -chdir="terraform/$stack" init -input=false ${lockfile:+"$lockfile"} -backend-config=storage_account_name="$STATE_ACCOUNT" >/dev/null
  terraform -chdir="terraform/$stack" "$@"
done
