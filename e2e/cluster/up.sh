#!/usr/bin/env bash
# Start a one-node Kubernetes with Knative on this machine, without Docker and without images from outside: `make cluster`.
# Run it again at any time: a complete cluster stays, and a partial one is deleted first.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib/settings.sh"
for file in step process build certificates node postgres addons; do
  # shellcheck source=/dev/null
  . "$here/lib/$file.sh"
done

die() { echo "make cluster: $*" >&2; exit 1; }
command -v apt-get >/dev/null || die "there is no apt-get on this $(uname -s): expected Debian or Ubuntu. On other systems use make kind: see docs/run.md"
[ "$(id -u)" = 0 ] || die "you are $(id -un): run it as root, because it makes namespaces, cgroups and mounts"
command -v go >/dev/null || die "there is no go in PATH: install Go 1.26"
[[ $CLUSTER_DIR =~ ^/[A-Za-z0-9/._-]+$ ]] || die "CLUSTER_DIR is '$CLUSTER_DIR': expected an absolute path of letters, digits and / . _ -"

# whole: succeeds if every component runs, was started as this checkout would start it, and the API server answers.
whole() {
  local component
  for component in "${components[@]}"; do pid "$component" >/dev/null || return 1; done
  [ "$(cat "$run/node.sum" 2>/dev/null)" = "$(node_sum)" ] && kubectl get --raw /readyz --request-timeout=10s >/dev/null
}
node_sum() { cat "$here"/config/* "$here"/lib/{settings,process,node,postgres,certificates}.sh "$bin/.kubernetes" | sha256sum; }

# A function, so that bash reads all of it before it begins, because the file may change during a build that takes minutes.
main() {
  local began=$SECONDS
  mkdir -p "$CLUSTER_DIR" "$bin" "$images" "$logs"
  exec 9>"$CLUSTER_DIR/lock"
  # Processes of a killed start may still be running, and hold the lock until they end.
  flock -n 9 || { say "another make cluster runs in $CLUSTER_DIR: waiting until it ends"; flock 9; }

  step "Debian packages" debian_packages
  step "sources" source_folder
  step "compile" compile
  step "Kubernetes $(version k8s.io/kubernetes): build" kubernetes
  step "ko and the cluster's own tools: build" tools
  if ! whole; then
    "$here/leftovers.sh" >/dev/null || "$here/down.sh"
    mkdir -p "$run"
    step "network" network
    step "configuration" configuration
    step "certificates" certificates
    step "registry" registry
    step "base image" base_images
    step "the node's namespaces" node
    step "containerd and etcd" containerd_and_etcd
    step "PostgreSQL" postgres
    step "Kubernetes: API server, controllers, scheduler" control_plane
    step "Kubernetes: kubelet, proxy" kubelet_and_proxy
    node_sum >"$run/node.sum"
  fi
  step "CoreDNS $(version github.com/coredns/coredns): image" coredns_image
  step "Knative Serving $(version knative.dev/serving): images" serving_image
  step "Knative Eventing $(version knative.dev/eventing): images" eventing_image
  step "Traefik $(version github.com/traefik/traefik/v3): image" traefik_image
  step "CoreDNS: apply" addon coredns kube-system
  step "Knative Serving: apply" addon serving knative-serving
  step "Knative Eventing: apply" addon eventing knative-eventing
  step "Traefik: apply" addon traefik traefik
  step "wait until everything is Ready" ready
  say "the cluster is up after $((SECONDS - began)) s. To use it: . e2e/cluster/env.sh. The ingress is http://$INGRESS_ADDRESS; the host of a Service is NAME.NAMESPACE.$CLUSTER_DOMAIN"
}
main
