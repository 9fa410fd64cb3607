locals {
  size  = tonumber(split("/", var.network)[1])
  nodes = cidrsubnet(var.network, 2, 0)
  # A flexible server needs at least a /28, and an elastic cluster one address per node. A /24 is enough for both.
  database = cidrsubnet(var.network, 24 - local.size, pow(2, 24 - local.size) - 1)
  gateways = cidrsubnet(var.network, 24 - local.size, pow(2, 24 - local.size) - 2)
  firewall = cidrsubnet(var.network, 26 - local.size, 4 * (pow(2, 24 - local.size) - 3)) # Azure requires a /26

  # First and last address of each range, as numbers.
  ranges = {
    for name, range in { network = var.network, pods = var.pods, services = var.services } : name => {
      first                      = sum([for i, octet in split(".", cidrhost(range, 0)) : tonumber(octet) * pow(256, 3 - i)])
      last                       = sum([for i, octet in split(".", cidrhost(range, -1)) : tonumber(octet) * pow(256, 3 - i)])
    }
  }
  overlaps = [
    for pair in [["network", "pods"], ["network", "services"], ["pods", "services"]] : join(" and ", pair)
    if local.ranges[pair[0]].first <= local.ranges[pair[1]].last && local.ranges[pair[1]].first <= local.ranges[pair[0]].last
  ]
}
