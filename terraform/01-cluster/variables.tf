variable "subscription_id" {
  description = "Id of the Azure subscription that pays."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.subscription_id))
    error_message = "subscription_id is \"${var.subscription_id}\": expected a UUID in lower case, as `az account show --query id` prints it."
  }
}

variable "project" {
  description = "The beginning of every name."
  type        = string
  default     = "warble"
}

variable "environment" {
  description = "Distinguishes the installations of a subscription."
  type        = string
  default     = "production"
}

variable "location" {
  description = "Region of Azure, with three availability zones."
  type        = string
  default     = "westeurope"

  validation {
    condition     = can(regex("^[a-z0-9]+$", var.location))
    error_message = "location is \"${var.location}\": expected a region's short name, such as westeurope."
  }
}

variable "addresses" {
  description = "Addresses of the virtual network, of the pods and of Kubernetes' services."
  type        = object({ network = string, pods = string, services = string })
  default     = { network = "10.40.0.0/16", pods = "10.244.0.0/16", services = "10.96.0.0/16" }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes. Azure installs patches."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version)) && try(tonumber(split(".", var.kubernetes_version)[1]) >= 35, false)
    error_message = "kubernetes_version is \"${var.kubernetes_version}\": expected a minor version, 1.35 or later, because AKS ended 1.34 in November 2026."
  }
}

variable "nodes" {
  description = "Nodes of the cluster: the machine's size, and the smallest and greatest number."
  type        = object({ size = string, min = number, max = number })
  default     = { size = "Standard_D4as_v5", min = 2, max = 6 }

  validation {
    condition     = startswith(var.nodes.size, "Standard_")
    error_message = "nodes.size is \"${var.nodes.size}\": expected a machine's size, such as Standard_D4as_v5."
  }
  validation {
    condition     = var.nodes.min >= 2 && var.nodes.min <= var.nodes.max && var.nodes.max <= 100
    error_message = "nodes are ${var.nodes.min} to ${var.nodes.max}: expected at least 2, so that one may fail, and at most 100."
  }
}

variable "administrators" {
  description = "Object ids of the Entra groups whose members administer the cluster and the vault."
  type        = set(string)

  validation {
    condition     = length(var.administrators) > 0 && alltrue([for id in var.administrators : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", id))])
    error_message = "administrators are ${jsonencode(var.administrators)}: expected the object id of at least one group, because the cluster has no other accounts."
  }
}

variable "authorized_ranges" {
  description = "Addresses that may reach the API server and the vault from outside. Empty allows all, because GitHub's runners have no fixed addresses."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.authorized_ranges : can(cidrhost(range, 0))])
    error_message = "authorized_ranges are ${jsonencode(var.authorized_ranges)}: expected ranges such as 198.51.100.0/24."
  }
}

variable "github_subjects" {
  description = "Subjects of GitHub's tokens, by the rights that they get: release (push images and deploy), plan, review and apply (these stacks). Since July 2026 they have ids: repo:OWNER@ID/REPO@ID:environment:NAME. Empty without GitHub."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.github_subjects), ["release", "plan", "review", "apply"])) == 0
    error_message = "github_subjects has ${join(", ", setsubtract(keys(var.github_subjects), ["release", "plan", "review", "apply"]))}: expected release, plan, review and apply."
  }
  validation {
    condition     = alltrue([for subject in values(var.github_subjects) : can(regex("^repo:[^/:*]+/[^/:*]+:[^*]+$", subject))])
    error_message = "github_subjects are ${jsonencode(var.github_subjects)}: expected the form repo:OWNER@ID/REPO@ID:environment:NAME."
  }
}

variable "state_account_id" {
  description = "Resource id of the storage account with the state, which GitHub's plan reads and apply writes. Needed only with github_subjects."
  type        = string
  default     = null

  validation {
    condition     = var.state_account_id == null ? length(var.github_subjects) == 0 : can(regex("/providers/Microsoft.Storage/storageAccounts/[a-z0-9]{3,24}$", var.state_account_id))
    error_message = "state_account_id is ${jsonencode(var.state_account_id)}: expected the id that `make state` prints, because there are github_subjects."
  }
}

variable "nat_gateway" {
  description = "Whether the cluster reaches the internet through a NAT gateway, with one address and 64512 connections, instead of the load balancer. This cannot be changed for a cluster."
  type        = bool
  default     = false
}

variable "system_pool" {
  description = "A separate pool of nodes for Azure's own pods: size, min and max, as in nodes. All other pods then run in the pool that nodes describes. Null for a single pool. If you set this on an existing cluster, pods wait some minutes for the new pool."
  type        = object({ size = string, min = number, max = number })
  default     = null

  validation {
    condition     = var.system_pool == null || try(startswith(var.system_pool.size, "Standard_") && var.system_pool.min >= 2 && var.system_pool.min <= var.system_pool.max && var.system_pool.max <= 100, false)
    error_message = "system_pool is ${jsonencode(var.system_pool)}: expected a machine's size, such as Standard_D2as_v5, and 2 to 100 nodes."
  }
}

variable "firewall" {
  description = "An Azure Firewall for requests of nodes and pods to the internet. It allows the hosts that the cluster itself needs, the registries of its images, and the hosts that you list: https lists hosts on port 443, such as *.datadoghq.eu, or github.com for Kafka's manifests; tcp has other hosts with their port, for example a mail server or Kafka. gateways are the nodes of the ingress. Null for no firewall. This cannot be changed for a cluster."
  type = object({
    https    = optional(set(string), [])
    tcp      = optional(map(number), {})
    gateways = optional(object({ size = string, min = number, max = number }), { size = "Standard_D2as_v5", min = 2, max = 3 })
  })
  default = null

  validation {
    condition     = var.firewall == null || try(alltrue([for host in setunion(var.firewall.https, keys(var.firewall.tcp)) : can(regex("^(\\*\\.)?([a-z0-9-]+\\.)+[a-z]{2,}$", host))]), false)
    error_message = "firewall is ${jsonencode(var.firewall)}: expected hosts such as events.pagerduty.com or *.datadoghq.eu, and no URLs."
  }
  validation {
    condition     = var.firewall == null || try(alltrue([for host, port in var.firewall.tcp : !startswith(host, "*") && port >= 1 && port <= 65535]), false)
    error_message = "firewall.tcp is ${jsonencode(try(var.firewall.tcp, null))}: expected a port for each host, such as { \"smtp.example.org\" = 587 }, and no * in a host."
  }
  validation {
    condition     = var.firewall == null || try(startswith(var.firewall.gateways.size, "Standard_") && var.firewall.gateways.min >= 2 && var.firewall.gateways.min <= var.firewall.gateways.max, false)
    error_message = "firewall.gateways are ${jsonencode(try(var.firewall.gateways, null))}: expected a machine's size, and at least 2 nodes, so that one may fail."
  }
  validation {
    condition     = var.firewall == null || !var.nat_gateway
    error_message = "firewall is set, and nat_gateway is true: expected one way out."
  }
}

variable "azure_policies" {
  description = "With Audit, Azure reports pods that break Kubernetes' standard \"baseline\"; with Deny, it refuses them; with null, neither."
  type        = string
  default     = null

  validation {
    condition     = var.azure_policies == null || contains(["Audit", "Deny"], coalesce(var.azure_policies, "none"))
    error_message = "azure_policies is ${jsonencode(var.azure_policies)}: expected Audit or Deny."
  }
}

variable "private_api_server" {
  description = "Whether the API server has an address only in the network. Then the next stacks and deployments must be applied from within the network."
  type        = bool
  default     = false

  validation {
    condition     = !var.private_api_server || length(var.authorized_ranges) == 0
    error_message = "private_api_server is true, and authorized_ranges are ${jsonencode(var.authorized_ranges)}: expected none, because a private API server has no public address."
  }
}

variable "private_endpoints" {
  description = "Whether the registry and the vault have addresses only in the network. Then images must be pushed, and stacks applied, from within the network."
  type        = bool
  default     = false
}

variable "defender" {
  description = "Whether Defender watches the nodes. It costs money for each core, and needs log_analytics."
  type        = bool
  default     = false

  validation {
    condition     = !var.defender || var.log_analytics
    error_message = "defender is true, and log_analytics is false: expected both, because Defender writes there."
  }
}

variable "budget" {
  description = "A budget: the amount in US dollars a month, the first day of its first month (start), and the email addresses to which Azure writes when four fifths are spent, and when it expects that all will be spent. Null for no budget. A budget stops nothing."
  type        = object({ amount = number, emails = list(string), start = string })
  default     = null

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && length(var.budget.emails) > 0 && can(regex("^20[0-9]{2}-[0-9]{2}-01T00:00:00Z$", var.budget.start)), false)
    error_message = "budget is ${jsonencode(var.budget)}: expected an amount, at least one address, and as start the first of a month, such as 2026-12-01T00:00:00Z."
  }
}

variable "dns_zone_id" {
  description = "Resource id of the DNS zone of 03-application, so that GitHub's apply may write to it. Needed only with github_subjects and a dns_zone."
  type        = string
  default     = null

  validation {
    condition     = var.dns_zone_id == null || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.Network/dnsZones/[^/]+$", var.dns_zone_id))
    error_message = "dns_zone_id is ${jsonencode(var.dns_zone_id)}: expected the id that `az network dns zone show --query id` prints."
  }
}

variable "log_analytics" {
  description = "Whether the cluster's audit log and the containers' output go to Log Analytics, which costs money for each gigabyte. Prometheus and Datadog do not need it."
  type        = bool
  default     = false
}
