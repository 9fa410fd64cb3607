output "name" {
  description = "Name of the secret, after the secret was made."
  value       = azurerm_key_vault_secret.this.name
}

output "stored_name" {
  description = "The same name, but unknown until the secret exists. So an ephemeral block that reads the secret waits for it, and does not read it during a plan."
  value       = reverse(split("/", azurerm_key_vault_secret.this.versionless_id))[0]
}
