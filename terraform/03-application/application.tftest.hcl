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
      names             = { base = "warble-production", tags = {} }
      oidc_issuer       = "https://issuer.example.org/"
      cluster           = { name = "warble-production", host = "https://warble.example.org", ca = "" }
      vault             = { id = "/subscriptions/s", uri = "https://warble-production.vault.azure.net/" }
      secrets_client_id = "00000000-0000-0000-0000-000000000003"
      ingress           = { name = "warble-production-ingress", address = "192.0.2.1", pool = null }
    }
  }
}

override_data {
  target = data.terraform_remote_state.database
  values = {
    outputs = {
      database = {
        host    = "db.example.org", port = 5432, pooler_port = 6432, name = "warble", owner = "warble_owner_login", range = "10.40.255.0/24"
        logins  = { for role in ["auth", "api", "mail", "ops"] : role => { name = "warble_${role}_login", second = false } }
        secrets = { for login in ["owner", "auth", "api", "mail", "ops", "auth-2", "api-2", "mail-2", "ops-2"] : login => "warble-database-${login}" }
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
  assert {
    condition     = yamldecode(helm_release.warble.values[0]).checksum != yamldecode(helm_release.knative.values[0]).checksum && length(yamldecode(helm_release.warble.values[0]).checksum) == 64
    error_message = "a change of a chart would not reach the cluster"
  }
  assert {
    condition     = yamldecode(helm_release.knative.values[0]).ingress.pool == "" && !yamldecode(helm_release.cert_manager.values[0]).dns01RecursiveNameserversOnly
    error_message = "the gateway waits for nodes that do not exist"
  }
  assert {
    condition     = !yamldecode(helm_release.knative.values[0]).tls && length(module.certificates) == 0
    error_message = "there is there is an identity for certificates, but no zone"
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
    condition     = strcontains(helm_release.knative.chart, "charts/knative") && length(module.certificates) == 1
    error_message = "Knative gets no certificates"
  }
}

run "behind_a_firewall" {
  command = plan

  override_data {
    target = data.terraform_remote_state.cluster
    values = {
      outputs = {
        subscription_id   = "00000000-0000-0000-0000-000000000000"
        tenant_id         = "00000000-0000-0000-0000-000000000002"
        resource_group    = { name = "warble-production", location = "westeurope" }
        names             = { base = "warble-production", tags = {} }
        oidc_issuer       = "https://issuer.example.org/"
        cluster           = { name = "warble-production", host = "https://warble.example.org", ca = "" }
        vault             = { id = "/subscriptions/s", uri = "https://warble-production.vault.azure.net/" }
        secrets_client_id = "00000000-0000-0000-0000-000000000003"
        ingress           = { name = "warble-production-ingress", address = "192.0.2.1", pool = "gateways" }
      }
    }
  }

  assert {
    condition     = yamldecode(helm_release.knative.values[0]).ingress.pool == "gateways"
    error_message = "the gateway is on nodes whose answers the firewall drops"
  }
  assert {
    condition     = yamldecode(helm_release.cert_manager.values[0]).dns01RecursiveNameserversOnly
    error_message = "cert-manager would wait for name servers that it cannot reach"
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

run "mail" {
  command = plan
  variables {
    mail = { from = "Warble <warble@example.org>" }
  }

  assert {
    condition     = yamldecode(helm_release.warble.values[0]).mail == { from = "Warble <warble@example.org>", port = 587, public_url = output.url }
    error_message = "mail ${jsonencode(yamldecode(helm_release.warble.values[0]).mail)}"
  }
}

run "mail_without_a_sender" {
  command = plan
  variables {
    mail = { from = "Warble" }
  }

  expect_failures = [var.mail]
}

run "event_hubs" {
  command = plan
  variables {
    broker                  = "kafka"
    kafka_bootstrap_servers = ["warble.servicebus.windows.net:9093"]
    kafka_sasl              = true
  }

  assert {
    condition     = yamldecode(helm_release.knative.values[0]).kafkaSasl && yamldecode(helm_release.warble.values[0]).kafkaSasl
    error_message = "the broker does not log in to Kafka"
  }
  assert {
    condition     = output.sink == "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/warble/events"
    error_message = "relay posts to ${output.sink}"
  }
}

run "a_login_without_kafka" {
  command = plan
  variables {
    kafka_sasl = true
  }

  expect_failures = [var.kafka_sasl]
}
