resource "helm_release" "cert_manager" {
  name             = "cert-manager"
  namespace        = "cert-manager"
  create_namespace = true
  repository       = "https://charts.jetstack.io"
  chart            = "cert-manager"
  version          = "v1.21.2"
  atomic           = true

  values = [yamlencode({ crds = { enabled = true, keep = true } })]
}

resource "helm_release" "operator" {
  name             = "knative-operator"
  namespace        = "knative-operator"
  create_namespace = true
  repository       = "https://knative.github.io/operator"
  chart            = "knative-operator"
  version          = "v1.23.0"
  atomic           = true
}

# Custom resources go in as a chart of our own: kubernetes_manifest would ask the cluster for their kinds while planning,
# when the operators that bring the kinds are not there yet.
resource "helm_release" "knative" {
  name             = "knative"
  namespace        = "knative"
  create_namespace = true
  chart            = "${path.module}/charts/knative"
  timeout          = 900

  values = [yamlencode({
    version = var.knative_version
    domain  = local.domain
    tls     = var.dns_zone != null
    email   = var.certificate_email
    kafka   = var.kafka_bootstrap_servers
    ingress = {
      address       = local.cluster.ingress.address
      name          = local.cluster.ingress.name
      resourceGroup = local.cluster.resource_group.name
    }
  })]

  depends_on = [helm_release.operator, helm_release.cert_manager]
}
