# What is drawn, recorded and alerted on is files, which are tested without a cluster: a Grafana dashboard each in
# dashboards/, Prometheus' rules in rules/, and which pods are asked in podmonitor.yaml.
locals {
  dashboards = fileset("${path.module}/dashboards", "*.json")
}

resource "kubernetes_config_map_v1" "dashboard" {
  for_each = local.dashboards

  metadata {
    name      = "dashboard-${trimsuffix(each.value, ".json")}"
    namespace = kubernetes_namespace_v1.this.metadata[0].name
    labels    = { grafana_dashboard = "1" }
  }

  data = { (each.value) = file("${path.module}/dashboards/${each.value}") }
}

module "rules" {
  source = "../modules/rules"

  folder     = "${path.module}/rules"
  repository = var.repository
}

resource "helm_release" "prometheus" {
  name       = "prometheus"
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  repository = "https://prometheus-community.github.io/helm-charts"
  chart      = "kube-prometheus-stack"
  version    = "88.4.0"
  timeout    = 900

  values = [
    file("${path.module}/prometheus-values.yaml"),
    yamlencode({
      additionalPrometheusRulesMap = module.rules.files
      extraManifests               = [yamldecode(file("${path.module}/podmonitor.yaml"))]
      grafana                      = { admin = { existingSecret = "grafana-admin", userKey = "admin-user", passwordKey = "admin-password" } }
    }),
  ]

  depends_on = [helm_release.secrets]
}
