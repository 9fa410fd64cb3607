mock_provider "azurerm" {}

variables {
  name           = "warble-production-deploy"
  resource_group = { name = "warble-production", location = "westeurope" }
  tags           = { project = "warble" }
  subjects = {
    release = { issuer = "https://token.actions.githubusercontent.com", subject = "repo:o@1/r@2:environment:production" }
  }
  roles = {
    push = { role = "AcrPush", scope = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g" }
  }
}

run "one_credential_a_subject_and_one_assignment_a_role" {
  command = plan

  assert {
    condition     = azurerm_federated_identity_credential.this["release"].subject == "repo:o@1/r@2:environment:production"
    error_message = "subject ${azurerm_federated_identity_credential.this["release"].subject}"
  }
  assert {
    condition     = azurerm_federated_identity_credential.this["release"].audience == tolist(["api://AzureADTokenExchange"])
    error_message = "another audience than Azure's"
  }
  assert {
    condition     = azurerm_role_assignment.this["push"].role_definition_name == "AcrPush"
    error_message = "role ${azurerm_role_assignment.this["push"].role_definition_name}"
  }
}

run "wildcard_subjects_are_refused" {
  command = plan
  variables {
    subjects = {
      any   = { issuer = "https://token.actions.githubusercontent.com", subject = "repo:o/r:*" }
      plain = { issuer = "http://issuer.example.org", subject = "somebody" }
    }
  }

  expect_failures = [var.subjects]
}
