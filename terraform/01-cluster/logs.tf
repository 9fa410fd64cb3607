resource "azurerm_log_analytics_workspace" "this" {
  count = var.log_analytics ? 1 : 0

  name                = module.names.base
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = 30
  daily_quota_gb      = 2
  tags                = module.names.tags
}

resource "azurerm_monitor_diagnostic_setting" "audit" {
  count = var.log_analytics ? 1 : 0

  name                       = "audit"
  target_resource_id         = azurerm_kubernetes_cluster.this.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this[0].id

  enabled_log {
    category = "kube-audit-admin"
  }
}
