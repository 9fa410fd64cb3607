# Telling what is done, how long it took, and what went wrong.
# shellcheck shell=bash

say() { printf '%(%T)T %s\n' -1 "$*"; }

# step WHAT FUNCTION [ARGUMENT...]: run it, with its output in a log of its own. Where it fails, show the log's end and exit.
step() {
  local what=$1 log=$logs/$2.log began=$EPOCHREALTIME status
  shift
  printf '%(%T)T %-58s ' -1 "$what"
  # In a subshell that is no condition: set -e has no effect in a function that is.
  set +e
  (set -e; "$@") >"$log" 2>&1
  status=$?
  set -e
  if [ $status -ne 0 ]; then
    printf 'FAILED\n\n'
    tail -n 25 "$log" >&2
    printf '\nstep "%s" failed (exit %d): the end of %s is above; other logs are beside it\n' "$what" $status "$log" >&2
    exit 1
  fi
  awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%7.1f s\n", b - a }'
}

# until_ok SECONDS WHAT COMMAND...: try it until it succeeds. It is what a step waits with.
until_ok() {
  local end=$((SECONDS + $1)) what=$2 output
  shift 2
  until output=$("$@" 2>&1); do
    if [ $SECONDS -ge $end ]; then
      printf 'waited in vain for %s; the last answer was:\n%s\n' "$what" "$output"
      return 1
    fi
    sleep 0.2
  done
}

# once STAMP FILE... -- COMMAND...: run COMMAND, unless it has succeeded on these very files before.
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
