variable "project" {
  description = "Begins every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.project))
    error_message = "project is \"${var.project}\": expected a lower-case letter and 1 to 9 more letters or digits, for a registry's name takes no hyphen and a vault's 24 characters at most."
  }
}

variable "environment" {
  description = "Tells installations of one subscription apart, as production or staging."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.environment))
    error_message = "environment is \"${var.environment}\": expected a lower-case letter and 1 to 9 more letters or digits."
  }
}

variable "unique" {
  description = "What names that are unique in all of Azure are told apart by: the subscription's id, or anything else that stays the same."
  type        = string

  validation {
    condition     = length(var.unique) > 0
    error_message = "unique is empty: expected the subscription's id."
  }
}
