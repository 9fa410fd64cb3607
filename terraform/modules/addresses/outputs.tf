output "nodes" {
  description = "Of the subnet of the cluster's nodes: the first quarter of the network."
  value       = local.nodes

  precondition {
    condition     = length(local.overlaps) == 0
    error_message = "${join(", ", local.overlaps)} overlap: expected three ranges that have no address in common."
  }
}

output "database" {
  description = "Of the subnet that is delegated to the database: the last 256 addresses of the network."
  value       = local.database
}

output "gateways" {
  description = "Of the subnet of the nodes that the public comes in by, if they are apart: the 256 addresses before the database's."
  value       = local.gateways
}

output "firewall" {
  description = "Of the subnet of Azure's firewall, if there is one: the first 64 of the 256 addresses before the gateways'."
  value       = local.firewall
}

output "dns" {
  description = "Of the cluster's name server: the tenth of the services', as Kubernetes has it."
  value       = cidrhost(var.services, 10)
}
