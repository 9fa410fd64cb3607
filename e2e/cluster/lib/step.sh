# Functions that print steps, their time, and their errors.
# shellcheck shell=bash

say() { printf '%(%T)T %s\n' -1 "$*"; }

# step WHAT FUNCTION [ARGUMENT...]: runs the function with its own log. If it fails, step shows the log's end and exits.
step() {
  local what=$1 log=$logs/$2.log began=$EPOCHREALTIME status
  shift
  printf '%(%T)T %-58s ' -1 "$what"
  # In a subshell, and not in a condition, because set -e has no effect on a function in a condition.
  set +e
  (set -e; "$@") >"$log" 2>&1
  status=$?
  set -e
  if [ $status -ne 0 ]; then
    printf 'FAILED\n\n'
    tail -n 25 "$log" >&2
    printf '\nthe step "%s" failed with exit code %d. The end of its log %s is above; the logs of other steps are in the same folder\n' "$what" $status "$log" >&2
    exit 1
  fi
  awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%7.1f s\n", b - a }'
}

# until_ok SECONDS WHAT COMMAND...: repeats the command until it succeeds, or fails after SECONDS.
until_ok() {
  local end=$((SECONDS + $1)) what=$2 output
  shift 2
  until output=$("$@" 2>&1); do
    if [ $SECONDS -ge $end ]; then
      printf 'timed out waiting for %s; the last output was:\n%s\n' "$what" "$output"
      return 1
    fi
    sleep 0.2
  done
}

# once STAMP FILE... -- COMMAND...: runs COMMAND, unless it has succeeded before with the same content of the files.
once() {
  local stamp=$1 inputs=() sum
  shift
  while [ "$1" != -- ]; do inputs+=("$1"); shift; done
  shift
  sum=$(cat "${inputs[@]}" | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ] || return 0
  "$@"
  mkdir -p "$(dirname "$stamp")"
  echo "$sum" >"$stamp"
}
