mock_provider "azurerm" {}

variables {
  subscription_id = "00000000-0000-0000-0000-000000000000"
  administrators  = ["00000000-0000-0000-0000-000000000001"]
}

run "the_default" {
  command = plan

  assert {
    condition     = azurerm_kubernetes_cluster.this.local_account_disabled && azurerm_kubernetes_cluster.this.oidc_issuer_enabled && azurerm_kubernetes_cluster.this.workload_identity_enabled
    error_message = "the cluster has accounts of its own, or no identities for workloads"
  }
  assert {
    condition     = azurerm_subnet.nodes.address_prefixes == tolist(["10.40.0.0/18"]) && azurerm_kubernetes_cluster.this.network_profile[0].dns_service_ip == "10.96.0.10"
    error_message = "nodes are in ${jsonencode(azurerm_subnet.nodes.address_prefixes)}"
  }
  assert {
    condition     = !azurerm_container_registry.this.admin_enabled && azurerm_key_vault.this.rbac_authorization_enabled && azurerm_key_vault.this.purge_protection_enabled
    error_message = "the registry or the vault has a password of its own"
  }
  assert {
    condition     = length(azurerm_log_analytics_workspace.this) == 0 && length(module.github) == 0
    error_message = "there is a workspace, or an identity for GitHub"
  }
  assert {
    condition     = azurerm_key_vault.this.network_acls[0].default_action == "Allow"
    error_message = "the vault is closed to GitHub's runners"
  }
}

run "for_github_and_behind_a_fence" {
  command = plan
  variables {
    state_account_id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/state/providers/Microsoft.Storage/storageAccounts/warblestate"
    github_subjects   = { release = "repo:o@1/r@2:environment:production", plan = "repo:o@1/r@2:environment:plan" }
    authorized_ranges = ["198.51.100.0/24"]
    log_analytics     = true
  }

  assert {
    condition     = toset(keys(module.github)) == toset(["plan", "release"]) && length(azurerm_log_analytics_workspace.this) == 1
    error_message = "identities of ${jsonencode(keys(module.github))}"
  }
  assert {
    condition     = azurerm_key_vault.this.network_acls[0].default_action == "Deny"
    error_message = "the vault is open"
  }
}

run "what_is_wrong" {
  command = plan
  variables {
    subscription_id    = "mine"
    location           = "West Europe"
    kubernetes_version = "1.34.4"
    nodes              = { size = "D4", min = 1, max = 0 }
    administrators     = []
    authorized_ranges  = ["everywhere"]
    github_subjects    = { deploy = "repo:o/r:*" }
  }

  expect_failures = [
    var.subscription_id, var.location, var.kubernetes_version, var.nodes, var.administrators, var.authorized_ranges,
    var.github_subjects,
  ]
}

run "github_without_a_state" {
  command = plan
  variables {
    github_subjects = { plan = "repo:o@1/r@2:environment:plan" }
  }

  expect_failures = [var.state_account_id]
}
