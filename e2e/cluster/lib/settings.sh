# Where things are, and which addresses they have. The versions are in modules/go.mod and tools/ko/go.mod, nowhere else.
# shellcheck shell=bash disable=SC2034 # who sources it uses them

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
here=$root/e2e/cluster
# shellcheck source=e2e/cluster/env.sh
. "$here/env.sh"

modules=$here/modules      # what is built from Go modules, all of one version each: what two of them link is compiled once
source=$CLUSTER_DIR/source # its copy, in which it is built: kept
bin=$CLUSTER_DIR/bin       # built programs: kept
images=$CLUSTER_DIR/images # the registry's data, and manifests with digests: kept
logs=$CLUSTER_DIR/logs     # of the last start: kept
run=$CLUSTER_DIR/run       # all that a running cluster knows: it does not outlive a stop

# Not exported to tests: they ask the cluster. envsubst takes these into config/*.
export RUN=$run IMAGES=$images LOGS=$logs
export NODE=node1
export POD_CIDR=10.88.0.0/16 SERVICE_CIDR=10.96.0.0/16
export API_SERVICE_IP=10.96.0.1 DNS_IP=10.96.0.10
export ETCD=127.0.0.1:12379 ETCD_PEER=127.0.0.1:12380
export CONTAINERD=$run/containerd.sock
export CGROUP=warble-cluster # and the name of the nftables table

export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
