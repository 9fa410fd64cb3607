# Names that Azure takes: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules. Those of a
# registry, a vault and a database server are host names of all of Azure, so they end in a hash of the subscription, which
# is the same each time.
locals {
  base   = "${var.project}-${var.environment}"
  suffix = substr(sha256("${var.project}/${var.environment}/${var.unique}"), 0, 6)
}
