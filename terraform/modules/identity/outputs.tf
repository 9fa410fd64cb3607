output "client_id" {
  description = "Which a workload names itself by."
  value       = azurerm_user_assigned_identity.this.client_id

  depends_on = [azurerm_role_assignment.this, azurerm_federated_identity_credential.this]
}
