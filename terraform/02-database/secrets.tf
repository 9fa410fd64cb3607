# One password for each login. The owner has one login. Each group of functions has two, and uses one at a time. The passwords are stored
# in the vault first; the server, and later the cluster, read them from the vault. A new edition gives the unused login a new password and
# makes it the one in use. Pods that still use the other login can connect as long as they run.
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
