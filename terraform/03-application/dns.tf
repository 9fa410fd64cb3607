locals {
  domain = var.dns_zone == null ? "${local.cluster.ingress.address}.sslip.io" : var.dns_zone.name
  host   = "edge.${kubernetes_namespace_v1.warble.metadata[0].name}.${local.domain}"
  url    = "${var.dns_zone == null ? "http" : "https"}://${local.host}"
}

# Knative's names are SERVICE.NAMESPACE.DOMAIN. Only the edge is public, so only its name needs a record.
resource "azurerm_dns_a_record" "edge" {
  count = var.dns_zone == null ? 0 : 1

  name                = "edge.warble"
  zone_name           = var.dns_zone.name
  resource_group_name = var.dns_zone.resource_group
  ttl                 = 300
  records             = [local.cluster.ingress.address]
}
