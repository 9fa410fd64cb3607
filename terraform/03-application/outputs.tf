output "url" {
  description = "Where Warble is, once `make deploy` has put it there."
  value       = "${var.dns_zone == null ? "http" : "https"}://${local.host}"
}

output "secret_store" {
  description = "Name of the ClusterSecretStore that reads the vault."
  value       = "vault"

  depends_on = [helm_release.warble]
}
