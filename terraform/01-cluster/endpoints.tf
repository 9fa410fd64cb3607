# With private_endpoints, the registry and the vault have addresses only in the virtual network. These zones resolve their Azure names to
# these addresses. Only the virtual network uses the zones.
locals {
  endpoints = var.private_endpoints ? {
    registry = { id = azurerm_container_registry.this.id, part = "registry", zone = "privatelink.azurecr.io" }
    vault    = { id = azurerm_key_vault.this.id, part = "vault", zone = "privatelink.vaultcore.azure.net" }
  } : {}
}

resource "azurerm_private_dns_zone" "endpoint" {
  for_each = local.endpoints

  name                = each.value.zone
  resource_group_name = azurerm_resource_group.this.name
  tags                = module.names.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "endpoint" {
  for_each = local.endpoints

  name                = "network"
  private_dns_zone_id = azurerm_private_dns_zone.endpoint[each.key].id
  virtual_network_id  = azurerm_virtual_network.this.id
  tags                = module.names.tags
}

resource "azurerm_private_endpoint" "this" {
  for_each = local.endpoints

  name                = "${module.names.base}-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  subnet_id           = azurerm_subnet.nodes.id
  tags                = module.names.tags

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = each.value.id
    subresource_names              = [each.value.part]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "network"
    private_dns_zone_ids = [azurerm_private_dns_zone.endpoint[each.key].id]
  }

  depends_on = [azurerm_private_dns_zone_virtual_network_link.endpoint]
}
