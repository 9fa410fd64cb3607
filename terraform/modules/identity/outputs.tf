output "client_id" {
  description = "Client id with which a workload names the identity."
  value       = azurerm_user_assigned_identity.this.client_id

  depends_on = [azurerm_role_assignment.this, azurerm_federated_identity_credential.this]
}
