data "azurerm_client_config" "this" {}

resource "azurerm_key_vault" "this" {
  name                          = module.names.vault
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  tenant_id                     = data.azurerm_client_config.this.tenant_id
  sku_name                      = "standard"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90
  public_network_access_enabled = !var.private_endpoints
  tags                          = module.names.tags

  network_acls {
    bypass                     = "AzureServices"
    default_action             = length(var.authorized_ranges) > 0 ? "Deny" : "Allow"
    ip_rules                   = var.authorized_ranges
    virtual_network_subnet_ids = [azurerm_subnet.nodes.id]
  }

  lifecycle {
    prevent_destroy = true # it holds the passwords of the database
  }
}

resource "azurerm_role_assignment" "vault" {
  for_each = var.administrators

  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = each.value
  principal_type       = "Group"
}
