# Alerts on Azure's metrics of the server. Azure sends them itself, without the cluster, because the cluster may be down too.
locals {
  alerts = {
    cpu         = { metric = "cpu_percent", aggregation = "Average", operator = "GreaterThan", threshold = 80, severity = 2, window = "PT15M" }
    storage     = { metric = "storage_percent", aggregation = "Maximum", operator = "GreaterThan", threshold = 80, severity = 2, window = "PT15M" }
    connections = { metric = "active_connections", aggregation = "Maximum", operator = "GreaterThan", threshold = floor(module.sizing.connections * 0.8), severity = 1, window = "PT5M" }
    liveness    = { metric = "is_db_alive", aggregation = "Maximum", operator = "LessThan", threshold = 1, severity = 0, window = "PT5M" }
  }
}

resource "azurerm_monitor_action_group" "this" {
  count = length(var.alert_emails) > 0 ? 1 : 0

  name                = "${local.cluster.names.base}-database"
  resource_group_name = local.cluster.resource_group.name
  short_name          = "database"
  tags                = local.cluster.names.tags

  dynamic "email_receiver" {
    for_each = var.alert_emails

    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
}

resource "azurerm_monitor_metric_alert" "this" {
  for_each = length(var.alert_emails) > 0 ? local.alerts : {}

  name                = "${local.cluster.names.base}-database-${each.key}"
  resource_group_name = local.cluster.resource_group.name
  scopes              = [azurerm_postgresql_flexible_server.this.id]
  severity            = each.value.severity
  frequency           = "PT1M"
  window_size         = each.value.window
  tags                = local.cluster.names.tags

  criteria {
    metric_namespace = "Microsoft.DBforPostgreSQL/flexibleServers"
    metric_name      = each.value.metric
    aggregation      = each.value.aggregation
    operator         = each.value.operator
    threshold        = each.value.threshold
  }

  action {
    action_group_id = azurerm_monitor_action_group.this[0].id
  }
}
