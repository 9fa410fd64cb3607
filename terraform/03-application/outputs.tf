output "url" {
  description = "URL of Warble, after `make deploy`."
  value       = local.url
}

output "secret_store" {
  description = "Name of the ClusterSecretStore that reads the vault."
  value       = "vault"

  depends_on = [helm_release.warble]
}

output "sink" {
  description = "URL to which relay posts events: K_SINK of `make deploy`."
  value       = "http://${var.broker == "kafka" ? "kafka-broker-ingress" : "broker-ingress"}.knative-eventing.svc.cluster.local/warble/events"
}
