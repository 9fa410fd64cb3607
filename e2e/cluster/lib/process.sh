# Processes. Each component has a cgroup, as an init system would give it one: what it starts stays inside, so that
# nothing gets lost and no pid file goes stale. What mounts things runs in a mount and IPC namespace of its own, the
# node's: mounts, shared memory and the pods' network namespaces end with the last process in it.
# shellcheck shell=bash

# Every hierarchy of cgroups, of v1, of v2 or of both; and the one in which processes are tracked.
mapfile -t hierarchies < <(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)
tracked=$(printf '%s\n' "${hierarchies[@]}" | grep -m1 -E '/pids(,|$)' || printf '%s' "${hierarchies[-1]}")/$CGROUP

# What containerd, CNI and the kubelet write outside of the folders they are given: the node has its own, in memory.
private=(/run/containerd /run/netns /var/lib/cni /var/lib/kubelet /var/log/containers)

# start COMMAND...: in the background, in the cgroup of its name.
start() { start_as "$(basename "$1")" "$@"; }

# start_in_node COMMAND...: the same, in the node's namespaces.
start_in_node() {
  local enter
  in_node
  start_as "$(basename "$1")" "${enter[@]}" "$@"
}

# start_as NAME COMMAND...: for a command that becomes NAME.
start_as() {
  local name=$1
  shift
  mkdir -p "$tracked/$name"
  (
    echo "$BASHPID" >"$tracked/$name/cgroup.procs"
    exec 9>&- # the lock of up.sh
    cd /
    exec setsid "$@"
  ) >"$logs/$name.log" 2>&1 </dev/null &
}

# in_node sets enter to the words that put a command into the node's namespaces.
in_node() {
  enter=(nsenter "--mount=/proc/$(pid pause)/ns/mnt" "--ipc=/proc/$(pid pause)/ns/ipc")
}

# pid NAME: of the component itself, not of what it started.
pid() {
  local p
  while read -r p; do
    [ "$(cat "/proc/$p/comm" 2>/dev/null)" != "${1:0:15}" ] || { echo "$p"; return; }
  done < <(cat "$tracked/$1/cgroup.procs" 2>/dev/null)
  return 1
}

# pids: of everything that runs, pods included.
pids() { find "$tracked" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }

# node holds the namespaces open.
node() {
  local path
  for path in "${private[@]}"; do
    [ -d "$path" ] || { mkdir -p "$path"; echo "$path" >>"$run/made"; }
  done
  mkdir -p "$run/postgres"
  # shellcheck disable=SC2016 # for the inner shell
  start_as pause unshare --mount --ipc --propagation slave bash -ec '
    for path; do mount -t tmpfs -o mode=755 none "$path"; done
    mount --bind "$RUN/postgres" /var/lib/postgresql
    exec "$0"' "$bin/pause" "${private[@]}"
  until_ok 5 "the node's namespaces" pid pause
}
