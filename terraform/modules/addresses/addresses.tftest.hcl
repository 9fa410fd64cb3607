variables {
  network  = "10.40.0.0/16"
  pods     = "10.244.0.0/16"
  services = "10.96.0.0/16"
}

run "the_default" {
  command = plan

  assert {
    condition     = output.nodes == "10.40.0.0/18" && output.database == "10.40.255.0/24" && output.dns == "10.96.0.10"
    error_message = "nodes ${output.nodes}, database ${output.database}, dns ${output.dns}"
  }
  assert {
    condition     = output.gateways == "10.40.254.0/24" && output.firewall == "10.40.253.0/26"
    error_message = "gateways ${output.gateways}, firewall ${output.firewall}"
  }
}

run "the_smallest_network" {
  command = plan
  variables {
    network = "192.168.16.0/20"
  }

  assert {
    condition     = output.nodes == "192.168.16.0/22" && output.database == "192.168.31.0/24" && output.gateways == "192.168.30.0/24" && output.firewall == "192.168.29.0/26"
    error_message = "nodes ${output.nodes}, database ${output.database}, gateways ${output.gateways}, firewall ${output.firewall}"
  }
}

run "the_largest_network" {
  command = plan
  variables {
    network  = "10.0.0.0/8"
    pods     = "172.16.0.0/14"
    services = "192.168.0.0/24"
  }

  assert {
    condition     = output.nodes == "10.0.0.0/10" && output.database == "10.255.255.0/24"
    error_message = "nodes ${output.nodes}, database ${output.database}"
  }
}

run "ranges_that_overlap" {
  command = plan
  variables {
    services = "10.40.128.0/17"
    pods     = "10.40.0.0/16"
  }

  expect_failures = [output.nodes]
}

run "a_range_within_another" {
  command = plan
  variables {
    network  = "10.0.0.0/8"
    services = "10.96.0.0/16"
    pods     = "172.16.0.0/14"
  }

  expect_failures = [output.nodes]
}

run "not_the_first_address" {
  command = plan
  variables {
    network = "10.40.1.0/16"
  }

  expect_failures = [var.network]
}

run "no_addresses" {
  command = plan
  variables {
    network  = "10.40.0.0"
    pods     = "10.244.0.0/24"
    services = "fd00::/108"
  }

  expect_failures = [var.network, var.pods, var.services]
}
