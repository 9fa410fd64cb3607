#!/usr/bin/env bash
# Kubernetes in Docker, with Knative Serving and Eventing, Kourier and PostgreSQL: what a laptop with Docker, or GitHub, has in the
# place of up.sh, and Kourier, which AKS has too. kind delete cluster --name warble takes it away. It downloads images.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=e2e/cluster/kind.env
. "$here/kind.env"
knative=v1.23.0

kind get clusters | grep -qx "$KIND_CLUSTER_NAME" || kind create cluster --name "$KIND_CLUSTER_NAME" --kubeconfig "$KUBECONFIG" --config - <<CONFIG
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
      - {containerPort: 31080, hostPort: 8081, listenAddress: 127.0.0.1}
      - {containerPort: 31432, hostPort: 15432, listenAddress: 127.0.0.1}
CONFIG

# CRDs first, and then all of it: the API server needs a moment to know them.
release() { kubectl apply --server-side -f "https://github.com/$1/releases/download/knative-$knative/$2"; }
release knative/serving serving-crds.yaml
release knative/eventing eventing-crds.yaml
kubectl wait --for=condition=Established --all crd --timeout=60s >/dev/null
release knative/serving serving-core.yaml
release knative-extensions/net-kourier kourier.yaml
release knative/eventing eventing-core.yaml
release knative/eventing in-memory-channel.yaml
release knative/eventing mt-channel-broker.yaml
kubectl -n knative-serving patch configmap config-network --type merge -p '{"data":{"ingress-class":"kourier.ingress.networking.knative.dev"}}'
kubectl -n knative-serving patch configmap config-domain --type merge -p '{"data":{"kn.localhost":""}}'
kubectl -n knative-serving patch configmap config-autoscaler --type merge -p '{"data":{"stable-window":"20s","scale-to-zero-grace-period":"10s"}}'
kubectl -n kourier-system patch service kourier --type merge \
  -p '{"spec":{"type":"NodePort","ports":[{"name":"http2","port":80,"targetPort":8080,"nodePort":31080}]}}'

kubectl apply -f "$here/kind-postgres.yaml"
for namespace in knative-serving kourier-system knative-eventing postgres; do
  kubectl -n "$namespace" wait --for=condition=Available --all deployment --timeout=5m
done
echo "up. To use it: . e2e/cluster/kind.env; services are NAME.NAMESPACE.kn.localhost at $WARBLE_URL"
