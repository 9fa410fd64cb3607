output "nodes" {
  description = "Addresses of the cluster's nodes: the first quarter of the network."
  value       = local.nodes

  precondition {
    condition     = length(local.overlaps) == 0
    error_message = "${join(", ", local.overlaps)} overlap: expected three ranges without common addresses."
  }
}

output "database" {
  description = "Addresses of the subnet that is delegated to the database: the last 256 of the network."
  value       = local.database
}

output "gateways" {
  description = "Addresses of the ingress's own nodes, if there are any: the 256 before the database's."
  value       = local.gateways
}

output "firewall" {
  description = "Addresses of Azure's firewall, if there is one: the first 64 of the 256 before the gateways'."
  value       = local.firewall
}

output "dns" {
  description = "Address of the cluster's name server: the tenth of the services', as usual in Kubernetes."
  value       = cidrhost(var.services, 10)
}
