#!/usr/bin/env bash
# What Warble is about, in one sitting: people use it, half of them may like tweets (knative/experiments/likes-demo.yaml),
# which is planted to make them post twice as much, and the readout finds that. Takes under 10 minutes. Whatever comes of it
# no process stays, and DEMO_DIR (.warble/demo) has the logs, the database and report.html. A second demo beside the first has a
# DEMO_DIR and a DEMO_PORT of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

people=${DEMO_USERS:-600}
experiment=likes-demo
# The first people come within a minute, their windows are 2 minutes, and guardrails speak after 30 windows of 10 seconds.
length=${DEMO_FOR:-5m30s}
patience=180 # seconds, for what Warble has to get done
folder=${DEMO_DIR:-.warble/demo}
port=${DEMO_PORT:-8079}
listen=127.0.0.1:$port
board=127.0.0.1:$((port - 10))

unset DATABASE_URL FEATURES K_SINK SMTP_URL STEER_URL # a database, and a Warble, of its own
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
state=$folder/state
if [ "$(id -u)" = 0 ]; then
  state=/var/tmp/warble/demo-$(printf %s "$folder" | cksum | cut -d ' ' -f 1) # PostgreSQL's own account must reach it
fi
warble=''

stop() {
  [ -n "$warble" ] || return 0
  kill -INT "$warble" 2>/dev/null || true # it may have ended
  wait "$warble" || { echo "demo: Warble did not end well: see $log" >&2; return 1; }
  warble=''
}
trap 'stop || true' EXIT
trap 'echo "demo: stopped" >&2; exit 1' INT TERM

# says PATTERN: waits until a line of the log matches.
says() {
  local until=$((SECONDS + patience))
  until grep -q "$1" "$log"; do
    if ! kill -0 "$warble" 2>/dev/null || [ "$SECONDS" -gt "$until" ]; then
      tail -n 20 "$log" >&2
      echo "demo: Warble did not say \"$1\" within $patience s: see $log" >&2
      exit 1
    fi
    sleep 0.2
  done
}

# start ARGUMENT...: a Warble, which is there when it returns. Its log is the demo's once it has the state: another demo may
# run on this folder, and reads the log.
start() {
  log=$(mktemp "$folder/warble.log.XXXXXX")
  "$folder/local" -listen "$listen" -state "$state" "$@" >>"$log" 2>&1 &
  warble=$!
  says 'Warble is at'
  mv "$log" "$folder/warble.log"
  log=$folder/warble.log
}

load() { "$folder/load" -url "http://$listen" -users "$people" -seed 1 -experiment "$experiment" -state "$folder/people.json" "$@"; }

say() { printf '\n== %s (%(%T)T)\n' "$*" -1; }

say "building (the clock of 8 minutes runs after that)"
for program in local load kn-experiment; do go build -o "$folder/$program" "./cmd/$program"; done
mkdir -p "$state/bin"
go build -o "$state/bin/" ./functions/... ./cmd/kn-experiment
began=$SECONDS

say "an empty Warble, and $people people who register"
start -fresh -experiment none -board none
rm -f "$folder/people.json"
load -for 1s -rate 1 -max-errors 1 >/dev/null || true # whether anybody did anything in the second does not matter
stop

say "the experiment $experiment: half of them may like tweets"
start -experiment "knative/experiments/$experiment.yaml" -board "$board"
says "^$experiment: Running"
grep "^$experiment: " "$log"
echo
echo "  http://$board/experiments/$experiment   the board: watch it happen"
echo "  http://$listen/                           the playground: be one of the people"

say "they use it for $length; whoever may like posts twice as much"
load -for "$length" -rate "${DEMO_RATE:-50}" -effect +1.0
sleep 12 # the last windows of 10 s are on their way

say "what the readout makes of it"
export DATABASE_URL
DATABASE_URL=$(cat "$state/database-url")
"$folder/kn-experiment" report "$experiment" -o html >"$folder/report.html"
"$folder/kn-experiment" report "$experiment"
stop
echo
echo "That took $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s. With plots: $folder/report.html"
for opener in xdg-open open; do
  if command -v "$opener" >/dev/null && { [ "$opener" = open ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; }; then
    "$opener" "$folder/report.html" >/dev/null 2>&1 || true # the line above has said where it is
    break
  fi
done
