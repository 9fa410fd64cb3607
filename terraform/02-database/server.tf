locals {
  elastic = var.elastic_cluster_nodes > 0
}

module "sizing" {
  source = "../modules/sizing"

  sku         = var.sku
  pods        = var.function_pods
  connections = var.function_connections
  logins      = length(local.logins)
}

data "azurerm_client_config" "this" {}

resource "azurerm_postgresql_flexible_server" "this" {
  name                = coalesce(var.server_name, local.cluster.names.database)
  resource_group_name = local.cluster.resource_group.name
  location            = local.cluster.resource_group.location
  tags                = local.cluster.names.tags

  version                       = var.postgresql_version
  sku_name                      = var.sku
  storage_mb                    = var.storage
  auto_grow_enabled             = !local.elastic
  backup_retention_days         = var.backups.days
  geo_redundant_backup_enabled  = var.backups.elsewhere
  delegated_subnet_id           = local.cluster.network.database_subnet_id
  private_dns_zone_id           = azurerm_private_dns_zone.this.id
  public_network_access_enabled = false

  administrator_login               = local.owner
  administrator_password_wo         = var.reads_secrets ? ephemeral.azurerm_key_vault_secret.owner[0].value : "not read"
  administrator_password_wo_version = var.password_editions.owner

  authentication {
    password_auth_enabled         = true # functions connect through PgBouncer, which does not accept tokens
    active_directory_auth_enabled = true
    tenant_id                     = data.azurerm_client_config.this.tenant_id
  }

  dynamic "high_availability" {
    for_each = var.standby ? ["ZoneRedundant"] : []

    content {
      mode = high_availability.value
    }
  }

  dynamic "cluster" {
    for_each = local.elastic ? [var.elastic_cluster_nodes] : []

    content {
      size                  = cluster.value
      default_database_name = local.database
    }
  }

  maintenance_window {
    day_of_week = 2
    start_hour  = 2
  }

  lifecycle {
    prevent_destroy = true
    # Azure chooses the zones, and exchanges them when the standby takes over. The disk is not ignored, although it grows by itself: a plan
    # with the old size would replace the server, so prevent_destroy stops it. Then set storage to the disk's new size.
    ignore_changes = [zone, high_availability[0].standby_availability_zone]
  }

  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]
}

resource "azurerm_postgresql_flexible_server_active_directory_administrator" "this" {
  server_name         = azurerm_postgresql_flexible_server.this.name
  resource_group_name = local.cluster.resource_group.name
  tenant_id           = data.azurerm_client_config.this.tenant_id
  object_id           = var.administrator.object_id
  principal_name      = var.administrator.name
  principal_type      = "Group"
}

# An elastic cluster comes with its only database.
resource "azurerm_postgresql_flexible_server_database" "this" {
  count = local.elastic ? 0 : 1

  name      = local.database
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"

  lifecycle {
    prevent_destroy = true
  }
}

# prevent_destroy restrains only Terraform, and only while the resource's block is in these files. This lock restrains everybody.
resource "azurerm_management_lock" "this" {
  name       = "data"
  scope      = azurerm_postgresql_flexible_server.this.id
  lock_level = "CanNotDelete"
  notes      = "The database of ${local.cluster.names.base}."
}
