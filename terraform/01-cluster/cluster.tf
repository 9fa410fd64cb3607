# The control plane acts as this identity when it gives the load balancer the public address.
resource "azurerm_user_assigned_identity" "cluster" {
  name                = "${module.names.base}-cluster"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = module.names.tags
}

# The nodes pull images with this identity.
resource "azurerm_user_assigned_identity" "kubelet" {
  name                = "${module.names.base}-kubelet"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = module.names.tags
}

resource "azurerm_role_assignment" "cluster" {
  for_each = merge({
    nodes   = { role = "Network Contributor", scope = azurerm_subnet.nodes.id }
    ingress = { role = "Network Contributor", scope = azurerm_public_ip.ingress.id }
    # To find the address, the control plane lists all addresses of the group. Without this role, Azure refuses the list, and the Service
    # gets no load balancer.
    group = { role = "Reader", scope = azurerm_resource_group.this.id }
    # The nodes have their own identity. The control plane needs this role to give it to them.
    kubelet = { role = "Managed Identity Operator", scope = azurerm_user_assigned_identity.kubelet.id }
    }, var.firewall == null ? {} : {
    gateways = { role = "Network Contributor", scope = azurerm_subnet.gateways[0].id }
  })

  scope                = each.value.scope
  role_definition_name = each.value.role
  principal_id         = azurerm_user_assigned_identity.cluster.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_kubernetes_cluster" "this" {
  name                = module.names.base
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  dns_prefix          = module.names.base
  kubernetes_version  = var.kubernetes_version
  sku_tier            = "Standard" # this tier guarantees the availability of the API server
  tags                = module.names.tags

  automatic_upgrade_channel = "patch"
  node_os_upgrade_channel   = "NodeImage"

  image_cleaner_enabled        = true
  image_cleaner_interval_hours = 168 # Azure accepts 24 to 2160; without a value the provider sends 0

  # People and pipelines sign in with Entra, so there is no administrator's certificate that could leak.
  local_account_disabled    = true
  oidc_issuer_enabled       = true
  workload_identity_enabled = true
  run_command_enabled       = false
  private_cluster_enabled   = var.private_api_server
  azure_policy_enabled      = var.azure_policies != null

  azure_active_directory_role_based_access_control {
    azure_rbac_enabled     = true
    admin_group_object_ids = var.administrators
  }

  dynamic "api_server_access_profile" {
    for_each = length(var.authorized_ranges) > 0 ? [var.authorized_ranges] : []

    # The nodes also reach the API server from outside, so their public addresses must be allowed. Azure allows the load balancer's
    # address by itself, but not those of a NAT gateway or a firewall.
    content {
      authorized_ip_ranges = setunion(api_server_access_profile.value, [for a in concat(azurerm_public_ip.egress, azurerm_public_ip.firewall) : "${a.ip_address}/32"])
    }
  }

  default_node_pool {
    name                        = "main"
    temporary_name_for_rotation = "rotation"
    vm_size                     = local.default_pool.size
    orchestrator_version        = var.kubernetes_version # without it, the pool keeps its first minor version
    auto_scaling_enabled        = true
    min_count                   = local.default_pool.min
    max_count                   = local.default_pool.max
    max_pods                    = 110
    os_sku                      = "AzureLinux"
    vnet_subnet_id              = azurerm_subnet.nodes.id
    zones                       = ["1", "2", "3"]
    # This adds a taint, which keeps out pods without a toleration for it. Azure's own pods have one: see pools.tf.
    only_critical_addons_enabled = var.system_pool != null

    upgrade_settings {
      max_surge = "33%"
    }
  }

  node_provisioning_profile {
    mode = "Manual"
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.cluster.id]
  }

  kubelet_identity {
    client_id                 = azurerm_user_assigned_identity.kubelet.client_id
    object_id                 = azurerm_user_assigned_identity.kubelet.principal_id
    user_assigned_identity_id = azurerm_user_assigned_identity.kubelet.id
  }

  network_profile {
    network_plugin      = "azure"
    network_plugin_mode = "overlay"
    network_data_plane  = "cilium"
    network_policy      = "cilium"
    load_balancer_sku   = "standard"
    outbound_type       = var.firewall != null ? "userDefinedRouting" : var.nat_gateway ? "userAssignedNATGateway" : "loadBalancer"
    pod_cidr            = var.addresses.pods
    service_cidr        = var.addresses.services
    dns_service_ip      = module.addresses.dns
  }

  maintenance_window_auto_upgrade {
    frequency   = "Weekly"
    interval    = 1
    duration    = 4
    day_of_week = "Tuesday"
    start_time  = "02:00"
    utc_offset  = "+00:00"
  }

  maintenance_window_node_os {
    frequency   = "Weekly"
    interval    = 1
    duration    = 4
    day_of_week = "Wednesday"
    start_time  = "02:00"
    utc_offset  = "+00:00"
  }

  dynamic "oms_agent" {
    for_each = azurerm_log_analytics_workspace.this

    content {
      log_analytics_workspace_id      = oms_agent.value.id
      msi_auth_for_monitoring_enabled = true
    }
  }

  dynamic "microsoft_defender" {
    for_each = var.defender ? azurerm_log_analytics_workspace.this : []

    content {
      log_analytics_workspace_id = microsoft_defender.value.id
    }
  }

  lifecycle {
    ignore_changes = [default_node_pool[0].node_count] # the autoscaler sets it
  }

  # With a firewall, nodes that start before its rules exist cannot pull images.
  depends_on = [
    azurerm_role_assignment.cluster, azurerm_subnet_nat_gateway_association.nodes,
    azurerm_subnet_route_table_association.this, azurerm_firewall_policy_rule_collection_group.nodes,
  ]
}
