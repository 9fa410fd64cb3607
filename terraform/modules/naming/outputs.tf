output "base" {
  description = "Name of things that are unique within a resource group, such as the network and the cluster."
  value       = local.base
}

output "registry" {
  description = "Name of the container registry: at most 50 letters and digits."
  value       = "${var.project}${var.environment}${local.suffix}"
}

output "vault" {
  description = "Name of the Key Vault: at most 24 characters."
  value       = "${substr(local.base, 0, 17)}-${local.suffix}"
}

output "database" {
  description = "Name of the database server: at most 63 characters."
  value       = "${local.base}-${local.suffix}"
}

output "tags" {
  description = "Tags of everything, so that the bill shows the costs of each installation."
  value       = { project = var.project, environment = var.environment, managed-by = "terraform" }
}
