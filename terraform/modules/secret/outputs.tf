output "name" {
  description = "Of the secret, once it is there."
  value       = azurerm_key_vault_secret.this.name
}
