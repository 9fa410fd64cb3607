#!/usr/bin/env bash
# Stop the cluster and delete everything of it: `make cluster-down`. Built programs stay in CLUSTER_DIR, as do the
# images in the registry, so that the next start is quick. The cluster's contents are deleted.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
. "$here/lib/step.sh"
. "$here/lib/process.sh"

[ "$(id -u)" = 0 ] || { echo "make cluster-down: you are $(id -un): run it as root" >&2; exit 1; }
began=$EPOCHREALTIME

# gone: succeeds if no process is left. It kills what is left, because only the registry, which was stopped before, has data to keep.
gone() {
  local left
  mapfile -t left < <(pids)
  [ ${#left[@]} -eq 0 ] || { kill -KILL "${left[@]}" 2>/dev/null || true; return 1; }
}
registry_gone() { ! pid docker-registry; }

if registry=$(pid docker-registry); then
  kill -TERM "$registry" || true
  until_ok 5 "the registry to end" registry_gone || true
fi
until_ok 20 "$(pids | wc -l) processes to end" gone

# A pod's connection whose peer has gone would keep the pod's network namespace, and this end of the pod's link, for minutes.
ip -oneline -4 address show to "$POD_CIDR" | while read -r _ link _; do ip link del "$link" 2>/dev/null || true; done
ip route del "$SERVICE_CIDR" dev lo 2>/dev/null || true
ip address del "$NODE_IP/32" dev lo 2>/dev/null || true
for table in "ip $CGROUP" "ip kube-proxy" "ip6 kube-proxy"; do
  # shellcheck disable=SC2086 # family and name
  nft delete table $table 2>/dev/null || true
done
[ ! -s "$run/sysctl" ] || sysctl -qp "$run/sysctl"
if [ -s "$run/made" ]; then # an interrupted stop may have deleted some
  while read -r path; do [ ! -d "$path" ] || rmdir --ignore-fail-on-non-empty "$path"; done <"$run/made"
fi
for hierarchy in "${hierarchies[@]}"; do
  [ ! -d "$hierarchy/$CGROUP" ] || find "$hierarchy/$CGROUP" -depth -type d -exec rmdir {} +
done
rm -rf "$run"

until_ok 10 "everything to be gone" "$here/leftovers.sh"
awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "the cluster is down after %.1f s, and nothing is left of it\n", b - a }'
