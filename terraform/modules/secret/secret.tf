# A password that is made anew at each run, and kept only when its edition changes. It is in the vault and nowhere else: not
# in the state, and not in a plan. It stands in URLs and behind `psql`, so it has letters and digits only, 190 bits of them.
ephemeral "random_password" "this" {
  length      = 32
  special     = false
  min_lower   = 1
  min_upper   = 1
  min_numeric = 1
}

resource "azurerm_key_vault_secret" "this" {
  name             = var.name
  key_vault_id     = var.vault_id
  value_wo         = ephemeral.random_password.this.result
  value_wo_version = var.edition
  content_type     = "password"
  tags             = var.tags
}
