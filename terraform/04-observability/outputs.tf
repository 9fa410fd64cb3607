output "grafana" {
  description = "The command that opens Grafana on http://localhost:3000. The password of admin is in the vault, as grafana-admin."
  value       = "kubectl -n ${kubernetes_namespace_v1.this.metadata[0].name} port-forward service/${helm_release.prometheus.name}-grafana 3000:80"
}
