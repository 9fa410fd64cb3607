variable "sku" {
  description = "SKU of the server: tier and machine, such as GP_Standard_D2ads_v5."
  type        = string

  validation {
    condition     = contains(keys(local.machines), var.sku)
    error_message = "sku is \"${var.sku}\": expected one of ${join(", ", sort(keys(local.machines)))}."
  }
}

variable "pods" {
  description = "Greatest number of pods with a database connection: the sum of their functions' max-scale."
  type        = number

  validation {
    condition     = var.pods >= 1 && floor(var.pods) == var.pods
    error_message = "pods is ${var.pods}: expected a whole number from 1 up."
  }
}

variable "connections" {
  description = "Greatest number of connections of a pod: DATABASE_MAX_CONNS."
  type        = number

  validation {
    condition     = var.connections >= 1 && floor(var.connections) == var.connections
    error_message = "connections is ${var.connections}: expected a whole number from 1 up."
  }
}

variable "logins" {
  description = "Number of logins that the functions use. PgBouncer has a pool for each."
  type        = number

  validation {
    condition     = var.logins >= 1 && floor(var.logins) == var.logins
    error_message = "logins is ${var.logins}: expected a whole number from 1 up."
  }
}
