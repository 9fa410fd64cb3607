# One pool of nodes is the default. With system_pool, what Azure runs in the cluster has that one for itself, and all else goes to
# the pool workloads; with a firewall, the gateway has a pool whose answers to the public do not pass it.
locals {
  default_pool = coalesce(var.system_pool, var.nodes)

  pools = merge(var.system_pool == null ? {} : {
    workloads = { nodes = var.nodes, subnet_id = azurerm_subnet.nodes.id, taint = "" }
    }, var.firewall == null ? {} : {
    gateways = { nodes = var.firewall.gateways, subnet_id = azurerm_subnet.gateways[0].id, taint = "${local.pool_label}=gateways:NoSchedule" }
  })
  pool_label = "warble.dev/pool" # by which 03-application's gateway finds its nodes
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
    ignore_changes = [node_count] # which is the autoscaler's
  }

  depends_on = [azurerm_subnet_nat_gateway_association.nodes, azurerm_subnet_route_table_association.this]
}
