# Folders and addresses. Versions are only in modules/go.mod and tools/ko/go.mod.
# shellcheck shell=bash disable=SC2034 # scripts that source this file use them

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
here=$root/e2e/cluster
# shellcheck source=e2e/cluster/env.sh
. "$here/env.sh"

modules=$here/modules      # programs from Go modules, with one version of each module, so that shared packages are compiled once
source=$CLUSTER_DIR/source # the copy of modules in which programs are built: kept
bin=$CLUSTER_DIR/bin       # built programs: kept
images=$CLUSTER_DIR/images # the registry's data, and manifests with digests: kept
logs=$CLUSTER_DIR/logs     # logs of the last start: kept
run=$CLUSTER_DIR/run       # the state of a running cluster: deleted by a stop

# Not exported to tests, which ask the cluster. envsubst writes these into config/*.
export RUN=$run IMAGES=$images LOGS=$logs
export NODE=node1
export POD_CIDR=10.88.0.0/16 SERVICE_CIDR=10.96.0.0/16
export API_SERVICE_IP=10.96.0.1 DNS_IP=10.96.0.10
export ETCD=127.0.0.1:12379 ETCD_PEER=127.0.0.1:12380
export CONTAINERD=$run/containerd.sock
export CGROUP=warble-cluster # and the name of the nftables table

export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
