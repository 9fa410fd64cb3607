#!/usr/bin/env bash
# Shows an experiment from start to verdict in under 10 minutes (knative/experiments/likes-demo.yaml). Synthetic people use Warble, and half
# of them may like tweets. Those people post twice as much, on purpose, and the readout finds this effect. At the end no process stays.
# DEMO_DIR (default: .warble/demo) has the logs, the database and report.html. A second demo needs another DEMO_DIR and DEMO_PORT.
set -euo pipefail
cd "$(dirname "$0")/.."

people=${DEMO_USERS:-600}
experiment=likes-demo
# The first people arrive within a minute, a unit's window is 2 minutes, and guardrails need 30 count periods of 10 seconds.
length=${DEMO_FOR:-5m30s}
patience=180 # seconds in which Warble must print a line that the demo waits for
folder=${DEMO_DIR:-.warble/demo}
port=${DEMO_PORT:-8079}
listen=127.0.0.1:$port
board=127.0.0.1:$((port - 10))

unset DATABASE_URL FEATURES K_SINK SMTP_URL STEER_URL # the demo uses its own database and its own Warble
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
state=$folder/state
if [ "$(id -u)" = 0 ]; then
  state=/var/tmp/warble/demo-$(printf %s "$folder" | cksum | cut -d ' ' -f 1) # the account that PostgreSQL uses must reach it
fi
warble=''

stop() {
  [ -n "$warble" ] || return 0
  kill -INT "$warble" 2>/dev/null || true # it may have ended
  wait "$warble" || { echo "demo: Warble ended with an error: see $log" >&2; return 1; }
  warble=''
}
trap 'stop || true' EXIT
trap 'echo "demo: stopped" >&2; exit 1' INT TERM

# wait_for PATTERN: waits until a line of the log matches.
wait_for() {
  local until=$((SECONDS + patience))
  until grep -q "$1" "$log"; do
    if ! kill -0 "$warble" 2>/dev/null || [ "$SECONDS" -gt "$until" ]; then
      tail -n 20 "$log" >&2
      echo "demo: Warble did not print \"$1\" within $patience s: see $log" >&2
      exit 1
    fi
    sleep 0.2
  done
}

# start ARGUMENT...: starts Warble, and returns when it answers. Until then its log has a temporary name, because another demo may be
# using this folder and its log.
start() {
  log=$(mktemp "$folder/warble.log.XXXXXX")
  "$folder/local" -listen "$listen" -state "$state" "$@" >>"$log" 2>&1 &
  warble=$!
  wait_for 'Warble is at'
  mv "$log" "$folder/warble.log"
  log=$folder/warble.log
}

load() { "$folder/load" -url "http://$listen" -users "$people" -seed 1 -experiment "$experiment" -state "$folder/people.json" "$@"; }

say() { printf '\n== %s (%(%T)T)\n' "$*" -1; }

say "building; the demo itself takes 8 minutes"
for program in local load kn-experiment; do go build -o "$folder/$program" "./cmd/$program"; done
mkdir -p "$state/bin"
go build -o "$state/bin/" ./functions/... ./cmd/kn-experiment
began=$SECONDS

say "$people people register at an empty Warble"
start -fresh -experiment none -board none
rm -f "$folder/people.json"
load -for 1s -rate 1 -max-errors 1 >/dev/null || true # it need not do anything in that second, so its errors do not matter
stop

say "the experiment $experiment: half of them may like tweets"
start -experiment "knative/experiments/$experiment.yaml" -board "$board"
wait_for "^$experiment: Running"
grep "^$experiment: " "$log"
echo
echo "  http://$board/experiments/$experiment   the board: watch the experiment"
echo "  http://$listen/                           the playground: join in"

say "they use it for $length; those who may like tweets post twice as much"
load -for "$length" -rate "${DEMO_RATE:-50}" -effect +1.0
sleep 12 # until the last count periods are stored

say "the report of the experiment"
export DATABASE_URL
DATABASE_URL=$(cat "$state/database-url")
"$folder/kn-experiment" report "$experiment" -o html >"$folder/report.html"
"$folder/kn-experiment" report "$experiment"
stop
echo
echo "That took $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s. With plots: $folder/report.html"
for opener in xdg-open open; do
  if command -v "$opener" >/dev/null && { [ "$opener" = open ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; }; then
    "$opener" "$folder/report.html" >/dev/null 2>&1 || true # it need not work, because the line above names the file
    break
  fi
done
