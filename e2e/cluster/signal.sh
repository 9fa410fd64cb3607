#!/usr/bin/env bash
# Send a signal to a component of the node, or to a function in its pods, to test its absence:
#
#   signal.sh kube-apiserver STOP    (CONT resumes it)
#   signal.sh tweet KILL             (kills without a warning, unlike kubectl delete)
#   signal.sh tweet KILL WARBLE_ARM=control    (only processes with this environment variable)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
. "$here/lib/process.sh"

[ $# -eq 2 ] || [ $# -eq 3 ] || { echo "usage: signal.sh NAME SIGNAL [VARIABLE=VALUE]" >&2; exit 2; }
if [ -n "${KIND_CLUSTER_NAME:-}" ]; then # the node of kind is a container
  # shellcheck disable=SC2016 # for the inner shell
  exec docker exec "$KIND_CLUSTER_NAME-control-plane" bash -ec '
    [ -n "$3" ] || exec pkill "-$2" -x "$1"
    mapfile -t processes < <(for p in $(pgrep -x "$1"); do ! grep -zqxF -- "$3" "/proc/$p/environ" || echo "$p"; done)
    kill -s "$2" "${processes[@]}"' signal "${1:0:15}" "$2" "${3:-}"
fi
mapfile -t processes < <(pids | while read -r p; do
  { read -r comm <"/proc/$p/comm"; } 2>/dev/null || continue # no process for each pid, because a test must be quick
  [ "$comm" = "${1:0:15}" ] || continue
  [ $# -eq 2 ] || grep -zqxF -- "$3" "/proc/$p/environ" || continue
  echo "$p"
done)
[ ${#processes[@]} -gt 0 ] || {
  echo "signal.sh: no $1 is running${3:+ with $3}: expected a function with a pod, or one of $(find "$tracked" -mindepth 1 -maxdepth 1 -type d -printf '%f ' 2>/dev/null)" >&2
  exit 1
}
kill -s "$2" "${processes[@]}"
