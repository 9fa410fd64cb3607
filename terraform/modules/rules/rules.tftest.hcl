# Tests the module on the real files of rules.
variables {
  folder     = "../../04-observability/rules"
  repository = "https://github.com/OWNER/REPO"
}

run "every_alert_leads_to_its_page" {
  command = plan

  assert {
    condition = length(output.files) == length(fileset(var.folder, "*.yaml")) && length(flatten([
      for file in values(output.files) : [for group in file.groups : [for rule in group.rules : rule.alert if can(rule.alert)]]
    ])) > 10
    error_message = "files: ${join(", ", keys(output.files))}"
  }
  assert {
    condition = alltrue(flatten([
      for file in values(output.files) : [
        for group in file.groups : [
          for rule in group.rules : rule.annotations.runbook_url == "https://github.com/OWNER/REPO/blob/HEAD/docs/runbooks/${rule.alert}.md" if can(rule.alert)
        ]
      ]
    ]))
    error_message = "an alert has another runbook_url"
  }
}

run "without_a_repository_it_is_the_path" {
  command = plan
  variables {
    repository = null
  }

  assert {
    condition = alltrue(flatten([
      for file in values(output.files) : [
        for group in file.groups : [for rule in group.rules : startswith(rule.annotations.runbook_url, "docs/runbooks/") if can(rule.alert)]
      ]
    ]))
    error_message = "an alert has another runbook_url"
  }
}

run "an_invalid_url" {
  command = plan
  variables {
    repository = "github.com/OWNER/REPO/"
  }

  expect_failures = [var.repository]
}
