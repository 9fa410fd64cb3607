# The add-ons in the cluster: DNS, Knative, the ingress.
# shellcheck shell=bash

# addon NAME NAMESPACE: applies modules/NAME, once in the life of a cluster.
addon() { once "$run/applied/$1" "$images/$1.yaml" "$modules/$1"/*.yaml -- apply "$@"; }

apply() {
  local name=$1 namespace=$2 manifest=$images/$1.yaml
  if [ -f "$modules/$name/kustomization.yaml" ]; then
    manifest=$run/$name.yaml
    mkdir -p "$run/kustomize/$name"
    cp "$modules/$name/kustomization.yaml" "$images/$name.yaml" "$run/kustomize/$name/"
    kubectl kustomize "$run/kustomize/$name" >"$manifest"
    # Definitions first, because kubectl looks up every object's kind before it applies any object.
    awk 'BEGIN { RS = "\n---\n" } /\nkind: CustomResourceDefinition/ { print "---\n" $0 }' "$manifest" | kubectl apply -f -
    kubectl wait --for=condition=Established --timeout=60s crd -l knative.dev/crd-install=true
  fi
  kubectl apply -f "$manifest"
  echo "$namespace" >>"$run/namespaces"
}

# rolled_out waits for every deployment of the add-ons.
rolled_out() {
  local namespace
  sort -u "$run/namespaces" | while read -r namespace; do
    kubectl -n "$namespace" get deployments -o name | xargs -n 1 kubectl -n "$namespace" rollout status --timeout=180s
  done
}

# ready checks the ingress, which answers 404 for an unknown host, and Knative's webhooks, with a request that
# changes nothing.
ready() {
  rolled_out
  until_ok 60 "Serving's webhook" kubectl apply --dry-run=server -f "$here/hello.yaml"
  until_ok 60 "Eventing's webhook" kubectl apply --dry-run=server -f - <<'Y'
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: dry-run, namespace: default}
Y
  until_ok 60 "the ingress on $INGRESS_ADDRESS" curl -sS -o /dev/null "http://$INGRESS_ADDRESS/"
}
