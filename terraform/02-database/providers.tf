provider "azurerm" {
  subscription_id = local.cluster.subscription_id

  features {
    key_vault {
      purge_soft_delete_on_destroy          = false
      purge_soft_deleted_secrets_on_destroy = false
      recover_soft_deleted_secrets          = true
    }
    postgresql_flexible_server {
      restart_server_on_configuration_value_change = true # without it, parameters such as max_connections would never take effect; PgBouncer's need no restart
    }
  }
}
