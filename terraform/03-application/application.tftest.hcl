mock_provider "azurerm" {}
mock_provider "helm" {}
mock_provider "kubernetes" {}

variables {
  state_account = "warblestate"
}

override_data {
  target = data.terraform_remote_state.cluster
  values = {
    outputs = {
      subscription_id   = "00000000-0000-0000-0000-000000000000"
      tenant_id         = "00000000-0000-0000-0000-000000000002"
      resource_group    = { name = "warble-production", location = "westeurope" }
      cluster           = { name = "warble-production", host = "https://warble.example.org", ca = "" }
      vault             = { id = "/subscriptions/s", uri = "https://warble-production.vault.azure.net/" }
      secrets_client_id = "00000000-0000-0000-0000-000000000003"
      ingress           = { name = "warble-production-ingress", address = "192.0.2.1" }
    }
  }
}

override_data {
  target = data.terraform_remote_state.database
  values = {
    outputs = {
      database = {
        host    = "db.example.org", port = 5432, pooler_port = 6432, name = "warble", owner = "warble_owner_login", range = "10.40.255.0/24"
        logins  = { auth = "warble_auth_login", api = "warble_api_login", ops = "warble_ops_login" }
        secrets = { owner = "warble-database-owner", auth = "warble-database-auth", api = "warble-database-api", ops = "warble-database-ops" }
      }
    }
  }
}

run "without_a_domain" {
  command = plan

  assert {
    condition     = output.url == "http://edge.warble.192.0.2.1.sslip.io" && length(azurerm_dns_a_record.edge) == 0
    error_message = "url ${output.url}"
  }
  assert {
    condition     = yamldecode(helm_release.warble.values[0]).database.pooler_port == 6432
    error_message = "the chart does not get the database"
  }
}

run "with_a_domain" {
  command = plan
  variables {
    dns_zone          = { name = "example.org", resource_group = "dns" }
    certificate_email = "operations@example.org"
  }

  assert {
    condition     = output.url == "https://edge.warble.example.org" && azurerm_dns_a_record.edge[0].records == toset(["192.0.2.1"])
    error_message = "url ${output.url}"
  }
  assert {
    condition     = yamldecode(helm_release.knative.values[0]).tls
    error_message = "Knative gets no certificates"
  }
}

run "what_does_not_fit_together" {
  command = plan
  variables {
    state_account           = "S"
    knative_version         = "1.23"
    dns_zone                = { name = "example.org", resource_group = "dns" }
    broker                  = "kafka"
    kafka_bootstrap_servers = []
  }

  expect_failures = [var.state_account, var.knative_version, var.certificate_email, var.kafka_bootstrap_servers]
}
