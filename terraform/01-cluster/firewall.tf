# With a firewall, nodes and pods reach only the hosts that are named here. Two kinds of traffic do not pass the firewall: to resources in
# the virtual network, such as the database, and to services for which the subnet has a service endpoint, such as the vault.
locals {
  # The hosts, by the part that needs them. The cluster's own hosts are not here: they have Azure's tag AzureKubernetesService.
  hosts = { for name, hosts in {
    # The registry redirects requests for the layers of an image to Azure's storage.
    registry = var.private_endpoints ? [] : [azurerm_container_registry.this.login_server, "*.blob.core.windows.net"]
    # The registries of the charts' images, and the hosts to which they redirect requests for layers.
    images = [
      "docker.io", "registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com", "*.r2.cloudflarestorage.com",
      "gcr.io", "storage.googleapis.com", "*.pkg.dev",
      "ghcr.io", "pkg-containers.githubusercontent.com", "oci.external-secrets.io",
      "quay.io", "*.quay.io",
      "registry.k8s.io", "d39mqg4b1dx9z1.cloudfront.net",
    ]
    certificates = ["acme-v02.api.letsencrypt.org"]
    policies     = var.azure_policies == null ? [] : ["data.policy.core.windows.net", "store.policy.core.windows.net", "dc.services.visualstudio.com"]
    logs         = var.log_analytics ? ["*.ods.opinsights.azure.com", "*.oms.opinsights.azure.com", "*.monitoring.azure.com", "*.monitor.azure.com"] : []
    defender     = var.defender ? ["*.cloud.defender.microsoft.com"] : []
    more         = var.firewall == null ? [] : tolist(var.firewall.https)
  } : name => hosts if length(hosts) > 0 }
}

resource "azurerm_subnet" "firewall" {
  count = var.firewall == null ? 0 : 1

  name                 = "AzureFirewallSubnet" # Azure requires this name
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [module.addresses.firewall]
}

resource "azurerm_public_ip" "firewall" {
  count = var.firewall == null ? 0 : 1

  name                = "${module.names.base}-firewall"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  allocation_method   = "Static"
  sku                 = "Standard"
  zones               = ["1", "2", "3"]
  tags                = module.names.tags
}

resource "azurerm_firewall_policy" "this" {
  count = var.firewall == null ? 0 : 1

  name                     = module.names.base
  resource_group_name      = azurerm_resource_group.this.name
  location                 = azurerm_resource_group.this.location
  sku                      = "Standard"
  threat_intelligence_mode = "Deny"
  tags                     = module.names.tags

  dns {
    proxy_enabled = true # without it, a network rule cannot name a host
  }
}

resource "azurerm_firewall_policy_rule_collection_group" "nodes" {
  count = var.firewall == null ? 0 : 1

  name               = "nodes"
  firewall_policy_id = azurerm_firewall_policy.this[0].id
  priority           = 200

  application_rule_collection {
    name     = "hosts"
    priority = 300
    action   = "Allow"

    rule {
      name                  = "cluster"
      source_addresses      = [module.addresses.nodes]
      destination_fqdn_tags = ["AzureKubernetesService"]

      protocols {
        type = "Http"
        port = 80
      }
      protocols {
        type = "Https"
        port = 443
      }
    }

    dynamic "rule" {
      for_each = local.hosts

      content {
        name              = rule.key
        source_addresses  = [module.addresses.nodes]
        destination_fqdns = rule.value

        protocols {
          type = "Https"
          port = 443
        }
      }
    }
  }

  dynamic "network_rule_collection" {
    for_each = length(var.firewall.tcp) > 0 ? [var.firewall.tcp] : []

    content {
      name     = "tcp"
      priority = 200
      action   = "Allow"

      dynamic "rule" {
        for_each = network_rule_collection.value

        content {
          name              = replace(rule.key, ".", "-")
          protocols         = ["TCP"]
          source_addresses  = [module.addresses.nodes]
          destination_fqdns = [rule.key]
          destination_ports = [tostring(rule.value)]
        }
      }
    }
  }
}

# Some pods call the API server. Its name is known only after the cluster exists, so this group is separate. A private API server needs no
# rule, because it is in the virtual network.
resource "azurerm_firewall_policy_rule_collection_group" "api_server" {
  count = var.firewall == null || var.private_api_server ? 0 : 1

  name               = "api-server"
  firewall_policy_id = azurerm_firewall_policy.this[0].id
  priority           = 300

  network_rule_collection {
    name     = "api-server"
    priority = 200
    action   = "Allow"

    rule {
      name              = "api-server"
      protocols         = ["TCP"]
      source_addresses  = [module.addresses.nodes]
      destination_fqdns = [azurerm_kubernetes_cluster.this.fqdn]
      destination_ports = ["443"]
    }
  }
}

resource "azurerm_firewall" "this" {
  count = var.firewall == null ? 0 : 1

  name                = module.names.base
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku_name            = "AZFW_VNet"
  sku_tier            = "Standard"
  firewall_policy_id  = azurerm_firewall_policy.this[0].id
  zones               = ["1", "2", "3"]
  tags                = module.names.tags

  ip_configuration {
    name                 = "public"
    subnet_id            = azurerm_subnet.firewall[0].id
    public_ip_address_id = azurerm_public_ip.firewall[0].id
  }
}

# Requests from the public come in through the load balancer and bypass the firewall. The firewall drops answers to requests that it has
# not seen. So the gateway has its own nodes, in a subnet whose answers bypass the firewall too.
resource "azurerm_subnet" "gateways" {
  count = var.firewall == null ? 0 : 1

  name                 = "gateways"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [module.addresses.gateways]
}

locals {
  routes = var.firewall == null ? {} : {
    nodes = { subnet_id = azurerm_subnet.nodes.id, ranges = toset([]) }
    # AKS requires that each subnet's default route does not lead to the internet. These two ranges cover all addresses, and take precedence
    # over the default route, because they are more specific.
    gateways = { subnet_id = azurerm_subnet.gateways[0].id, ranges = toset(["0.0.0.0/1", "128.0.0.0/1"]) }
  }
}

resource "azurerm_route_table" "this" {
  for_each = local.routes

  name                = "${module.names.base}-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = module.names.tags

  route = concat(
    [{ name = "firewall", address_prefix = "0.0.0.0/0", next_hop_type = "VirtualAppliance", next_hop_in_ip_address = azurerm_firewall.this[0].ip_configuration[0].private_ip_address }],
    [for range in each.value.ranges : { name = "internet-${split(".", range)[0]}", address_prefix = range, next_hop_type = "Internet", next_hop_in_ip_address = null }],
  )
}

resource "azurerm_subnet_route_table_association" "this" {
  for_each = local.routes

  subnet_id      = each.value.subnet_id
  route_table_id = azurerm_route_table.this[each.key].id
}
