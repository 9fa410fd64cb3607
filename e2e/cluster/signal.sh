#!/usr/bin/env bash
# Send a component of the node a signal, to see what its absence does:
#
#   signal.sh kube-apiserver STOP    and CONT to have it back
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
. "$here/lib/process.sh"

[ $# -eq 2 ] || { echo "usage: signal.sh COMPONENT SIGNAL" >&2; exit 2; }
process=$(pid "$1") || {
  echo "signal.sh: no $1 is running: expected one of $(find "$tracked" -mindepth 1 -maxdepth 1 -type d -printf '%f ' 2>/dev/null)" >&2
  exit 1
}
kill -s "$2" "$process"
