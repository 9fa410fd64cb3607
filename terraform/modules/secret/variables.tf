variable "name" {
  description = "Name of the secret in the vault."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,125}[a-z0-9]$", var.name))
    error_message = "name is \"${var.name}\": expected 3 to 127 lower-case letters, digits and hyphens."
  }
}

variable "vault_id" {
  description = "Resource id of the Key Vault."
  type        = string
}

variable "edition" {
  description = "A higher number makes a new password."
  type        = number

  validation {
    condition     = var.edition >= 1 && floor(var.edition) == var.edition
    error_message = "edition is ${var.edition}: expected a whole number from 1 up."
  }
}

variable "tags" {
  description = "Tags of the secret."
  type        = map(string)
}
