resource "helm_release" "datadog" {
  count = var.datadog == null ? 0 : 1

  name       = "datadog"
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  repository = "https://helm.datadoghq.com"
  chart      = "datadog"
  version    = "3.240.0"

  values = [
    file("${path.module}/datadog-values.yaml"),
    yamlencode({
      datadog = {
        site                 = var.datadog.site
        clusterName          = local.cluster.names.base
        apiKeyExistingSecret = "datadog"
        tags                 = ["env:${var.datadog.environment}"]
      }
    }),
  ]

  depends_on = [helm_release.secrets]
}
