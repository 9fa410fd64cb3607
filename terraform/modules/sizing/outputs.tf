output "clients" {
  description = "max_client_conn of PgBouncer: every connection of every pod, half of that again while a release replaces the pods, and 100 for people."
  value       = ceil(local.clients * 1.5) + 100

  precondition {
    condition     = ceil(local.clients * 1.5) + 100 <= 50000
    error_message = "${var.pods} pods with ${var.connections} connections each are more than PgBouncer's limit of 50000 clients on Azure: expected fewer, or an elastic cluster."
  }
}

output "connections" {
  description = "max_connections of the server, which Azure sets."
  value       = local.machine.connections
}

output "pool" {
  description = "default_pool_size of PgBouncer: connections to the server for each login."
  value       = local.pool

  precondition {
    condition     = local.pool * var.logins <= local.machine.connections * 0.8
    error_message = "${var.logins} pools of ${local.pool} connections leave less than a fifth of the ${local.machine.connections} that ${var.sku} takes to the owner, backups and Azure: expected fewer logins, or a larger machine."
  }
}
