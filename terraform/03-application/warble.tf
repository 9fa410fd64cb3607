# The same namespace as in knative/100-namespace.yaml, which `make deploy` applies. It is also here, because it must have the secrets before
# the first deployment.
resource "kubernetes_namespace_v1" "warble" {
  metadata {
    name   = "warble"
    labels = { "pod-security.kubernetes.io/enforce" = "restricted" }
  }

  lifecycle {
    ignore_changes = [metadata[0].annotations, metadata[0].labels] # `make deploy` and Knative add some
  }
}

resource "helm_release" "external_secrets" {
  name             = "external-secrets"
  namespace        = "external-secrets" # 01-cluster lets the account of this name, in this namespace, read the vault
  create_namespace = true
  repository       = "https://charts.external-secrets.io"
  chart            = "external-secrets"
  version          = "2.10.0"
  atomic           = true

  values = [yamlencode({
    serviceAccount = {
      name        = "external-secrets"
      annotations = { "azure.workload.identity/client-id" = local.cluster.secrets_client_id }
    }
    podLabels = { "azure.workload.identity/use" = "true" }
  })]
}

resource "helm_release" "warble" {
  name      = "warble"
  namespace = kubernetes_namespace_v1.warble.metadata[0].name
  chart     = "${path.module}/charts/warble"

  values = [yamlencode({
    checksum  = local.checksums.warble
    kafkaSasl = var.kafka_sasl
    vault     = { uri = local.cluster.vault.uri, tenant = local.cluster.tenant_id }
    database  = local.database
    mail      = { from = try(var.mail.from, ""), port = try(var.mail.port, 587), public_url = local.url }
  })]

  depends_on = [helm_release.external_secrets, helm_release.knative]
}
