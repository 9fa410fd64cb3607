variable "state_account" {
  description = "Storage account of the state; the Makefile passes STATE_ACCOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.state_account))
    error_message = "state_account is \"${var.state_account}\": expected the name that `make state` was given, 3 to 24 lower-case letters and digits."
  }
}

variable "grafana_password_edition" {
  description = "A higher number gives Grafana's admin another password, which it has with its next pod."
  type        = number
  default     = 1
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
