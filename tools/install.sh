#!/usr/bin/env bash
# install.sh NAME: installs a program that is not a Go module, if it is missing, with apt-get or brew. NAME is one of the cases below.
set -euo pipefail
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

# want DEBIAN BREW OTHERWISE: installs the package with this name for apt-get or for brew. Without both, it says what to install.
want() {
  if command -v apt-get >/dev/null; then
    echo "installing $1 with apt-get"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # several packages. Another installation may be running: a fresh machine updates itself.
    $sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq $1
  elif command -v brew >/dev/null; then
    echo "installing $2 with brew"
    # shellcheck disable=SC2086
    brew install -q $2
  else
    echo "install $3"
    exit 1
  fi
}

# have COMMAND...: succeeds if one of the commands exists.
have() {
  local name
  for name in "$@"; do
    ! command -v "$name" >/dev/null || return 0
  done
  return 1
}

case $1 in
postgres)
  [ -z "${DATABASE_URL:-}${PGBIN:-}" ] || exit 0
  for folder in /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
    ! have initdb "$folder/initdb" || exit 0
  done
  want postgresql postgresql@17 'PostgreSQL 15 to 18 (or set PGBIN or DATABASE_URL)'
  ;;
pgbouncer)
  have pgbouncer /usr/sbin/pgbouncer || want pgbouncer pgbouncer PgBouncer
  ;;
node)
  have npm || want 'nodejs npm' node 'Node 20.19 or later with npm'
  ;;
tweepy) # Debian's package works only with Debian's Python. Set PYTHON to another Python with tweepy.
  ! "${PYTHON:-/usr/bin/python3}" -c 'import tweepy' 2>/dev/null || exit 0
  if [ -n "${PYTHON:-}" ]; then
    echo "PYTHON is $PYTHON, which has no tweepy: expected a Python 3 with tweepy"
    exit 1
  fi
  want python3-tweepy python-tweepy 'tweepy for Python 3 (and set PYTHON)'
  ;;
chromium)
  [ -n "${CHROMIUM:-}" ] || have chromium chromium-browser google-chrome ||
    want 'chromium fonts-liberation' '--cask chromium' 'Chromium (or set CHROMIUM)'
  ;;
shellcheck)
  have shellcheck || want shellcheck shellcheck shellcheck
  ;;
kubelogin)
  have kubelogin || $sudo az aks install-cli
  ;;
*)
  echo "usage: install.sh postgres | pgbouncer | node | tweepy | chromium | shellcheck | kubelogin" >&2
  exit 2
  ;;
esac
