# Terraform cannot mock ephemeral blocks. So azurerm is not mocked: go test provides the recorded provider, which has no secrets. A plan
# that reads a secret fails here, as a first plan does on Azure.

variables {
  state_account = "warblestate"
  administrator = { object_id = "00000000-0000-0000-0000-000000000001", name = "administrators" }
}

override_data {
  target = data.terraform_remote_state.cluster
  values = {
    outputs = {
      subscription_id = "00000000-0000-0000-0000-000000000000"
      resource_group  = { name = "warble-production", location = "westeurope" }
      names           = { base = "warble-production", database = "warble-production-abcdef", tags = {} }
      network = {
        id                 = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/providers/Microsoft.Network/virtualNetworks/warble-production"
        database_subnet_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/providers/Microsoft.Network/virtualNetworks/warble-production/subnets/database"
        database_range     = "10.40.255.0/24"
      }
      vault = {
        id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/providers/Microsoft.KeyVault/vaults/warble-production"
        uri = "https://warble-production.vault.azure.net/"
      }
    }
  }
}

override_data {
  target = data.azurerm_client_config.this
  values = { tenant_id = "00000000-0000-0000-0000-000000000002" }
}

run "one_server_with_a_standby" {
  command = plan

  assert {
    condition     = !azurerm_postgresql_flexible_server.this.public_network_access_enabled && azurerm_postgresql_flexible_server.this.administrator_password == null
    error_message = "the server is public, or its password in the plan"
  }
  assert {
    condition     = azurerm_postgresql_flexible_server.this.high_availability[0].mode == "ZoneRedundant" && length(azurerm_postgresql_flexible_server.this.cluster) == 0
    error_message = "expected a standby in another zone, and no elastic cluster"
  }
  assert {
    condition     = output.database.pooler_port == 6432 && azurerm_postgresql_flexible_server_database.this[0].name == "warble"
    error_message = "pooler at ${output.database.pooler_port}"
  }
  assert {
    condition     = azurerm_postgresql_flexible_server_configuration.this["pgbouncer.max_client_conn"].value == "1150"
    error_message = "max_client_conn is ${azurerm_postgresql_flexible_server_configuration.this["pgbouncer.max_client_conn"].value}"
  }
  assert {
    condition     = azurerm_postgresql_flexible_server.this.maintenance_window[0].day_of_week == 2 && azurerm_postgresql_flexible_server.this.maintenance_window[0].start_hour == 2
    error_message = "Azure may restart the server by day"
  }
  assert {
    condition     = azurerm_postgresql_flexible_server.this.auto_grow_enabled && azurerm_postgresql_flexible_server.this.storage_mb == 65536
    error_message = "the disk would fill up"
  }
  assert {
    condition     = azurerm_postgresql_flexible_server_configuration.pgbouncer.value == "true" && !contains(keys(azurerm_postgresql_flexible_server_configuration.this), "pgbouncer.enabled")
    error_message = "PgBouncer is off, or is switched on together with its own parameters"
  }
  assert {
    condition     = azurerm_management_lock.this.lock_level == "CanNotDelete"
    error_message = "lock ${azurerm_management_lock.this.lock_level}"
  }
}

run "a_second_edition_is_the_other_login" {
  command = plan
  variables {
    password_editions = { api = 2 }
  }

  assert {
    condition     = output.database.logins == { auth = { name = "warble_auth_login", second = false }, api = { name = "warble_api_login_2", second = true }, mail = { name = "warble_mail_login", second = false }, ops = { name = "warble_ops_login", second = false } }
    error_message = "logins ${jsonencode(output.database.logins)}"
  }
  assert {
    condition     = local.passwords == { owner = 1, auth = 1, auth-2 = 1, api = 1, api-2 = 2, mail = 1, mail-2 = 1, ops = 1, ops-2 = 1 }
    error_message = "passwords ${jsonencode(local.passwords)}: expected a new password only for api's second login"
  }
}

run "azure_alerts_about_the_server" {
  command = plan
  variables {
    alert_emails = ["operations@example.org"]
  }

  assert {
    condition     = toset(keys(azurerm_monitor_metric_alert.this)) == toset(["cpu", "storage", "connections", "liveness"])
    error_message = "alerts ${jsonencode(keys(azurerm_monitor_metric_alert.this))}"
  }
  assert {
    condition     = azurerm_monitor_metric_alert.this["connections"].criteria[0].threshold == 687
    error_message = "threshold ${azurerm_monitor_metric_alert.this["connections"].criteria[0].threshold}: expected four fifths of 859"
  }
}

run "a_restored_server" {
  command = plan
  variables {
    server_name = "warble-restored"
  }

  assert {
    condition     = azurerm_postgresql_flexible_server.this.name == "warble-restored"
    error_message = "the server is ${azurerm_postgresql_flexible_server.this.name}"
  }
}

run "an_elastic_cluster" {
  command = plan
  variables {
    elastic_cluster_nodes = 2
  }

  assert {
    condition     = azurerm_postgresql_flexible_server.this.cluster[0].size == 2 && !azurerm_postgresql_flexible_server.this.auto_grow_enabled
    error_message = "expected two nodes whose disks do not grow"
  }
  assert {
    condition     = output.database.pooler_port == 8432 && length(azurerm_postgresql_flexible_server_database.this) == 0
    error_message = "pooler at ${output.database.pooler_port}"
  }
}

run "what_azure_does_not_take" {
  command = plan
  variables {
    state_account         = "Warble-State"
    elastic_cluster_nodes = 21
    storage               = 100
    backups               = { days = 3, elsewhere = false }
    administrator         = { object_id = "administrators", name = "administrators" }
    server_name           = "Warble"
    alert_emails          = ["operations"]
  }

  expect_failures = [var.state_account, var.elastic_cluster_nodes, var.storage, var.backups, var.administrator, var.server_name, var.alert_emails]
}

run "an_elastic_cluster_of_an_old_version" {
  command = plan
  variables {
    postgresql_version    = "16"
    elastic_cluster_nodes = 2
  }

  expect_failures = [var.postgresql_version]
}
