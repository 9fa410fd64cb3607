variable "folder" {
  description = "Of the files of rules: Prometheus' own format, one group of them or more in each."
  type        = string
}

variable "repository" {
  description = "Where the repository is on the web, as https://github.com/OWNER/REPO: an alert's runbook_url leads into it. Null leaves the page's path there."
  type        = string
  default     = null

  validation {
    condition     = var.repository == null || can(regex("^https://[^ ]*[^ /]$", var.repository))
    error_message = "repository is \"${coalesce(var.repository, "null")}\": expected a URL as https://github.com/OWNER/REPO, without a slash at its end."
  }
}
