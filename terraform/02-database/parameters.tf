locals {
  parameters = {
    "pgbouncer.pool_mode"         = "transaction"
    "pgbouncer.default_pool_size" = tostring(module.sizing.pool)
    "pgbouncer.max_client_conn"   = tostring(module.sizing.clients)
    # pgx describes statements once and uses them again under a name, which a pooler has to know.
    "pgbouncer.max_prepared_statements" = "200"
    # A pool that has been idle for long holds no connections.
    "pgbouncer.server_idle_timeout" = "60"

    "idle_in_transaction_session_timeout" = "10000" # ms; nothing here thinks for so long with a transaction open
    "log_lock_waits"                      = "on"
    "log_min_duration_statement"          = "1000" # ms
    "track_io_timing"                     = "on"
  }
}

# PgBouncer's other parameters are unknown to the server until it is on.
resource "azurerm_postgresql_flexible_server_configuration" "pgbouncer" {
  server_id = azurerm_postgresql_flexible_server.this.id
  name      = "pgbouncer.enabled"
  value     = "true"
}

# One at a time would be kinder to the server, but Azure sees to that: it refuses a change while another is under way, and
# the provider waits.
resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = local.parameters

  server_id = azurerm_postgresql_flexible_server.this.id
  name      = each.key
  value     = each.value

  depends_on = [azurerm_postgresql_flexible_server_configuration.pgbouncer]
}
