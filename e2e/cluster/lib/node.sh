# The node: its addresses, its configuration, and its processes in the order in which they need each other.
# shellcheck shell=bash

components=(docker-registry pause containerd postgres etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

# The node's address is on lo: it belongs to this machine and to no network. Pods are routed one by one (ptp), without
# a bridge. No packet from a pod or to a service leaves the machine, and none comes in from outside.
network() {
  local setting
  for setting in net.ipv4.ip_forward=1 fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288; do
    sysctl "${setting%=*}" >>"$run/sysctl"
    sysctl -qw "$setting"
  done
  ip address add "$NODE_IP/32" dev lo
  ip route add "$SERVICE_CIDR" dev lo src "$NODE_IP"
  envsubst <"$here/config/nftables.conf" | nft -f -
}

configuration() {
  local file
  for file in containerd.toml kubelet.yaml kube-proxy.yaml registry.yaml; do envsubst <"$here/config/$file" >"$run/$file"; done
  mkdir -p "$run/cni" "$run/certs.d/$REGISTRY"
  envsubst <"$here/config/cni.conflist" >"$run/cni/10-ptp.conflist"
  envsubst <"$here/config/hosts.toml" >"$run/certs.d/$REGISTRY/hosts.toml"
  : >"$run/resolv.conf" # pods resolve only the cluster's names
}

registry() {
  mkdir -p "$images/registry"
  start docker-registry serve "$run/registry.yaml"
  until_ok 20 "the registry" curl -fsS "http://$REGISTRY/v2/"
}

containerd_and_etcd() {
  start_in_node containerd -c "$run/containerd.toml"
  mkdir -m 700 "$run/etcd"
  # No fsync, because the data are deleted with the cluster.
  start etcd --name "$NODE" --data-dir "$run/etcd" --unsafe-no-fsync --logger=zap --log-level=warn \
    --listen-client-urls "http://$ETCD" --advertise-client-urls "http://$ETCD" \
    --listen-peer-urls "http://$ETCD_PEER" --initial-advertise-peer-urls "http://$ETCD_PEER" --initial-cluster "$NODE=http://$ETCD_PEER"
  until_ok 20 "etcd" curl -fsS "http://$ETCD/health"
  until_ok 20 "containerd" ctr -a "$CONTAINERD" version
}

control_plane() {
  local pki=$run/pki
  start "$bin/kube-apiserver" --etcd-servers="http://$ETCD" --bind-address="$NODE_IP" --advertise-address="$NODE_IP" --secure-port=6443 \
    --service-cluster-ip-range="$SERVICE_CIDR" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
    --kubelet-preferred-address-types=InternalIP --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/service-account.pub" --service-account-signing-key-file="$pki/service-account.key" --profiling=false
  until_ok 90 "the API server" kubectl get --raw /readyz
  local common=(--bind-address=127.0.0.1 --leader-elect=false --profiling=false)
  start "$bin/kube-controller-manager" "${common[@]}" --kubeconfig="$run/controller-manager.kubeconfig" --use-service-account-credentials=true \
    --authentication-kubeconfig="$run/controller-manager.kubeconfig" --authorization-kubeconfig="$run/controller-manager.kubeconfig" \
    --root-ca-file="$pki/ca.crt" --service-account-private-key-file="$pki/service-account.key" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --endpointslice-updates-batch-period=0s --endpoint-updates-batch-period=0s
  start "$bin/kube-scheduler" "${common[@]}" --kubeconfig="$run/scheduler.kubeconfig" \
    --authentication-kubeconfig="$run/scheduler.kubeconfig" --authorization-kubeconfig="$run/scheduler.kubeconfig"
}

kubelet_and_proxy() {
  local hierarchy
  for hierarchy in "${hierarchies[@]}"; do mkdir -p "$hierarchy/$CGROUP"; done
  start_in_node "$bin/kubelet" --config="$run/kubelet.yaml" --kubeconfig="$run/kubelet.kubeconfig" --root-dir="$run/kubelet" \
    --cert-dir="$run/kubelet/pki" --hostname-override="$NODE" --node-ip="$NODE_IP"
  start "$bin/kube-proxy" --config="$run/kube-proxy.yaml"
  until_ok 60 "the node's registration" kubectl get node "$NODE"
  kubectl wait --for=condition=Ready "node/$NODE" --timeout=90s
}
