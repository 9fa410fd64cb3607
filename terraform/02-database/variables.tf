variable "state_account" {
  description = "Storage account of the state; the Makefile passes STATE_ACCOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.state_account))
    error_message = "state_account is \"${var.state_account}\": expected the name that `make state` was given, 3 to 24 lower-case letters and digits."
  }
}

variable "postgresql_version" {
  description = "Major version. A higher one upgrades in place; an elastic cluster keeps the one that it began with."
  type        = string
  default     = "17"

  validation {
    condition     = contains(["15", "16", "17", "18"], var.postgresql_version)
    error_message = "postgresql_version is \"${var.postgresql_version}\": expected 15 to 18, which Warble is tested with."
  }
  validation {
    condition     = var.elastic_cluster_nodes == 0 || tonumber(var.postgresql_version) >= 17
    error_message = "postgresql_version is \"${var.postgresql_version}\": expected 17 or more for an elastic cluster."
  }
}

variable "sku" {
  description = "Of the server, or of each node of an elastic cluster: a machine of modules/sizing."
  type        = string
  default     = "GP_Standard_D2ads_v5"
}

variable "storage" {
  description = "Disk in MiB. It grows by itself, except in an elastic cluster, and never shrinks."
  type        = number
  default     = 65536

  validation {
    condition     = contains([32768, 65536, 131072, 262144, 524288, 1048576, 2097152, 4193280], var.storage)
    error_message = "storage is ${var.storage}: expected a power of two from 32768 to 2097152, or 4193280."
  }
}

variable "standby" {
  description = "Whether a second server in another zone takes over when the first is lost, within a minute or two. It costs what the first does."
  type        = bool
  default     = true
}

variable "backups" {
  description = "For how many days the database can be put back to any second of them, and whether they are kept in another region, too. The second cannot be changed later."
  type        = object({ days = number, elsewhere = bool })
  default     = { days = 14, elsewhere = false }

  validation {
    condition     = var.backups.days >= 7 && var.backups.days <= 35
    error_message = "backups.days is ${var.backups.days}: expected 7 to 35."
  }
}

variable "administrator" {
  description = "The Entra group whose members log in to the database as administrators."
  type        = object({ object_id = string, name = string })

  validation {
    condition     = can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.administrator.object_id))
    error_message = "administrator.object_id is \"${var.administrator.object_id}\": expected a UUID in lower case, as `az ad group show --query id` prints it."
  }
}

variable "function_pods" {
  description = "How many pods with a database connection there may be at once: the sum of max-scale in knative/."
  type        = number
  default     = 175
}

variable "function_connections" {
  description = "DATABASE_MAX_CONNS of the functions."
  type        = number
  default     = 4
}

variable "elastic_cluster_nodes" {
  description = "0 for one server. From 2 on an elastic cluster, which distributes tables over its nodes with Citus, for those whose writes have outgrown the largest server: docs/scaling.md says when. A server does not become one: it is a new database, to move to."
  type        = number
  default     = 0

  validation {
    condition     = var.elastic_cluster_nodes == 0 || var.elastic_cluster_nodes >= 2 && var.elastic_cluster_nodes <= 20 && floor(var.elastic_cluster_nodes) == var.elastic_cluster_nodes
    error_message = "elastic_cluster_nodes is ${var.elastic_cluster_nodes}: expected 0, or 2 to 20."
  }
}

variable "password_editions" {
  description = "A higher number gives a group of functions its other login with another password: docs/day-two.md has the steps. The owner has one login, whose password changes at once."
  type        = object({ owner = optional(number, 1), auth = optional(number, 1), api = optional(number, 1), mail = optional(number, 1), ops = optional(number, 1) })
  default     = {}
}

variable "server_name" {
  description = "Of the server that a restore made, once the state has it: docs/day-two.md has the steps. Null for the one that was made here."
  type        = string
  default     = null

  validation {
    condition     = var.server_name == null || can(regex("^[a-z][a-z0-9-]{1,61}[a-z0-9]$", var.server_name))
    error_message = "server_name is ${jsonencode(var.server_name)}: expected 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "alert_emails" {
  description = "Who Azure writes to when the server is out of CPU, disk or connections, or down: Prometheus is in the cluster, and does not see it. Empty for nobody."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "alert_emails are ${jsonencode(var.alert_emails)}: expected addresses, as operations@example.org."
  }
}

variable "reads_secrets" {
  description = "Whether the owner's password is read from the vault. Only a plan by somebody who may not read it, as the workflow's, goes without."
  type        = bool
  default     = true
}
