# Processes. Each component has a cgroup, as with an init system. Processes that it starts stay inside, so that
# none gets lost, and no pid file becomes stale. Components that mount run in a separate mount and IPC namespace, the
# node's: mounts, shared memory and the pods' network namespaces end with the last process in it.
# shellcheck shell=bash

# All hierarchies of cgroups, of v1, v2 or both, and the hierarchy that is used to track processes.
mapfile -t hierarchies < <(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts)
tracked=$(printf '%s\n' "${hierarchies[@]}" | grep -m1 -E '/pids(,|$)' || printf '%s' "${hierarchies[-1]}")/$CGROUP

# Folders to which containerd, CNI and the kubelet write, whatever their configuration says. The node has its own, in memory.
private=(/run/containerd /run/netns /var/lib/cni /var/lib/kubelet /var/log/containers)

# start COMMAND...: starts the command in the background, in a cgroup with the command's name.
start() { start_as "$(basename "$1")" "$@"; }

# start_in_node COMMAND...: the same, in the node's namespaces.
start_in_node() {
  local enter
  in_node
  start_as "$(basename "$1")" "${enter[@]}" "$@"
}

# start_as NAME COMMAND...: the same for a command that replaces itself by NAME, such as unshare.
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

# pid NAME: prints the pid of the component itself, not of its child processes.
pid() {
  local p
  while read -r p; do
    [ "$(cat "/proc/$p/comm" 2>/dev/null)" != "${1:0:15}" ] || { echo "$p"; return; }
  done < <(cat "$tracked/$1/cgroup.procs" 2>/dev/null)
  return 1
}

# pids: prints the pids of all processes, including pods.
pids() { find "$tracked" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }

# node keeps the namespaces open.
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
