locals {
  group  = { name = azurerm_resource_group.this.name, location = azurerm_resource_group.this.location }
  github = "https://token.actions.githubusercontent.com"
}

# External Secrets uses this identity to bring the vault's secrets into the cluster. It may only read them.
module "secrets_reader" {
  source = "../modules/identity"

  name           = "${module.names.base}-secrets"
  resource_group = local.group
  tags           = module.names.tags

  subjects = {
    external-secrets = {
      issuer  = azurerm_kubernetes_cluster.this.oidc_issuer_url
      subject = "system:serviceaccount:external-secrets:external-secrets"
    }
  }
  roles = {
    read = { role = "Key Vault Secrets User", scope = azurerm_key_vault.this.id }
  }
}

# The roles of GitHub's workflows. The environment in which a workflow runs decides which of these it has. GitHub stores no secret for them.
locals {
  github_roles = {
    release = {
      push    = { role = "AcrPush", scope = azurerm_container_registry.this.id }
      connect = { role = "Azure Kubernetes Service Cluster User Role", scope = azurerm_kubernetes_cluster.this.id }
      deploy  = { role = "Azure Kubernetes Service RBAC Cluster Admin", scope = azurerm_kubernetes_cluster.this.id } # a release brings CRDs and roles
    }
    # A pull request's plan reads the state, which contains no secret. It does not refresh it from Azure: see the workflow infrastructure.
    plan = {
      state = { role = "Storage Blob Data Reader", scope = var.state_account_id }
      read  = { role = "Reader", scope = "/subscriptions/${var.subscription_id}" }
    }
    # A plan that will be applied also reads the password of the database's owner. The workflow drift uses this identity too, and reads the
    # resources themselves. The environment admits only the branch main.
    review = {
      state   = { role = "Storage Blob Data Reader", scope = var.state_account_id }
      read    = { role = "Reader", scope = "/subscriptions/${var.subscription_id}" }
      secrets = { role = "Key Vault Secrets User", scope = azurerm_key_vault.this.id }
    }
    # An apply also assigns roles, so it may do anything in the resource group, and assign roles on the state and the DNS zone. Only an
    # owner of the subscription can assign the roles on the subscription. The environment's reviewers are the only protection.
    apply = merge({
      state   = { role = "Storage Blob Data Contributor", scope = var.state_account_id }
      assign  = { role = "Role Based Access Control Administrator", scope = var.state_account_id }
      read    = { role = "Reader", scope = "/subscriptions/${var.subscription_id}" }
      own     = { role = "Owner", scope = azurerm_resource_group.this.id }
      secrets = { role = "Key Vault Secrets Officer", scope = azurerm_key_vault.this.id }
      cluster = { role = "Azure Kubernetes Service RBAC Cluster Admin", scope = azurerm_kubernetes_cluster.this.id }
      }, var.dns_zone_id == null ? {} : {
      records        = { role = "DNS Zone Contributor", scope = var.dns_zone_id }
      assign_records = { role = "Role Based Access Control Administrator", scope = var.dns_zone_id }
    })
  }
}

module "github" {
  source   = "../modules/identity"
  for_each = var.github_subjects

  name           = "${module.names.base}-github-${each.key}"
  resource_group = local.group
  tags           = module.names.tags
  subjects       = { github = { issuer = local.github, subject = each.value } }
  roles          = local.github_roles[each.key]
}
