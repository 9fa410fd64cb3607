locals {
  group  = { name = azurerm_resource_group.this.name, location = azurerm_resource_group.this.location }
  github = "https://token.actions.githubusercontent.com"
}

# Who brings the vault's secrets into the cluster: External Secrets, which may read and no more.
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

# What each of GitHub's workflows may do here, by the environment that it runs in. Nothing of it is stored on GitHub.
locals {
  github_roles = {
    release = {
      push    = { role = "AcrPush", scope = azurerm_container_registry.this.id }
      connect = { role = "Azure Kubernetes Service Cluster User Role", scope = azurerm_kubernetes_cluster.this.id }
      deploy  = { role = "Azure Kubernetes Service RBAC Cluster Admin", scope = azurerm_kubernetes_cluster.this.id } # a release brings CRDs and roles
    }
    # A plan reads the state, in which there is no secret, and asks Azure nothing: see the workflow infrastructure.
    plan = {
      state = { role = "Storage Blob Data Reader", scope = var.state_account_id }
      read  = { role = "Reader", scope = "/subscriptions/${var.subscription_id}" }
    }
    # A plan that is going to be applied reads the owner's password, too, and a look for drift what there is. Its environment takes
    # the branch main only.
    review = {
      state   = { role = "Storage Blob Data Reader", scope = var.state_account_id }
      read    = { role = "Reader", scope = "/subscriptions/${var.subscription_id}" }
      secrets = { role = "Key Vault Secrets User", scope = azurerm_key_vault.this.id }
    }
    # It gives roles, too, so it may do anything within the resource group, and gives those on the state and the DNS zone. Roles
    # on the subscription are an owner's to give. The environment's reviewers are what stands before it.
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
