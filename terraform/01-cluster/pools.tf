# By default there is one pool of nodes. With system_pool, only the pods that Azure runs in the cluster use this pool, and all other pods
# go to the pool workloads. With a firewall, the ingress gateway has its own pool, whose answers to the public bypass the firewall.
locals {
  default_pool = coalesce(var.system_pool, var.nodes)

  pools = merge(var.system_pool == null ? {} : {
    workloads = { nodes = var.nodes, subnet_id = azurerm_subnet.nodes.id, taint = "" }
    }, var.firewall == null ? {} : {
    gateways = { nodes = var.firewall.gateways, subnet_id = azurerm_subnet.gateways[0].id, taint = "${local.pool_label}=gateways:NoSchedule" }
  })
  pool_label = "warble.dev/pool" # the gateway in 03-application selects its nodes by this label
}

resource "azurerm_kubernetes_cluster_node_pool" "this" {
  for_each = local.pools

  name                        = each.key
  temporary_name_for_rotation = substr("tmp${each.key}", 0, 12)
  kubernetes_cluster_id       = azurerm_kubernetes_cluster.this.id
  mode                        = "User"
  orchestrator_version        = var.kubernetes_version
  vm_size                     = each.value.nodes.size
  auto_scaling_enabled        = true
  min_count                   = each.value.nodes.min
  max_count                   = each.value.nodes.max
  max_pods                    = 110
  os_sku                      = "AzureLinux"
  vnet_subnet_id              = each.value.subnet_id
  zones                       = ["1", "2", "3"]
  node_labels                 = { (local.pool_label) = each.key }
  node_taints                 = compact([each.value.taint])
  tags                        = module.names.tags

  upgrade_settings {
    max_surge = "33%"
  }

  lifecycle {
    ignore_changes = [node_count] # the autoscaler sets it
  }

  depends_on = [azurerm_subnet_nat_gateway_association.nodes, azurerm_subnet_route_table_association.this]
}
