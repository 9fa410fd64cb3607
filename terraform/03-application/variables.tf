variable "state_account" {
  description = "Storage account of the state; the Makefile passes STATE_ACCOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.state_account))
    error_message = "state_account is \"${var.state_account}\": expected the name that you gave to `make state`, 3 to 24 lower-case letters and digits."
  }
}

variable "knative_version" {
  description = "Version of Knative, which its operator installs. Upgrade by one minor version at a time."
  type        = string
  default     = "1.23.0"

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.knative_version))
    error_message = "knative_version is \"${var.knative_version}\": expected a version such as 1.23.0."
  }
}

variable "dns_zone" {
  description = "A DNS zone in Azure under which Warble is edge.warble.ZONE, with a certificate of Let's Encrypt. Without a zone, its name is made from the public address by sslip.io, with HTTP only."
  type        = object({ name = string, resource_group = string })
  default     = null

  validation {
    condition     = var.dns_zone == null || can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\\.[a-z]{2,}$", var.dns_zone.name))
    error_message = "dns_zone.name is \"${try(var.dns_zone.name, "")}\": expected a domain such as example.org."
  }
}

variable "certificate_email" {
  description = "Email address to which Let's Encrypt writes before a certificate ends. Needed with a dns_zone."
  type        = string
  default     = null

  validation {
    condition     = var.dns_zone == null || can(regex("^[^@ ]+@[^@ ]+$", var.certificate_email))
    error_message = "certificate_email is ${jsonencode(var.certificate_email)}: expected an address, because there is a dns_zone."
  }
}

variable "broker" {
  description = "What carries events: \"memory\", which loses them with its pod, or \"kafka\", at kafka_bootstrap_servers."
  type        = string
  default     = "memory"

  validation {
    condition     = contains(["memory", "kafka"], var.broker)
    error_message = "broker is \"${var.broker}\": expected memory or kafka."
  }
}

variable "mail" {
  description = "Sender of mail, and port of the mail server; null for no mail. Put the server's URL, with its login, into the vault by hand, as smtp-url."
  type        = object({ from = string, port = optional(number, 587) })
  default     = null

  validation {
    condition     = var.mail == null || try(can(regex("^[^<>@]*<?[^<>@ ]+@[^<>@ ]+>?$", var.mail.from)) && contains([25, 465, 587, 2525], var.mail.port), false)
    error_message = "mail is ${jsonencode(var.mail)}: expected from = \"Warble <warble@example.org>\", and a port of 25, 465, 587 or 2525."
  }
}

variable "kafka_sasl" {
  description = "Whether Kafka needs a login, like Event Hubs. Put its connection string into the vault by hand, as kafka-connection."
  type        = bool
  default     = false

  validation {
    condition     = !var.kafka_sasl || var.broker == "kafka"
    error_message = "kafka_sasl is true, and broker is \"${var.broker}\": expected kafka."
  }
}

variable "kafka_bootstrap_servers" {
  description = "host:port of Kafka's servers, for example of an Event Hubs namespace or a Strimzi cluster."
  type        = list(string)
  default     = []

  validation {
    condition     = (var.broker == "kafka") == (length(var.kafka_bootstrap_servers) > 0) && alltrue([for s in var.kafka_bootstrap_servers : can(regex("^[a-z0-9.-]+:[0-9]+$", s))])
    error_message = "kafka_bootstrap_servers are ${jsonencode(var.kafka_bootstrap_servers)}: expected at least one host:port if broker is kafka, and none otherwise."
  }
}
