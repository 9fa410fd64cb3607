output "name" {
  description = "Name of the secret, after the secret was made."
  value       = azurerm_key_vault_secret.this.name
}

output "stored_name" {
  description = "The same, but unknown until the secret exists, so that an ephemeral block that reads it waits, and does not read it during a plan."
  value       = reverse(split("/", azurerm_key_vault_secret.this.versionless_id))[0]
}
