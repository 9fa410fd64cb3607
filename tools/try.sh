#!/usr/bin/env bash
# Makes an account, tweets and reads the timeline, and shows each command with its answer. WARBLE_URL is the URL of a Warble other than that
# of make run.
set -euo pipefail
url=${WARBLE_URL:-http://127.0.0.1:8080}

# answer ARGUMENT...: prints curl's answer, and ends with an error if there is none or if it is a refusal.
answer() {
  curl -sS --fail-with-body "$@" || { echo; echo "the request to $url failed: is make run running?" >&2; exit 1; }
}
show() { printf '\n$ %s\n' "$1"; }
# narrow keeps an answer within the 80 columns of a terminal, and ends its last line.
narrow() { printf '%s\n' "$(fold -w 80)"; }

name=try_$RANDOM$RANDOM
name=${name:0:12}
account='{"name": "Ada", "username": "'$name'", "community": "gophers",
     "email": "'$name'@example.org", "password": "analytical-engine"}'
show "curl $url/auth/register \\
    -H 'Content-Type: application/json' -d '
    $account'"
session=$(answer "$url/auth/register" -H 'Content-Type: application/json' -d "$account")
token=$(printf %s "$session" | sed 's/.*"token":"\([^"]*\)".*/\1/')
id=$(printf %s "$session" | sed 's/.*"id":"\([0-9]*\)".*/\1/')
printf %s "$session" | sed -E 's/"(token|refresh_token)":"[^"]*"/"\1":"..."/g' | narrow

show "curl $url/2/tweets -H \"Authorization: Bearer \$TOKEN\" \\
    -H 'Content-Type: application/json' -d '{\"text\":\"hello, warble\"}'"
answer "$url/2/tweets" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d '{"text":"hello, warble"}' | narrow

show "curl -G $url/2/users/\$ID/timelines/reverse_chronological \\
    -d max_results=1 -H \"Authorization: Bearer \$TOKEN\""
answer -G "$url/2/users/$id/timelines/reverse_chronological" -d max_results=1 -H "Authorization: Bearer $token" | narrow
