#!/usr/bin/env bash
# Send a signal to a component of the node, or to a function in its pods, to test its absence:
#
#   signal.sh kube-apiserver STOP    (CONT resumes it)
#   signal.sh tweet KILL             (kills without a warning, unlike kubectl delete)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
. "$here/lib/process.sh"

[ $# -eq 2 ] || { echo "usage: signal.sh NAME SIGNAL" >&2; exit 2; }
if [ -n "${KIND_CLUSTER_NAME:-}" ]; then # the node of kind is a container
  exec docker exec "$KIND_CLUSTER_NAME-control-plane" pkill "-$2" -x "${1:0:15}"
fi
mapfile -t processes < <(pids | while read -r p; do
  [ "$(cat "/proc/$p/comm" 2>/dev/null)" != "${1:0:15}" ] || echo "$p"
done)
[ ${#processes[@]} -gt 0 ] || {
  echo "signal.sh: no $1 is running: expected a function with a pod, or one of $(find "$tracked" -mindepth 1 -maxdepth 1 -type d -printf '%f ' 2>/dev/null)" >&2
  exit 1
}
kill -s "$2" "${processes[@]}"
