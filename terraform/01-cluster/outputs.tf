output "subscription_id" {
  description = "Id of the Azure subscription of this stack."
  value       = var.subscription_id
}

output "tenant_id" {
  description = "Id of the Entra tenant, to which people sign in."
  value       = azurerm_key_vault.this.tenant_id
}

output "resource_group" {
  description = "Resource group of everything."
  value       = local.group
}

output "names" {
  description = "Names of modules/naming, for the next stacks."
  value       = { base = module.names.base, database = module.names.database, tags = module.names.tags }
}

output "network" {
  description = "The virtual network, and the database's subnet in it."
  value       = { id = azurerm_virtual_network.this.id, database_subnet_id = azurerm_subnet.database.id, database_range = module.addresses.database }

  depends_on = [azurerm_subnet_network_security_group_association.database]
}

output "cluster" {
  description = "Connection to Kubernetes."
  value = {
    name = azurerm_kubernetes_cluster.this.name
    host = azurerm_kubernetes_cluster.this.kube_config[0].host
    ca   = azurerm_kubernetes_cluster.this.kube_config[0].cluster_ca_certificate
  }
  sensitive = true
}

output "vault" {
  description = "The Key Vault."
  value       = { id = azurerm_key_vault.this.id, uri = azurerm_key_vault.this.vault_uri }

  depends_on = [azurerm_role_assignment.vault]
}

output "secrets_client_id" {
  description = "Client id of the identity of External Secrets."
  value       = module.secrets_reader.client_id
}

output "oidc_issuer" {
  description = "Issuer of the tokens of the cluster's accounts, which workload identities trust."
  value       = azurerm_kubernetes_cluster.this.oidc_issuer_url
}

output "ingress" {
  description = "The public address of the ingress, and the gateway's own pool of nodes, if it has one. If it has one, all other nodes reach the internet through a firewall."
  value       = { name = azurerm_public_ip.ingress.name, address = azurerm_public_ip.ingress.ip_address, pool = var.firewall == null ? null : azurerm_kubernetes_cluster_node_pool.this["gateways"].name }
}

output "github_client_ids" {
  description = "Client id with which the workflows log in: the variable AZURE_CLIENT_ID of GitHub's environments."
  value       = { for name, identity in module.github : name => identity.client_id }
}

output "environment" {
  description = "The environment of `make kubeconfig` and `make deploy`, for eval in a shell."
  value       = <<-EOT
    export AZURE_RESOURCE_GROUP=${azurerm_resource_group.this.name}
    export AZURE_CLUSTER=${azurerm_kubernetes_cluster.this.name}
    export AZURE_REGISTRY=${azurerm_container_registry.this.name}
    export KO_DOCKER_REPO=${azurerm_container_registry.this.login_server}/${var.project}
  EOT

  depends_on = [azurerm_role_assignment.pull]
}
