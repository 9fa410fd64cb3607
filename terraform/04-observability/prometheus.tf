# Dashboards, rules and scraped pods are described in files, so that tests need no cluster: dashboards/ has one Grafana dashboard per file,
# rules/ has Prometheus' rules, and podmonitor.yaml selects the pods that are scraped.
locals {
  dashboards = { for name in fileset("${path.module}/dashboards", "*.json") : name => jsondecode(file("${path.module}/dashboards/${name}")) }

  # The URLs for the links of dashboards. A link begins with docs (a page's path in the repository) or traces. Links without a URL are removed.
  links = {
    docs   = var.repository == null ? null : "${var.repository}/blob/HEAD/docs"
    traces = local.traces
  }
  traces = var.datadog == null ? null : "https://${length(split(".", var.datadog.site)) == 2 ? "app." : ""}${var.datadog.site}/apm/traces"

  drawn = { for name, d in local.dashboards : name => merge(d, {
    links = [for l in d.links : merge(l, { for key, url in l : key => replace(url, "/^(docs|traces)/", local.links[split("/", url)[0]]) if key == "url" })
    if try(local.links[split("/", l.url)[0]], "") != null]
    panels = [for p in d.panels : merge(p, { for key, links in p : key => [
      for l in links : merge(l, { url = replace(l.url, "/^docs/", local.links.docs) }) if local.links.docs != null
    ] if key == "links" })]
  }) }

  # The chart's own data source cannot link an exemplar to a trace outside Grafana, so this one replaces it.
  datasource = { for key, value in {
    sidecar = { datasources = { defaultDatasourceEnabled = false } }
    additionalDataSources = [{
      name      = "Prometheus"
      uid       = "prometheus"
      type      = "prometheus"
      url       = "http://prometheus-operated.${kubernetes_namespace_v1.this.metadata[0].name}:9090"
      access    = "proxy"
      isDefault = true
      jsonData = {
        httpMethod   = "POST"
        timeInterval = "30s"
        # Two dollar signs, because after a single one Grafana expects the name of an environment variable.
        exemplarTraceIdDestinations = [{ name = "trace_id", url = format("%s/$%s", trimsuffix(coalesce(local.traces, "-"), "s"), "$${__value.raw}"), urlDisplayLabel = "Trace" }]
      }
    }]
  } : key => value if local.traces != null }
}

resource "kubernetes_config_map_v1" "dashboard" {
  for_each = local.drawn

  metadata {
    name      = "dashboard-${trimsuffix(each.key, ".json")}"
    namespace = kubernetes_namespace_v1.this.metadata[0].name
    labels    = { grafana_dashboard = "1" }
  }

  data = { (each.key) = jsonencode(each.value) }
}

module "rules" {
  source = "../modules/rules"

  folder     = "${path.module}/rules"
  repository = var.repository
}

# Requests a page from the public URL, as people do.
resource "helm_release" "blackbox" {
  name       = "blackbox"
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  repository = "https://prometheus-community.github.io/helm-charts"
  chart      = "prometheus-blackbox-exporter"
  version    = "11.17.2"
}

resource "helm_release" "prometheus" {
  name       = "prometheus"
  namespace  = kubernetes_namespace_v1.this.metadata[0].name
  repository = "https://prometheus-community.github.io/helm-charts"
  chart      = "kube-prometheus-stack"
  version    = "88.5.3"
  timeout    = 900

  values = [
    file("${path.module}/prometheus-values.yaml"),
    yamlencode({
      additionalPrometheusRulesMap = module.rules.files
      alertmanager                 = { config = local.alertmanager, alertmanagerSpec = { secrets = local.alert_secrets } }
      extraManifests = [
        yamldecode(file("${path.module}/podmonitor.yaml")),
        yamldecode(file("${path.module}/podmonitor-external-secrets.yaml")),
        {
          apiVersion = "monitoring.coreos.com/v1"
          kind       = "Probe"
          metadata   = { name = "ingress", namespace = kubernetes_namespace_v1.this.metadata[0].name }
          spec = {
            jobName  = "ingress"
            interval = "30s"
            module   = "http_2xx"
            prober   = { url = "${helm_release.blackbox.name}-prometheus-blackbox-exporter:9115" }
            targets  = { staticConfig = { static = ["${data.terraform_remote_state.application.outputs.url}/docs"] } }
          }
        },
      ]
      grafana = merge({ admin = { existingSecret = "grafana-admin", userKey = "admin-user", passwordKey = "admin-password" } }, local.datasource)
    }),
  ]

  depends_on = [helm_release.secrets]
}
