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
  # Azure refuses a window that is shorter than four hours. The API server and the nodes are upgraded in different nights.
  assert {
    condition = alltrue([for window in concat(azurerm_kubernetes_cluster.this.maintenance_window_auto_upgrade, azurerm_kubernetes_cluster.this.maintenance_window_node_os) :
    "${window.frequency} ${window.interval} ${window.start_time} ${window.utc_offset}" == "Weekly 1 02:00 +00:00" && window.duration >= 4])
    error_message = "Azure may upgrade the cluster by day"
  }
  assert {
    condition = [for window in concat(azurerm_kubernetes_cluster.this.maintenance_window_auto_upgrade, azurerm_kubernetes_cluster.this.maintenance_window_node_os) :
    window.day_of_week] == ["Tuesday", "Wednesday"]
    error_message = "the API server or the nodes have no night for their upgrades, or both have the same"
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.automatic_upgrade_channel == "patch" && azurerm_kubernetes_cluster.this.node_os_upgrade_channel == "NodeImage"
    error_message = "nobody installs security updates"
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

run "roles_of_the_workflows" {
  command = plan
  variables {
    state_account_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/state/providers/Microsoft.Storage/storageAccounts/warblestate"
    github_subjects  = { apply = "repo:o@1/r@2:environment:infrastructure" }
    dns_zone_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/dns/providers/Microsoft.Network/dnsZones/example.org"
  }

  override_resource {
    target          = azurerm_resource_group.this
    override_during = plan
    values          = { id = "/group" }
  }
  override_resource {
    target          = azurerm_container_registry.this
    override_during = plan
    values          = { id = "/registry" }
  }
  override_resource {
    target          = azurerm_kubernetes_cluster.this
    override_during = plan
    values = {
      id              = "/cluster"
      oidc_issuer_url = "https://issuer.example.org/"
      kube_config     = [{ host = "https://cluster.example.org", cluster_ca_certificate = "", client_certificate = "", client_key = "", username = "", password = "" }]
    }
  }
  override_resource {
    target          = azurerm_key_vault.this
    override_during = plan
    values          = { id = "/vault" }
  }

  # An apply makes everything in its group and assigns roles there, and in two places outside. Without one of these roles it stops half-way.
  assert {
    condition = toset([for r in values(local.github_roles.apply) : "${r.role} ${basename(r.scope)}"]) == toset([
      "Storage Blob Data Contributor warblestate",
      "Role Based Access Control Administrator warblestate",
      "Reader 00000000-0000-0000-0000-000000000000",
      "Owner group",
      "Key Vault Secrets Officer vault",
      "Azure Kubernetes Service RBAC Cluster Admin cluster",
      "DNS Zone Contributor example.org",
      "Role Based Access Control Administrator example.org",
    ])
    error_message = "an apply has the roles ${jsonencode(values(local.github_roles.apply))}"
  }
  # A pull request's plan runs code that nobody has approved yet, so it may change nothing and read no secret.
  assert {
    condition = toset([for r in values(local.github_roles.plan) : "${r.role} ${basename(r.scope)}"]) == toset([
      "Storage Blob Data Reader warblestate", "Reader 00000000-0000-0000-0000-000000000000",
    ])
    error_message = "a pull request's plan has the roles ${jsonencode(values(local.github_roles.plan))}"
  }
  assert {
    condition = toset([for r in values(local.github_roles.review) : "${r.role} ${basename(r.scope)}"]) == toset([
      "Storage Blob Data Reader warblestate", "Reader 00000000-0000-0000-0000-000000000000", "Key Vault Secrets User vault",
    ])
    error_message = "a plan to be applied has the roles ${jsonencode(values(local.github_roles.review))}"
  }
  assert {
    condition = toset([for r in values(local.github_roles.release) : "${r.role} ${basename(r.scope)}"]) == toset([
      "AcrPush registry", "Azure Kubernetes Service Cluster User Role cluster", "Azure Kubernetes Service RBAC Cluster Admin cluster",
    ])
    error_message = "a release has the roles ${jsonencode(values(local.github_roles.release))}"
  }
}

run "github_with_authorized_ranges" {
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

run "private_and_watched" {
  command = plan
  variables {
    nat_gateway        = true
    private_api_server = true
    private_endpoints  = true
    log_analytics      = true
    defender           = true
    azure_policies     = "Audit"
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

run "the_default_has_one_pool_and_no_firewall" {
  command = plan

  assert {
    condition     = length(azurerm_kubernetes_cluster_node_pool.this) == 0 && !azurerm_kubernetes_cluster.this.default_node_pool[0].only_critical_addons_enabled
    error_message = "there are pools ${jsonencode(keys(azurerm_kubernetes_cluster_node_pool.this))}, or the default one has a taint"
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.default_node_pool[0].orchestrator_version == var.kubernetes_version
    error_message = "nodes would keep the minor version that they began with"
  }
  assert {
    condition     = length(azurerm_firewall.this) + length(azurerm_route_table.this) + length(azurerm_subnet.gateways) == 0 && azurerm_kubernetes_cluster.this.network_profile[0].outbound_type == "loadBalancer"
    error_message = "the cluster goes out by ${azurerm_kubernetes_cluster.this.network_profile[0].outbound_type}"
  }
  assert {
    condition     = !azurerm_kubernetes_cluster.this.azure_policy_enabled && length(azurerm_resource_group_policy_assignment.baseline) == 0
    error_message = "Azure looks at pods"
  }
  assert {
    condition     = output.ingress.pool == null
    error_message = "the gateway needs a pool that does not exist"
  }
}

run "a_pool_for_the_system" {
  command = plan
  variables {
    system_pool = { size = "Standard_D2as_v5", min = 2, max = 3 }
    nodes       = { size = "Standard_D8as_v5", min = 3, max = 9 }
  }

  assert {
    condition = alltrue([for pool in azurerm_kubernetes_cluster.this.default_node_pool :
    pool.only_critical_addons_enabled && pool.vm_size == "Standard_D2as_v5" && pool.min_count == 2 && pool.max_count == 3])
    error_message = "the default pool is not the system's"
  }
  assert {
    condition = { for name, pool in azurerm_kubernetes_cluster_node_pool.this : name => [pool.mode, pool.vm_size, pool.min_count, pool.max_count, pool.zones, pool.auto_scaling_enabled, pool.orchestrator_version] } == {
      workloads = ["User", "Standard_D8as_v5", 3, 9, toset(["1", "2", "3"]), true, var.kubernetes_version]
    }
    error_message = "there is no pool for other pods"
  }
  assert {
    condition     = length(coalesce(azurerm_kubernetes_cluster_node_pool.this["workloads"].node_taints, [])) == 0
    error_message = "the pool workloads has a taint that no pod of Warble tolerates"
  }
}

run "a_firewall" {
  command = plan
  variables {
    firewall          = { https = ["*.datadoghq.eu"], tcp = { "smtp.example.org" = 587 } }
    authorized_ranges = ["198.51.100.0/24"]
    azure_policies    = "Deny"
  }

  override_resource {
    target          = azurerm_firewall.this
    override_during = plan
    values          = { ip_configuration = { private_ip_address = "10.40.253.4" } }
  }
  override_resource {
    target          = azurerm_public_ip.firewall
    override_during = plan
    values          = { ip_address = "192.0.2.2" }
  }
  override_resource {
    target          = azurerm_public_ip.egress
    override_during = plan
    values          = { ip_address = "192.0.2.3" }
  }
  override_resource {
    target          = azurerm_subnet.nodes
    override_during = plan
    values          = { id = "nodes" }
  }
  override_resource {
    target          = azurerm_subnet.gateways
    override_during = plan
    values          = { id = "gateways" }
  }
  override_resource {
    target          = azurerm_container_registry.this
    override_during = plan
    values          = { login_server = "warble.azurecr.io" }
  }

  assert {
    condition     = azurerm_kubernetes_cluster.this.network_profile[0].outbound_type == "userDefinedRouting" && azurerm_subnet.firewall[0].name == "AzureFirewallSubnet"
    error_message = "the cluster goes out by ${azurerm_kubernetes_cluster.this.network_profile[0].outbound_type}"
  }
  assert {
    condition     = { for name, a in azurerm_subnet_route_table_association.this : name => a.subnet_id } == { nodes = "nodes", gateways = "gateways" }
    error_message = "a subnet has no routes"
  }
  assert {
    condition     = [for r in azurerm_route_table.this["nodes"].route : "${r.address_prefix} ${r.next_hop_type} ${coalesce(r.next_hop_in_ip_address, "-")}"] == ["0.0.0.0/0 VirtualAppliance 10.40.253.4"]
    error_message = "nodes bypass the firewall"
  }
  # The longer prefix takes precedence, so answers to the public bypass the firewall, as their requests did.
  assert {
    condition     = toset([for r in azurerm_route_table.this["gateways"].route : "${r.address_prefix} ${r.next_hop_type}"]) == toset(["0.0.0.0/0 VirtualAppliance", "0.0.0.0/1 Internet", "128.0.0.0/1 Internet"])
    error_message = "the gateway's answers go to the firewall, which drops them"
  }
  assert {
    condition = (azurerm_kubernetes_cluster_node_pool.this["gateways"].vnet_subnet_id == "gateways"
      && azurerm_kubernetes_cluster_node_pool.this["gateways"].node_taints == tolist(["warble.dev/pool=gateways:NoSchedule"])
    && azurerm_kubernetes_cluster_node_pool.this["gateways"].node_labels["warble.dev/pool"] == output.ingress.pool)
    error_message = "the gateway does not run on its nodes, or other pods do"
  }
  assert {
    condition     = azurerm_subnet_nat_gateway_association.nodes[0].subnet_id == "gateways"
    error_message = "the gateway's nodes have no way out"
  }
  assert {
    condition     = anytrue([for a in values(azurerm_role_assignment.cluster) : a.scope == "gateways" && a.role_definition_name == "Network Contributor"])
    error_message = "the control plane may not put nodes into the gateways' subnet"
  }
  assert {
    condition = length(setsubtract(
      ["warble.azurecr.io", "*.blob.core.windows.net", "registry.k8s.io", "gcr.io", "quay.io", "acme-v02.api.letsencrypt.org", "data.policy.core.windows.net", "*.datadoghq.eu"],
      flatten([for r in azurerm_firewall_policy_rule_collection_group.nodes[0].application_rule_collection[0].rule : coalesce(r.destination_fqdns, [])]),
    )) == 0
    error_message = "the firewall blocks hosts that the cluster needs"
  }
  assert {
    condition     = anytrue([for r in azurerm_firewall_policy_rule_collection_group.nodes[0].application_rule_collection[0].rule : contains(coalesce(r.destination_fqdn_tags, []), "AzureKubernetesService")])
    error_message = "the firewall keeps back what AKS itself needs"
  }
  assert {
    condition = alltrue(concat(
      [for r in azurerm_firewall_policy_rule_collection_group.nodes[0].application_rule_collection[0].rule : r.source_addresses == tolist(["10.40.0.0/18"]) && !contains(coalesce(r.destination_fqdns, []), "*")],
      [for r in azurerm_firewall_policy_rule_collection_group.nodes[0].network_rule_collection[0].rule : r.source_addresses == tolist(["10.40.0.0/18"]) && r.destination_fqdns == tolist(["smtp.example.org"]) && r.destination_ports == tolist(["587"])],
    ))
    error_message = "the firewall allows other sources or hosts"
  }
  assert {
    condition     = length(azurerm_firewall_policy_rule_collection_group.api_server) == 1 && azurerm_firewall_policy.this[0].dns[0].proxy_enabled
    error_message = "the edge and steer cannot ask the API server"
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.api_server_access_profile[0].authorized_ip_ranges == toset(["198.51.100.0/24", "192.0.2.2/32", "192.0.2.3/32"])
    error_message = "nodes may not speak to the API server: ${jsonencode(azurerm_kubernetes_cluster.this.api_server_access_profile[0].authorized_ip_ranges)}"
  }
  assert {
    condition     = azurerm_kubernetes_cluster.this.azure_policy_enabled && jsondecode(azurerm_resource_group_policy_assignment.baseline[0].parameters).effect.value == "Deny"
    error_message = "azure_policies does not refuse pods"
  }
  assert {
    condition     = contains(jsondecode(azurerm_resource_group_policy_assignment.baseline[0].parameters).excludedNamespaces.value, "monitoring")
    error_message = "Azure would refuse node-exporter and Datadog's agent"
  }
}

run "a_firewall_and_a_private_api_server" {
  command = plan
  variables {
    firewall           = {}
    private_api_server = true
    private_endpoints  = true
  }

  assert {
    condition     = length(azurerm_firewall_policy_rule_collection_group.api_server) == 0 && length(azurerm_firewall_policy_rule_collection_group.nodes[0].network_rule_collection) == 0
    error_message = "the firewall has rules for hosts in the network"
  }
  assert {
    condition     = !contains(flatten([for r in azurerm_firewall_policy_rule_collection_group.nodes[0].application_rule_collection[0].rule : coalesce(r.destination_fqdns, [])]), "*.blob.core.windows.net")
    error_message = "anybody's storage is reachable, although the registry is in the network"
  }
}

run "invalid_baseline_settings" {
  command = plan
  variables {
    system_pool    = { size = "D2", min = 1, max = 0 }
    firewall       = { https = ["https://example.org"], tcp = { "*.example.org" = 0 }, gateways = { size = "D2", min = 1, max = 1 } }
    nat_gateway    = true
    azure_policies = "deny"
  }

  expect_failures = [var.system_pool, var.firewall, var.azure_policies]
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
