locals {
  parameters = {
    "pgbouncer.pool_mode"         = "transaction"
    "pgbouncer.default_pool_size" = tostring(module.sizing.pool)
    "pgbouncer.max_client_conn"   = tostring(module.sizing.clients)
    # pgx prepares a statement once, and then uses it by its name. PgBouncer must keep track of these names.
    "pgbouncer.max_prepared_statements" = "200"
    # PgBouncer closes a connection to the server that has been idle for this many seconds.
    "pgbouncer.server_idle_timeout" = "60"

    "idle_in_transaction_session_timeout" = "10000" # ms; no function leaves a transaction idle for so long
    "log_lock_waits"                      = "on"
    "log_min_duration_statement"          = "1000" # ms
    "track_io_timing"                     = "on"
  }
}

# The server does not know PgBouncer's other parameters until PgBouncer is switched on.
resource "azurerm_postgresql_flexible_server_configuration" "pgbouncer" {
  server_id = azurerm_postgresql_flexible_server.this.id
  name      = "pgbouncer.enabled"
  value     = "true"
}

# Terraform changes these in parallel, but they take effect one after the other: Azure refuses a change while another is under way, and
# the provider waits.
resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = local.parameters

  server_id = azurerm_postgresql_flexible_server.this.id
  name      = each.key
  value     = each.value

  depends_on = [azurerm_postgresql_flexible_server_configuration.pgbouncer]
}
