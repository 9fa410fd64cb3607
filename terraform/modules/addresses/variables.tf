variable "network" {
  description = "Addresses of the virtual network. They must be free in every network that is peered with it."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.network)) && try(tonumber(split("/", var.network)[1]) >= 8 && tonumber(split("/", var.network)[1]) <= 20, false)
    error_message = "network is \"${var.network}\": expected IPv4 addresses such as 10.40.0.0/16, between /8 and /20."
  }
  validation {
    condition     = !can(cidrnetmask(var.network)) || try(cidrsubnet(var.network, 0, 0) == var.network, false)
    error_message = "network is \"${var.network}\": expected its first address, ${try(cidrsubnet(var.network, 0, 0), "such as 10.40.0.0/16")}."
  }
}

variable "pods" {
  description = "Addresses of the pods. An overlay hides them from the virtual network, so every cluster may use the same."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.pods)) && try(tonumber(split("/", var.pods)[1]) <= 18, false)
    error_message = "pods is \"${var.pods}\": expected IPv4 addresses such as 10.244.0.0/16, /18 or more, because each node takes a /24."
  }
}

variable "services" {
  description = "Addresses of Kubernetes' services, which exist only within the cluster."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.services)) && try(tonumber(split("/", var.services)[1]) >= 12 && tonumber(split("/", var.services)[1]) <= 24, false)
    error_message = "services is \"${var.services}\": expected IPv4 addresses such as 10.96.0.0/16, between /12 and /24."
  }
}
