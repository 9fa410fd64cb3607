#!/usr/bin/env bash
# Start Kubernetes in Docker, similar to AKS: the same minor version, Knative by the same operator, and the charts knative and warble of
# terraform/03-application, with Kourier and the network policies. PostgreSQL is in the cluster, too. Things that need Azure are left out: see
# kind-knative.yaml and kind-warble.yaml. Use it instead of up.sh on a laptop with Docker, and on GitHub.
# It downloads images. `kind delete cluster --name warble` deletes the cluster.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
# shellcheck source=e2e/cluster/kind.env
. "$here/kind.env"
knative=v1.23.0
node=kindest/node:v1.35.0@sha256:452d707d4862f52530247495d180205e029056831160e22870e37e3f6c1ac31f

kind get clusters | grep -qx "$KIND_CLUSTER_NAME" || kind create cluster --name "$KIND_CLUSTER_NAME" --image "$node" --kubeconfig "$KUBECONFIG" --config - <<CONFIG
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
      - {containerPort: 31080, hostPort: 8081, listenAddress: 127.0.0.1}
      - {containerPort: 31432, hostPort: 15432, listenAddress: 127.0.0.1}
CONFIG

chart() { # NAME NAMESPACE: applies a chart as a release would, but does not delete objects that an older chart had
  go -C tools/helm run . -namespace "$2" "$PWD/terraform/03-application/charts/$1" <"$here/kind-$1.yaml" | kubectl apply --server-side --force-conflicts --namespace "$2" -f -
}
namespace() { kubectl create namespace "$1" --dry-run=client -o yaml | kubectl apply --server-side -f -; }

namespace knative-operator
kubectl apply --server-side --namespace knative-operator -f "https://github.com/knative/operator/releases/download/knative-$knative/operator.yaml"
kubectl wait --for=condition=Established --all crd --timeout=60s >/dev/null # the API server needs a moment until it serves them
kubectl --namespace knative-operator wait --for=condition=Available --all deployment --timeout=5m

namespace knative
chart knative knative
kubectl --namespace knative wait --for=condition=Complete job/knative-ready --timeout=15m

kubectl apply -f "$here/kind-postgres.yaml"
kubectl apply --server-side -f knative/100-namespace.yaml
chart warble warble
kubectl --namespace postgres wait --for=condition=Available --all deployment --timeout=5m
echo "The cluster is up. To use it: . e2e/cluster/kind.env; services are NAME.NAMESPACE.kn.localhost at $WARBLE_URL"
