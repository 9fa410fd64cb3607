# Azure registers the server in this zone. Only the virtual network uses the zone.
resource "azurerm_private_dns_zone" "this" {
  name                = "${local.cluster.names.base}.private.postgres.database.azure.com"
  resource_group_name = local.cluster.resource_group.name
  tags                = local.cluster.names.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  name                = "network"
  private_dns_zone_id = azurerm_private_dns_zone.this.id
  virtual_network_id  = local.cluster.network.id
  tags                = local.cluster.names.tags
}
