output "base" {
  description = "Of what is unique within a resource group, such as the network and the cluster."
  value       = local.base
}

output "registry" {
  description = "Of the container registry: letters and digits, 50 at most."
  value       = "${var.project}${var.environment}${local.suffix}"
}

output "vault" {
  description = "Of the Key Vault: 24 characters at most."
  value       = "${substr(local.base, 0, 17)}-${local.suffix}"
}

output "database" {
  description = "Of the database server: 63 characters at most."
  value       = "${local.base}-${local.suffix}"
}

output "tags" {
  description = "On everything, so that the bill can be read by installation."
  value       = { project = var.project, environment = var.environment, managed-by = "terraform" }
}
