output "database" {
  description = "Address of the database from within the network, and its logins. Passwords are in the vault, as warble-database-LOGIN."
  value = {
    host        = azurerm_postgresql_flexible_server.this.fqdn
    port        = 5432
    pooler_port = local.elastic ? 8432 : 6432 # an elastic cluster's port balances over its nodes
    name        = local.database
    owner       = local.owner
    logins      = { for login in local.logins : login => { name = "warble_${login}_login${local.second[login] ? "_2" : ""}", second = local.second[login] } }
    secrets     = { for login, password in module.password : login => password.name }
    range       = local.cluster.network.database_range
  }

  depends_on = [
    azurerm_postgresql_flexible_server_database.this,
    azurerm_postgresql_flexible_server_configuration.this,
  ]
}
