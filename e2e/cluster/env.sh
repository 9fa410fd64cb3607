# Source this file in a POSIX shell to use the cluster of `make cluster`:
#
#   . e2e/cluster/env.sh && kubectl get ksvc -A
#
# It sets variables and prints nothing. One variable has the database's password.
# shellcheck shell=sh

export CLUSTER_DIR="${CLUSTER_DIR:-$HOME/.cache/warble-cluster}"
export PATH="$CLUSTER_DIR/bin:$PATH"
export KUBECONFIG="$CLUSTER_DIR/run/admin.kubeconfig"

# The ingress, on loopback: a Knative Service answers at http://NAME.NAMESPACE.$CLUSTER_DOMAIN:8081/. curl and browsers
# resolve every name below localhost to loopback. Other programs send the host as the Host header to $INGRESS_ADDRESS.
export INGRESS_ADDRESS=127.0.0.1:8081
export CLUSTER_DOMAIN=kn.localhost

# ko's base image and registry. ko uses plain HTTP for a registry on loopback, without a flag.
export REGISTRY=127.0.0.1:5000
export KO_DOCKER_REPO="$REGISTRY/warble"
export KO_DEFAULTBASEIMAGE="$REGISTRY/base:latest"
case $(uname -m) in # only this machine's platform
  aarch64) export KO_DEFAULTPLATFORMS=linux/arm64 ;;
  *) export KO_DEFAULTPLATFORMS=linux/amd64 ;;
esac

# PostgreSQL, at an address that pods also reach, as the owner of the database, who may create roles and is not a superuser.
export NODE_IP=10.89.0.1
if [ -r "$CLUSTER_DIR/run/database.url" ]; then
  DATABASE_DIRECT_URL=$(cat "$CLUSTER_DIR/run/database.url")
  export DATABASE_DIRECT_URL
fi
