# One password for each login: the owner's, and two for each group of functions, which uses one at a time. The vault has them
# first; the server, and later the cluster, read them there. A new edition is a new password of the login that is not in use,
# and puts it in use: what still has the old one can connect for as long as it runs.
locals {
  owner    = "warble_owner_login"
  database = "warble"
  logins   = ["auth", "api", "mail", "ops"]

  editions = { for login in local.logins : login => var.password_editions[login] }
  second   = { for login, edition in local.editions : login => edition % 2 == 0 }
  passwords = merge(
    { owner = var.password_editions.owner },
    { for login, edition in local.editions : login => floor((edition + 1) / 2) },
    { for login, edition in local.editions : "${login}-2" => floor(edition / 2) + 1 },
  )
}

module "password" {
  source   = "../modules/secret"
  for_each = local.passwords

  name     = "warble-database-${each.key}"
  vault_id = local.cluster.vault.id
  edition  = each.value
  tags     = local.cluster.names.tags
}

ephemeral "azurerm_key_vault_secret" "owner" {
  count = var.reads_secrets ? 1 : 0

  name         = module.password["owner"].stored_name
  key_vault_id = local.cluster.vault.id
}
