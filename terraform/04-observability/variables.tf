variable "state_account" {
  description = "Storage account of the state; the Makefile passes STATE_ACCOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.state_account))
    error_message = "state_account is \"${var.state_account}\": expected the name that you gave to `make state`, 3 to 24 lower-case letters and digits."
  }
}

variable "repository" {
  description = "URL of this repository, such as https://github.com/OWNER/REPO, for the links from alerts to runbooks. With null, alerts have only the paths."
  type        = string
  default     = null

  validation {
    condition     = var.repository == null || can(regex("^https://[^ ]*[^ /]$", var.repository))
    error_message = "repository is \"${coalesce(var.repository, "null")}\": expected a URL such as https://github.com/OWNER/REPO, without a slash at its end."
  }
}

variable "grafana_password_edition" {
  description = "A higher number gives Grafana's admin a new password, which applies from Grafana's next pod."
  type        = number
  default     = 1

  validation {
    condition     = var.grafana_password_edition >= 1 && floor(var.grafana_password_edition) == var.grafana_password_edition
    error_message = "grafana_password_edition is ${var.grafana_password_edition}: expected a whole number from 1 up."
  }
}

variable "alerts" {
  description = "Receivers of alerts: pagerduty, slack, teams or webhook for alerts that wake somebody (page), for those that can wait until the morning (ticket), and for the heartbeat, which is missing if the cluster is gone. Put each key or URL into the vault by hand, as alert-page, alert-ticket and alert-heartbeat. Null for no receiver."
  type        = object({ page = string, ticket = optional(string), heartbeat = optional(string) })
  default     = null

  validation {
    condition     = var.alerts == null || alltrue([for kind in values(coalesce(var.alerts, { page = null, ticket = null, heartbeat = null })) : kind == null || contains(["pagerduty", "slack", "teams", "webhook"], coalesce(kind, "none"))])
    error_message = "alerts are ${jsonencode(var.alerts)}: expected pagerduty, slack, teams or webhook for each."
  }
}

variable "datadog" {
  description = "Datadog's site, and the name of the environment there; null for no agent. Put the API key into the vault by hand: see docs/deploy.md."
  type        = object({ site = string, environment = string })
  default     = null

  validation {
    condition     = var.datadog == null || can(regex("^([a-z0-9]+\\.)?(datadoghq\\.(com|eu)|ddog-gov\\.com)$", var.datadog.site))
    error_message = "datadog.site is \"${try(var.datadog.site, "")}\": expected a site such as datadoghq.com or datadoghq.eu."
  }
}
