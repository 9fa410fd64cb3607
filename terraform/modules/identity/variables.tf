variable "name" {
  description = "Name of the identity."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{2,127}$", var.name))
    error_message = "name is \"${var.name}\": expected 3 to 128 letters, digits, hyphens and underscores."
  }
}

variable "resource_group" {
  description = "Resource group of the identity."
  type        = object({ name = string, location = string })
}

variable "subjects" {
  description = "The tokens with which one may act as the identity: the issuer and the subject of each, under a name of your choice."
  type        = map(object({ issuer = string, subject = string }))

  validation {
    condition     = alltrue([for s in values(var.subjects) : startswith(s.issuer, "https://")])
    error_message = "an issuer is ${join(", ", [for s in values(var.subjects) : "\"${s.issuer}\"" if !startswith(s.issuer, "https://")])}: expected a URL that begins with https://."
  }
  validation {
    condition     = alltrue([for s in values(var.subjects) : length(s.subject) > 0 && !strcontains(s.subject, "*")])
    error_message = "a subject is ${join(", ", [for s in values(var.subjects) : "\"${s.subject}\"" if length(s.subject) == 0 || strcontains(s.subject, "*")])}: expected a complete subject, because Azure has no wildcards."
  }
  validation {
    condition     = length(var.subjects) <= 20
    error_message = "${length(var.subjects)} subjects: expected at most 20, which is Azure's limit for an identity."
  }
}

variable "roles" {
  description = "What the identity may do: roles with their scopes, each under a name of your choice."
  type        = map(object({ role = string, scope = string }))
  default     = {}
}

variable "tags" {
  description = "Tags of the identity."
  type        = map(string)
}
