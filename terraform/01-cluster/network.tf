module "addresses" {
  source = "../modules/addresses"

  network  = var.addresses.network
  pods     = var.addresses.pods
  services = var.addresses.services
}

resource "azurerm_virtual_network" "this" {
  name                = module.names.base
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  address_space       = [var.addresses.network]
  tags                = module.names.tags
}

resource "azurerm_subnet" "nodes" {
  name                 = "nodes"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [module.addresses.nodes]

  service_endpoint {
    service = "Microsoft.KeyVault"
  }
}

# Azure puts the database's network interfaces here, and nothing else may be in it.
resource "azurerm_subnet" "database" {
  name                 = "database"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [module.addresses.database]

  service_endpoint {
    service = "Microsoft.Storage" # where the server keeps its write-ahead log
  }

  delegation {
    name = "postgresql"

    service_delegation {
      name    = "Microsoft.DBforPostgreSQL/flexibleServers"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

# Only nodes reach the database, on the ports of PostgreSQL and PgBouncer. Traffic of pods has the address of their node. An elastic cluster
# has two more ports. The servers of an elastic cluster, and a server and its standby, connect to each other.
resource "azurerm_network_security_group" "database" {
  name                = "${module.names.base}-database"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = module.names.tags

  security_rule {
    name                       = "nodes"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_port_range          = "*"
    source_address_prefix      = module.addresses.nodes
    destination_port_ranges    = ["5432", "6432", "7432", "8432"]
    destination_address_prefix = module.addresses.database
  }

  security_rule {
    name                       = "servers"
    priority                   = 110
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "Tcp"
    source_port_range          = "*"
    source_address_prefix      = module.addresses.database
    destination_port_range     = "*"
    destination_address_prefix = module.addresses.database
  }

  security_rule {
    name                       = "others"
    priority                   = 4000
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_port_range          = "*"
    source_address_prefix      = "VirtualNetwork"
    destination_port_range     = "*"
    destination_address_prefix = "*"
  }
}

resource "azurerm_subnet_network_security_group_association" "database" {
  subnet_id                 = azurerm_subnet.database.id
  network_security_group_id = azurerm_network_security_group.database.id
}

# Warble's public address. It does not change if 03-application is destroyed and applied again, so DNS records stay valid.
resource "azurerm_public_ip" "ingress" {
  name                = "${module.names.base}-ingress"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = ["1", "2", "3"]
  tags                = module.names.tags
}

# A NAT gateway has its own public address. With nat_gateway all nodes use it; with a firewall, only the nodes that bypass the firewall.
locals {
  nat = var.nat_gateway ? [azurerm_subnet.nodes] : azurerm_subnet.gateways
}

resource "azurerm_public_ip" "egress" {
  count = var.nat_gateway || var.firewall != null ? 1 : 0

  name                = "${module.names.base}-egress"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  allocation_method   = "Static"
  sku                 = "Standard"
  tags                = module.names.tags
}

resource "azurerm_nat_gateway" "this" {
  count = length(azurerm_public_ip.egress)

  name                = module.names.base
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku_name            = "Standard"
  tags                = module.names.tags
}

resource "azurerm_nat_gateway_public_ip_association" "this" {
  count = length(azurerm_public_ip.egress)

  nat_gateway_id       = azurerm_nat_gateway.this[0].id
  public_ip_address_id = azurerm_public_ip.egress[0].id
}

resource "azurerm_subnet_nat_gateway_association" "nodes" {
  count = length(local.nat)

  subnet_id      = local.nat[0].id
  nat_gateway_id = azurerm_nat_gateway.this[0].id
}
