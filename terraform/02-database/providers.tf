provider "azurerm" {
  subscription_id = local.cluster.subscription_id

  features {
    key_vault {
      purge_soft_delete_on_destroy          = false
      purge_soft_deleted_secrets_on_destroy = false
      recover_soft_deleted_secrets          = true
    }
    postgresql_flexible_server {
      restart_server_on_configuration_value_change = true # PgBouncer's parameters need none; max_connections and the like would never come otherwise
    }
  }
}
