#!/usr/bin/env bash
# List everything that the cluster has on this machine outside of CLUSTER_DIR's caches. Exit with 1 if there is anything.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
. "$here/lib/process.sh"

tell() { sed "s|^ *|$1: |"; }

found=$({
  pids | while read -r p; do echo "$p $(tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null)"; done | cut -c1-120 | tell process
  awk -v folder="$CLUSTER_DIR/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | tell mount
  for cidr in "$NODE_IP/32" "$POD_CIDR" "$SERVICE_CIDR"; do
    ip -oneline -4 address show to "$cidr" | tell address
    ip -4 route show root "$cidr" | tell route
  done
  nft list tables 2>/dev/null | grep -E "ip6? ($CGROUP|kube-proxy)$" | tell nftables || true
  for hierarchy in "${hierarchies[@]}"; do find "$hierarchy/$CGROUP" -maxdepth 1 -type d 2>/dev/null | tell cgroup || true; done
  find "$run" -maxdepth 0 2>/dev/null | tell folder || true
})
[ -z "$found" ] || { echo "$found"; exit 1; }
