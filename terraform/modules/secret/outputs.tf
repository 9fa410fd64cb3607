output "name" {
  description = "Of the secret, once it is there."
  value       = azurerm_key_vault_secret.this.name
}

output "stored_name" {
  description = "The same, but unknown until the secret is there: an ephemeral block that reads it waits, and does not ask for it while planning."
  value       = reverse(split("/", azurerm_key_vault_secret.this.versionless_id))[0]
}
