mock_provider "azurerm" {}
mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  state_account = "warblestate"
  repository    = "https://github.com/OWNER/REPO"
}

override_data {
  target = data.terraform_remote_state.cluster
  values = {
    outputs = {
      subscription_id = "00000000-0000-0000-0000-000000000000"
      names           = { base = "warble-production", database = "warble-production-abcdef", tags = {} }
      cluster         = { name = "warble-production", host = "https://warble.example.org", ca = "" }
      vault           = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/providers/Microsoft.KeyVault/vaults/warble-production", uri = "https://warble-production.vault.azure.net/" }
    }
  }
}

override_data {
  target = data.terraform_remote_state.application
  values = { outputs = { secret_store = "vault", url = "https://edge.warble.example.org" } }
}

run "every_file_is_used" {
  command = plan

  assert {
    condition     = length(kubernetes_config_map_v1.dashboard) == length(fileset(path.module, "dashboards/*.json")) && length(kubernetes_config_map_v1.dashboard) > 0
    error_message = "${length(kubernetes_config_map_v1.dashboard)} dashboards"
  }
  assert {
    condition     = length(yamldecode(helm_release.prometheus.values[1]).additionalPrometheusRulesMap) == length(fileset(path.module, "rules/*.yaml"))
    error_message = "a file of rules is missing"
  }
  assert {
    condition     = strcontains(helm_release.prometheus.values[1], "https://github.com/OWNER/REPO/blob/HEAD/docs/runbooks/")
    error_message = "alerts have no link to a runbook"
  }
  assert {
    condition     = length(helm_release.datadog) == 0 && !strcontains(helm_release.secrets.values[0], "datadog")
    error_message = "Datadog's agent is installed"
  }
  assert {
    condition = alltrue([for name, map in kubernetes_config_map_v1.dashboard : alltrue([
      for panel in jsondecode(map.data[name]).panels : alltrue([for l in try(panel.links, []) : startswith(l.url, "https://github.com/OWNER/REPO/blob/HEAD/docs/runbooks/")])
    ])]) && length(flatten([for name, map in kubernetes_config_map_v1.dashboard : [for panel in jsondecode(map.data[name]).panels : try(panel.links, [])]])) > 10
    error_message = "a panel's link leads nowhere"
  }
  assert {
    condition     = [for l in jsondecode(kubernetes_config_map_v1.dashboard["overview.json"].data["overview.json"]).links : l.title] == ["Warble", "Runbooks"]
    error_message = "there are links to traces, which nobody keeps"
  }
}

run "links_that_lead_nowhere_are_left_out" {
  command = plan
  variables {
    repository = null
  }

  assert {
    condition     = !anytrue([for name, map in kubernetes_config_map_v1.dashboard : strcontains(map.data[name], "docs/runbooks")])
    error_message = "a dashboard leads to a runbook that is nowhere on the web"
  }
  assert {
    condition     = !strcontains(helm_release.prometheus.values[1], "exemplarTraceIdDestinations")
    error_message = "exemplars lead to traces, which nobody keeps"
  }
}

run "without_receivers_alerts_go_nowhere" {
  command = plan

  assert {
    condition     = yamldecode(helm_release.prometheus.values[1]).alertmanager.config.receivers == [{ name = "nobody" }]
    error_message = "receivers ${jsonencode(yamldecode(helm_release.prometheus.values[1]).alertmanager.config.receivers)}"
  }
  assert {
    condition     = one([for m in yamldecode(helm_release.prometheus.values[1]).extraManifests : m.spec.targets.staticConfig.static[0] if m.kind == "Probe"]) == "https://edge.warble.example.org/docs"
    error_message = "nobody asks the public URL"
  }
}

run "alerts_reach_somebody" {
  command = plan
  variables {
    alerts = { page = "pagerduty", ticket = "slack", heartbeat = "webhook" }
  }

  assert {
    condition     = yamldecode(helm_release.prometheus.values[1]).alertmanager.config.route.receiver == "ticket" && [for r in yamldecode(helm_release.prometheus.values[1]).alertmanager.config.route.routes : r.receiver] == ["heartbeat", "nobody", "page"]
    error_message = "routes ${jsonencode(yamldecode(helm_release.prometheus.values[1]).alertmanager.config.route)}"
  }
  assert {
    condition     = yamldecode(helm_release.prometheus.values[1]).alertmanager.alertmanagerSpec.secrets == ["alert-heartbeat", "alert-page", "alert-ticket"] && strcontains(helm_release.secrets.values[0], "alert-page")
    error_message = "Alertmanager does not get the keys"
  }
  # The operator mounts each Secret of that list into a folder of its name, and charts/secrets makes them.
  assert {
    condition = alltrue([for r in yamldecode(helm_release.prometheus.values[1]).alertmanager.config.receivers :
      anytrue([for config in flatten([for kind, configs in r : configs if kind != "name"]) : anytrue([for field, file in config :
      file == "/etc/alertmanager/secrets/alert-${r.name}/${yamldecode(helm_release.secrets.values[0]).secrets["alert-${r.name}"].key}" if endswith(field, "_file")])])
    if r.name != "nobody"])
    error_message = "a receiver's file is not where its Secret is mounted: ${jsonencode(yamldecode(helm_release.prometheus.values[1]).alertmanager.config.receivers)}"
  }
}

run "datadog" {
  command = plan
  variables {
    datadog = { site = "datadoghq.eu", environment = "staging" }
  }

  assert {
    condition     = yamldecode(helm_release.datadog[0].values[1]).datadog.site == "datadoghq.eu" && strcontains(helm_release.secrets.values[0], "datadog-api-key")
    error_message = "the agent has another site, or no key"
  }
  assert {
    condition     = yamldecode(helm_release.prometheus.values[1]).grafana.additionalDataSources[0].jsonData.exemplarTraceIdDestinations[0].url == format("https://app.datadoghq.eu/apm/trace/$%s", "$${__value.raw}")
    error_message = "exemplars lead to ${yamldecode(helm_release.prometheus.values[1]).grafana.additionalDataSources[0].jsonData.exemplarTraceIdDestinations[0].url}"
  }
  assert {
    condition     = [for l in jsondecode(kubernetes_config_map_v1.dashboard["overview.json"].data["overview.json"]).links : l.url if l.title == "Traces"] == ["https://app.datadoghq.eu/apm/traces"]
    error_message = "no link leads to the traces"
  }
}

run "an_invalid_site" {
  command = plan
  variables {
    state_account = "S"
    repository    = "github.com/OWNER/REPO"
    datadog       = { site = "datadog", environment = "staging" }
    alerts        = { page = "email" }

    grafana_password_edition = 0
  }

  expect_failures = [var.state_account, var.repository, var.datadog, var.alerts, var.grafana_password_edition]
}
