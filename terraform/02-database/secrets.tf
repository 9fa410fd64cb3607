# One password for each login: the owner's, and one for each group of functions. The vault has them first; the server, and
# later the cluster, read them there. So whatever fails half-way, there is one password and not two.
locals {
  owner    = "warble_owner_login"
  database = "warble"
  logins   = ["auth", "api", "ops"]
}

module "password" {
  source   = "../modules/secret"
  for_each = var.password_editions

  name     = "warble-database-${each.key}"
  vault_id = local.cluster.vault.id
  edition  = each.value
  tags     = local.cluster.names.tags
}

ephemeral "azurerm_key_vault_secret" "owner" {
  count = var.reads_secrets ? 1 : 0

  name         = module.password["owner"].name
  key_vault_id = local.cluster.vault.id
}
