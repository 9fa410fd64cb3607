# Azure's version of Kubernetes' standard "baseline", for every namespace that is not excluded. Kubernetes itself enforces the stricter
# standard "restricted" in the namespace warble. monitoring is excluded because node-exporter and Datadog's agent need access to the nodes.
resource "azurerm_resource_group_policy_assignment" "baseline" {
  count = var.azure_policies == null ? 0 : 1

  name                 = "${module.names.base}-baseline"
  display_name         = "Kubernetes cluster pod security baseline standards for Linux-based workloads"
  resource_group_id    = azurerm_resource_group.this.id
  policy_definition_id = "/providers/Microsoft.Authorization/policySetDefinitions/a8640138-9b0a-4a28-b8cb-1666c838647d"

  parameters = jsonencode({
    effect             = { value = var.azure_policies }
    excludedNamespaces = { value = ["kube-system", "gatekeeper-system", "azure-arc", "monitoring"] }
  })
}
