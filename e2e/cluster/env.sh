# To be sourced, by any POSIX shell, to talk to the cluster that `make cluster` starts:
#
#   . e2e/cluster/env.sh && kubectl get ksvc -A
#
# It sets variables and prints nothing; the database's password is in one of them.
# shellcheck shell=sh

export CLUSTER_DIR="${CLUSTER_DIR:-$HOME/.cache/warble-cluster}"
export PATH="$CLUSTER_DIR/bin:$PATH"
export KUBECONFIG="$CLUSTER_DIR/run/admin.kubeconfig"

# The ingress, on loopback: a Knative Service answers at http://NAME.NAMESPACE.$CLUSTER_DOMAIN:8081/. curl and browsers
# take every name below localhost for loopback; others send its host as the Host header to $INGRESS_ADDRESS.
export INGRESS_ADDRESS=127.0.0.1:8081
export CLUSTER_DOMAIN=kn.localhost

# What ko builds on and pushes to. The registry is on loopback, which needs no flag: ko speaks plain HTTP to it.
export REGISTRY=127.0.0.1:5000
export KO_DOCKER_REPO="$REGISTRY/warble"
export KO_DEFAULTBASEIMAGE="$REGISTRY/base:latest"
case $(uname -m) in # one platform: this machine's
  aarch64) export KO_DEFAULTPLATFORMS=linux/arm64 ;;
  *) export KO_DEFAULTPLATFORMS=linux/amd64 ;;
esac

# PostgreSQL, where pods reach it too, as the owner of the database, who may create roles and is no superuser.
export NODE_IP=10.89.0.1
if [ -r "$CLUSTER_DIR/run/database.url" ]; then
  DATABASE_DIRECT_URL=$(cat "$CLUSTER_DIR/run/database.url")
  export DATABASE_DIRECT_URL
fi
