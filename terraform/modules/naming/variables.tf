variable "project" {
  description = "The beginning of every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.project))
    error_message = "project is \"${var.project}\": expected a lower-case letter and 1 to 9 more letters or digits, because a registry's name has no hyphen, and a vault's at most 24 characters."
  }
}

variable "environment" {
  description = "Distinguishes the installations of a subscription, for example production or staging."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.environment))
    error_message = "environment is \"${var.environment}\": expected a lower-case letter and 1 to 9 more letters or digits."
  }
}

variable "unique" {
  description = "Makes names unique in all of Azure: the subscription's id, or another value that does not change."
  type        = string

  validation {
    condition     = length(var.unique) > 0
    error_message = "unique is empty: expected the subscription's id."
  }
}
