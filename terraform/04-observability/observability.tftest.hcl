mock_provider "azurerm" {} # random is the real one: Terraform mocks no ephemeral blocks, and it needs no account
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
  values = { outputs = { secret_store = "vault" } }
}

run "every_file_is_brought_in" {
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
    error_message = "the alerts lead to no page"
  }
  assert {
    condition     = length(helm_release.datadog) == 0 && !strcontains(helm_release.secrets.values[0], "datadog")
    error_message = "there is an agent of Datadog's"
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
}

run "what_is_no_site" {
  command = plan
  variables {
    state_account = "S"
    repository    = "github.com/OWNER/REPO"
    datadog       = { site = "datadog", environment = "staging" }

    grafana_password_edition = 0
  }

  expect_failures = [var.state_account, var.repository, var.datadog, var.grafana_password_edition]
}
