# Each run draws a new password, but the vault stores it only when the edition changes. The password is only in the vault: neither in the
# state nor in a plan. It is used in URLs and in arguments of `psql`, so it consists of letters and digits only. It has 190 bits.
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
