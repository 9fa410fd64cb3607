variable "state_account" {
  description = "Storage account of the state; the Makefile passes STATE_ACCOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.state_account))
    error_message = "state_account is \"${var.state_account}\": expected the name that `make state` was given, 3 to 24 lower-case letters and digits."
  }
}

variable "repository" {
  description = "Where this repository is on the web, as https://github.com/OWNER/REPO: alerts lead to the runbooks in it. Null leaves their paths in the alerts."
  type        = string
  default     = null

  validation {
    condition     = var.repository == null || can(regex("^https://[^ ]*[^ /]$", var.repository))
    error_message = "repository is \"${coalesce(var.repository, "null")}\": expected a URL as https://github.com/OWNER/REPO, without a slash at its end."
  }
}

variable "grafana_password_edition" {
  description = "A higher number gives Grafana's admin another password, which it has with its next pod."
  type        = number
  default     = 1

  validation {
    condition     = var.grafana_password_edition >= 1 && floor(var.grafana_password_edition) == var.grafana_password_edition
    error_message = "grafana_password_edition is ${var.grafana_password_edition}: expected a whole number from 1 up."
  }
}

variable "alerts" {
  description = "Where alerts go: pagerduty, slack, teams or webhook for what wakes somebody (page), for what waits for the morning (ticket), and for the heartbeat that is missed when the cluster is gone. Each key or URL is put into the vault by hand, as alert-page, alert-ticket, alert-heartbeat. Null for nobody."
  type        = object({ page = string, ticket = optional(string), heartbeat = optional(string) })
  default     = null

  validation {
    condition     = var.alerts == null || alltrue([for kind in values(coalesce(var.alerts, { page = null, ticket = null, heartbeat = null })) : kind == null || contains(["pagerduty", "slack", "teams", "webhook"], coalesce(kind, "none"))])
    error_message = "alerts are ${jsonencode(var.alerts)}: expected each as pagerduty, slack, teams or webhook."
  }
}

variable "datadog" {
  description = "Datadog's site and the environment that it files what it gets under; null for no agent. The API key is put into the vault by hand: docs/deploy.md says how."
  type        = object({ site = string, environment = string })
  default     = null

  validation {
    condition     = var.datadog == null || can(regex("^([a-z0-9]+\\.)?(datadoghq\\.(com|eu)|ddog-gov\\.com)$", var.datadog.site))
    error_message = "datadog.site is \"${try(var.datadog.site, "")}\": expected one as datadoghq.com or datadoghq.eu."
  }
}
