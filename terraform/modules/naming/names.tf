# Names that Azure accepts: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules. The names of a
# registry, a vault and a database server are host names, unique in all of Azure. So they end in a hash of the project, the environment and
# the subscription. The hash is always the same.
locals {
  base   = "${var.project}-${var.environment}"
  suffix = substr(sha256("${var.project}/${var.environment}/${var.unique}"), 0, 6)
}
