variable "folder" {
  description = "Folder of the files of rules, in Prometheus' format. Each file has one group or more."
  type        = string
}

variable "repository" {
  description = "URL of the repository, such as https://github.com/OWNER/REPO, for the runbook_url of alerts. With null, runbook_url is only the path of the page."
  type        = string
  default     = null

  validation {
    condition     = var.repository == null || can(regex("^https://[^ ]*[^ /]$", var.repository))
    error_message = "repository is \"${coalesce(var.repository, "null")}\": expected a URL such as https://github.com/OWNER/REPO, without a slash at its end."
  }
}
