# With DNS-01, a record in the zone proves to Let's Encrypt that the name is ours. HTTP-01 would fail: Kourier redirects every request to
# HTTPS, and does not answer there until there is a certificate.
module "certificates" {
  source = "../modules/identity"
  count  = var.dns_zone == null ? 0 : 1

  name           = "${local.cluster.names.base}-certificates"
  resource_group = local.cluster.resource_group
  tags           = local.cluster.names.tags
  subjects       = { cert-manager = { issuer = local.cluster.oidc_issuer, subject = "system:serviceaccount:cert-manager:cert-manager" } }
  roles = {
    records = {
      role  = "DNS Zone Contributor"
      scope = "/subscriptions/${local.cluster.subscription_id}/resourceGroups/${var.dns_zone.resource_group}/providers/Microsoft.Network/dnsZones/${var.dns_zone.name}"
    }
  }
}

# Helm notices only changes of a chart's version and values. This checksum is a value, so Helm also notices changes of our charts' files.
locals {
  checksums = { for chart in ["knative", "warble"] : chart => sha256(join("", [
    for file in fileset("${path.module}/charts/${chart}", "**") : filesha256("${path.module}/charts/${chart}/${file}")
  ])) }
}

resource "helm_release" "cert_manager" {
  name             = "cert-manager"
  namespace        = "cert-manager"
  create_namespace = true
  repository       = "https://charts.jetstack.io"
  chart            = "cert-manager"
  version          = "v1.21.2"
  atomic           = true

  values = [yamlencode({
    crds           = { enabled = true, keep = true }
    podLabels      = { "azure.workload.identity/use" = "true" }
    serviceAccount = { name = "cert-manager" } # module.certificates gives its rights to this account
    # By default, cert-manager asks the zone's own name servers whether the record exists. A firewall allows only Azure's name server.
    dns01RecursiveNameserversOnly = local.cluster.ingress.pool != null
  })]
}

resource "helm_release" "operator" {
  name             = "knative-operator"
  namespace        = "knative-operator"
  create_namespace = true
  repository       = "https://knative.github.io/operator"
  chart            = "knative-operator"
  version          = "v1.23.0"
  atomic           = true
}

# A chart of our own installs the custom resources. kubernetes_manifest would need their kinds in the cluster at plan time, before the
# operators that define these kinds are installed.
resource "helm_release" "knative" {
  name             = "knative"
  namespace        = "knative"
  create_namespace = true
  chart            = "${path.module}/charts/knative"
  timeout          = 900

  values = [yamlencode({
    checksum  = local.checksums.knative
    version   = var.knative_version
    domain    = local.domain
    tls       = var.dns_zone != null
    email     = var.certificate_email
    kafka     = var.kafka_bootstrap_servers
    kafkaSasl = var.kafka_sasl
    dns = var.dns_zone == null ? null : {
      zone          = var.dns_zone.name
      resourceGroup = var.dns_zone.resource_group
      subscription  = local.cluster.subscription_id
      clientId      = module.certificates[0].client_id
    }
    ingress = {
      address       = local.cluster.ingress.address
      name          = local.cluster.ingress.name
      resourceGroup = local.cluster.resource_group.name
      pool          = local.cluster.ingress.pool == null ? "" : local.cluster.ingress.pool
    }
  })]

  depends_on = [helm_release.operator, helm_release.cert_manager]
}
