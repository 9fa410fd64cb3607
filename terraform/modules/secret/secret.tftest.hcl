variables {
  name     = "warble-database-api"
  vault_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
  edition  = 2
  tags     = {}
}

run "the_edition_is_the_version" {
  command = plan

  assert {
    condition     = azurerm_key_vault_secret.this.value_wo_version == 2 && output.name == "warble-database-api"
    error_message = "version ${azurerm_key_vault_secret.this.value_wo_version} of ${output.name}"
  }
  assert {
    condition     = azurerm_key_vault_secret.this.value == null
    error_message = "the password is in the plan"
  }
}

run "an_invalid_name_and_edition" {
  command = plan
  variables {
    name    = "warble_database"
    edition = 0
  }

  expect_failures = [var.name, var.edition]
}
