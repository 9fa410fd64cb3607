variables {
  project     = "warble"
  environment = "production"
  unique      = "00000000-0000-0000-0000-000000000000"
}

run "azure_accepts_the_names" {
  command = plan

  assert {
    condition     = can(regex("^[a-z0-9]{5,50}$", output.registry))
    error_message = "registry: ${output.registry}"
  }
  assert {
    condition     = can(regex("^[a-z](-?[a-z0-9])+$", output.vault)) && length(output.vault) <= 24
    error_message = "vault: ${output.vault}"
  }
  assert {
    condition     = can(regex("^[a-z][a-z0-9-]{1,61}[a-z0-9]$", output.database))
    error_message = "database: ${output.database}"
  }
}

run "the_longest_names_fit" {
  command = plan
  variables {
    project     = "abcdefghij"
    environment = "klmnopqrst"
  }

  assert {
    condition     = can(regex("^[a-z](-?[a-z0-9])+$", output.vault)) && length(output.vault) == 24
    error_message = "vault: ${output.vault}"
  }
}

run "another_subscription_has_other_names" {
  command = plan
  variables {
    unique = "11111111-1111-1111-1111-111111111111"
  }

  assert {
    condition     = output.registry != run.azure_accepts_the_names.registry && output.base == run.azure_accepts_the_names.base
    error_message = "registry: ${output.registry}, base: ${output.base}"
  }
}

run "what_azure_does_not_take" {
  command = plan
  variables {
    project     = "Warble"
    environment = "pre-production"
    unique      = ""
  }

  expect_failures = [var.project, var.environment, var.unique]
}
