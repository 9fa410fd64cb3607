mock_provider "azurerm" {
  mock_data "azurerm_client_config" {
    defaults = { tenant_id = "00000000-0000-0000-0000-000000000002" }
  }
  mock_resource "azurerm_kubernetes_cluster" {
    defaults = {
      oidc_issuer_url = "https://issuer.example.org/"
      kube_config     = [{ host = "https://cluster.example.org", cluster_ca_certificate = "", client_certificate = "", client_key = "", username = "", password = "" }]
    }
  }
}

variables {
  subscription_id = "00000000-0000-0000-0000-000000000000"
  administrators  = ["00000000-0000-0000-0000-000000000001"]
}

run "the_default" {
  command = plan

  assert {
    condition     = azurerm_kubernetes_cluster.this.local_account_disabled && azurerm_kubernetes_cluster.this.oidc_issuer_enabled && azurerm_kubernetes_cluster.this.workload_identity_enabled
    error_message = "the cluster has accounts of its own, or no identities for workloads"
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.image_cleaner_interval_hours >= 24 && azurerm_kubernetes_cluster.this.image_cleaner_interval_hours <= 2160
    error_message = "Azure refuses an interval of ${coalesce(azurerm_kubernetes_cluster.this.image_cleaner_interval_hours, 0)} hours"
  }
  assert {
    condition     = azurerm_subnet.nodes.address_prefixes == tolist(["10.40.0.0/18"]) && azurerm_kubernetes_cluster.this.network_profile[0].dns_service_ip == "10.96.0.10"
    error_message = "nodes are in ${jsonencode(azurerm_subnet.nodes.address_prefixes)}"
  }
  assert {
    condition     = !azurerm_container_registry.this.admin_enabled && azurerm_key_vault.this.rbac_authorization_enabled && azurerm_key_vault.this.purge_protection_enabled
    error_message = "the registry or the vault has a password of its own"
  }
  assert {
    condition     = length(azurerm_log_analytics_workspace.this) == 0 && length(module.github) == 0
    error_message = "there is a workspace, or an identity for GitHub"
  }
  assert {
    condition     = azurerm_key_vault.this.network_acls[0].default_action == "Allow"
    error_message = "the vault is closed to GitHub's runners"
  }
  assert {
    condition     = length(azurerm_private_endpoint.this) == 0 && azurerm_container_registry.this.sku == "Standard" && azurerm_container_registry.this.public_network_access_enabled
    error_message = "the registry is closed to GitHub's runners"
  }
}

run "roles_of_the_cluster" {
  command = plan

  override_resource {
    target          = azurerm_resource_group.this
    override_during = plan
    values          = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production" }
  }
  override_resource {
    target          = azurerm_subnet.nodes
    override_during = plan
    values          = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/subnets/nodes" }
  }
  override_resource {
    target          = azurerm_public_ip.ingress
    override_during = plan
    values          = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/publicIPAddresses/ingress" }
  }
  override_resource {
    target          = azurerm_user_assigned_identity.cluster
    override_during = plan
    values          = { principal_id = "cluster" }
  }
  override_resource {
    target          = azurerm_user_assigned_identity.kubelet
    override_during = plan
    values          = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/warble-production/userAssignedIdentities/kubelet", principal_id = "kubelet" }
  }

  assert {
    condition = alltrue([for need in [
      { role = "Network Contributor", scope = azurerm_subnet.nodes.id },
      { role = "Network Contributor", scope = azurerm_public_ip.ingress.id },
      { role = "Reader", scope = azurerm_resource_group.this.id },
      { role = "Managed Identity Operator", scope = azurerm_user_assigned_identity.kubelet.id },
      ] : anytrue([for a in values(azurerm_role_assignment.cluster) :
        a.role_definition_name == need.role && a.scope == need.scope && a.principal_id == azurerm_user_assigned_identity.cluster.principal_id
    ])])
    error_message = "the control plane lacks a role"
  }
  assert {
    condition     = azurerm_role_assignment.pull.principal_id == azurerm_kubernetes_cluster.this.kubelet_identity[0].object_id
    error_message = "nodes may not pull images"
  }
}

run "for_github_and_behind_a_fence" {
  command = plan
  variables {
    state_account_id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/state/providers/Microsoft.Storage/storageAccounts/warblestate"
    github_subjects   = { release = "repo:o@1/r@2:environment:production", plan = "repo:o@1/r@2:environment:plan", review = "repo:o@1/r@2:environment:review", apply = "repo:o@1/r@2:environment:infrastructure" }
    dns_zone_id       = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/dns/providers/Microsoft.Network/dnsZones/example.org"
    authorized_ranges = ["198.51.100.0/24"]
    log_analytics     = true
  }

  assert {
    condition     = toset(keys(module.github)) == toset(["apply", "plan", "release", "review"]) && length(azurerm_log_analytics_workspace.this) == 1
    error_message = "identities of ${jsonencode(keys(module.github))}"
  }
  assert {
    condition     = azurerm_key_vault.this.network_acls[0].default_action == "Deny"
    error_message = "the vault is open"
  }
}

run "what_a_company_would_want" {
  command = plan
  variables {
    nat_gateway        = true
    private_api_server = true
    private_endpoints  = true
    log_analytics      = true
    defender           = true
    budget             = { amount = 1000, emails = ["operations@example.org"], start = "2026-12-01T00:00:00Z" }
  }

  assert {
    condition     = azurerm_kubernetes_cluster.this.network_profile[0].outbound_type == "userAssignedNATGateway" && length(azurerm_subnet_nat_gateway_association.nodes) == 1
    error_message = "the cluster goes out by ${azurerm_kubernetes_cluster.this.network_profile[0].outbound_type}"
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.private_cluster_enabled && length(azurerm_kubernetes_cluster.this.microsoft_defender) == 1 && length(azurerm_consumption_budget_resource_group.this) == 1
    error_message = "the API server is public, or nobody watches the nodes or the bill"
  }
  assert {
    condition = (!azurerm_container_registry.this.public_network_access_enabled && azurerm_container_registry.this.sku == "Premium" && !azurerm_key_vault.this.public_network_access_enabled
    && { for name, e in azurerm_private_endpoint.this : name => e.private_service_connection[0].subresource_names } == { registry = tolist(["registry"]), vault = tolist(["vault"]) })
    error_message = "the registry or the vault is public, or has no address in the network"
  }
}

run "what_is_wrong" {
  command = plan
  variables {
    subscription_id    = "mine"
    location           = "West Europe"
    kubernetes_version = "1.34"
    dns_zone_id        = "example.org"
    defender           = true
    budget             = { amount = 0, emails = [], start = "2026-12-02" }
    nodes              = { size = "D4", min = 1, max = 0 }
    administrators     = []
    authorized_ranges  = ["everywhere"]
    github_subjects    = { deploy = "repo:o/r:*" }
  }

  expect_failures = [
    var.subscription_id, var.location, var.kubernetes_version, var.nodes, var.administrators, var.authorized_ranges,
    var.dns_zone_id, var.defender, var.budget,
    var.github_subjects,
  ]
}

run "github_without_a_state" {
  command = plan
  variables {
    github_subjects = { plan = "repo:o@1/r@2:environment:plan" }
  }

  expect_failures = [var.state_account_id]
}

run "a_private_api_server_with_public_ranges" {
  command = plan
  variables {
    private_api_server = true
    authorized_ranges  = ["198.51.100.0/24"]
  }

  expect_failures = [var.private_api_server]
}
