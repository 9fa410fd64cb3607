output "subscription_id" {
  description = "Of what is made here."
  value       = var.subscription_id
}

output "tenant_id" {
  description = "Of Entra, which everybody here logs in to."
  value       = azurerm_key_vault.this.tenant_id
}

output "resource_group" {
  description = "That everything is in."
  value       = local.group
}

output "names" {
  description = "Of modules/naming: what the next stacks call what they make."
  value       = { base = module.names.base, database = module.names.database, tags = module.names.tags }
}

output "network" {
  description = "The virtual network, and the database's subnet in it."
  value       = { id = azurerm_virtual_network.this.id, database_subnet_id = azurerm_subnet.database.id, database_range = module.addresses.database }

  depends_on = [azurerm_subnet_network_security_group_association.database]
}

output "cluster" {
  description = "How Kubernetes is reached."
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
  description = "Which External Secrets names itself by."
  value       = module.secrets_reader.client_id
}

output "oidc_issuer" {
  description = "Who signs the tokens of the cluster's accounts: workload identities trust it."
  value       = azurerm_kubernetes_cluster.this.oidc_issuer_url
}

output "ingress" {
  description = "The public address of the ingress, and the pool of nodes that is for its gateway alone, if there is one. What else asks the world then passes a firewall."
  value       = { name = azurerm_public_ip.ingress.name, address = azurerm_public_ip.ingress.ip_address, pool = var.firewall == null ? null : azurerm_kubernetes_cluster_node_pool.this["gateways"].name }
}

output "github_client_ids" {
  description = "What the workflows log in as: the variable AZURE_CLIENT_ID of GitHub's environments."
  value       = { for name, identity in module.github : name => identity.client_id }
}

output "environment" {
  description = "What `make kubeconfig` and `make deploy` take from the environment, for a shell to eval."
  value       = <<-EOT
    export AZURE_RESOURCE_GROUP=${azurerm_resource_group.this.name}
    export AZURE_CLUSTER=${azurerm_kubernetes_cluster.this.name}
    export AZURE_REGISTRY=${azurerm_container_registry.this.name}
    export KO_DOCKER_REPO=${azurerm_container_registry.this.login_server}/${var.project}
  EOT

  depends_on = [azurerm_role_assignment.pull]
}
