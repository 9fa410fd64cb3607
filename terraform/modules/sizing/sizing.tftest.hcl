variables {
  sku         = "GP_Standard_D2ads_v5"
  pods        = 152
  connections = 4
  logins      = 3
}

run "the_default" {
  command = plan

  assert {
    condition     = output.clients == 1012 && output.pool == 10
    error_message = "clients ${output.clients}, pool ${output.pool}"
  }
}

run "a_larger_machine_has_larger_pools" {
  command = plan
  variables {
    sku = "GP_Standard_D16ads_v5"
  }

  assert {
    condition     = output.pool == 42
    error_message = "pool ${output.pool}"
  }
}

run "more_clients_than_pgbouncer_takes" {
  command = plan
  variables {
    pods = 10000
  }

  expect_failures = [output.clients]
}

run "more_pools_than_connections" {
  command = plan
  variables {
    logins = 80
  }

  expect_failures = [output.pool]
}

run "an_invalid_size" {
  command = plan
  variables {
    sku         = "B_Standard_B1ms"
    pods        = 0
    connections = 1.5
    logins      = -1
  }

  expect_failures = [var.sku, var.pods, var.connections, var.logins]
}
