resource "kubernetes_namespace_v1" "this" {
  metadata {
    name = "monitoring"
  }
}

module "grafana_password" {
  source = "../modules/secret"

  name     = "grafana-admin"
  vault_id = local.cluster.vault.id
  edition  = var.grafana_password_edition
  tags     = local.cluster.names.tags
}

resource "helm_release" "secrets" {
  name      = "secrets"
  namespace = kubernetes_namespace_v1.this.metadata[0].name
  chart     = "${path.module}/charts/secrets"

  values = [yamlencode({
    # Helm notices only changes of a chart's version and values. This checksum is a value, so Helm also notices changes of the chart's files.
    checksum = sha256(join("", [for file in fileset("${path.module}/charts/secrets", "**") : filesha256("${path.module}/charts/secrets/${file}")]))
    store    = data.terraform_remote_state.application.outputs.secret_store
    secrets = merge(
      { grafana-admin = { from = module.grafana_password.name, key = "admin-password", also = { admin-user = "admin" } } },
      { for name in local.alert_secrets : name => { from = name, key = "value", also = {} } },
      var.datadog == null ? {} : { datadog = { from = "datadog-api-key", key = "api-key", also = {} } },
    )
  })]
}
