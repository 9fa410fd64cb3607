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

name=try_$RANDOM$RANDOM
account='{"name":"Ada","username":"'${name:0:15}'","email":"'$name'@example.org","password":"analytical-engine-1843","community":"gophers"}'
show "curl $url/auth/register -H 'Content-Type: application/json' \\
    -d '$account'"
session=$(answer "$url/auth/register" -H 'Content-Type: application/json' -d "$account")
token=$(printf %s "$session" | sed 's/.*"token":"\([^"]*\)".*/\1/')
id=$(printf %s "$session" | sed 's/.*"id":"\([0-9]*\)".*/\1/')
printf '%s\n' "$session" | sed -E 's/"(token|refresh_token)":"[^"]*"/"\1":"..."/g'

show "curl $url/2/tweets -H \"Authorization: Bearer \$TOKEN\" \\
    -H 'Content-Type: application/json' -d '{\"text\":\"hello, warble\"}'"
answer "$url/2/tweets" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d '{"text":"hello, warble"}'

show "curl $url/2/users/$id/timelines/reverse_chronological?max_results=1 \\
    -H \"Authorization: Bearer \$TOKEN\""
answer "$url/2/users/$id/timelines/reverse_chronological?max_results=1" -H "Authorization: Bearer $token"
