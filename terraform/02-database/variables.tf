variable "state_account" {
  description = "Storage account of the state; the Makefile passes STATE_ACCOUNT."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,24}$", var.state_account))
    error_message = "state_account is \"${var.state_account}\": expected the name that you gave to `make state`, 3 to 24 lower-case letters and digits."
  }
}

variable "postgresql_version" {
  description = "Major version. A higher version upgrades in place. An elastic cluster keeps its first version."
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
  description = "SKU of the server, or of each node of an elastic cluster: a machine of modules/sizing."
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
  description = "Whether a second server in another zone takes over within a minute or two if the first is lost. It costs as much as the first."
  type        = bool
  default     = true
}

variable "backups" {
  description = "For how many days the database can be restored to any second, and whether backups are also kept in another region. The region cannot be changed later."
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
  description = "Greatest number of pods with a database connection: the sum of max-scale in knative/."
  type        = number
  default     = 175
}

variable "function_connections" {
  description = "DATABASE_MAX_CONNS of the functions."
  type        = number
  default     = 4
}

variable "elastic_cluster_nodes" {
  description = "0 for one server. From 2 up: an elastic cluster, which distributes tables over its nodes with Citus, if writes are too many for the largest server (see docs/scaling.md). A server cannot become an elastic cluster: it is a new database, to which you move the data."
  type        = number
  default     = 0

  validation {
    condition     = var.elastic_cluster_nodes == 0 || var.elastic_cluster_nodes >= 2 && var.elastic_cluster_nodes <= 20 && floor(var.elastic_cluster_nodes) == var.elastic_cluster_nodes
    error_message = "elastic_cluster_nodes is ${var.elastic_cluster_nodes}: expected 0, or 2 to 20."
  }
}

variable "password_editions" {
  description = "A higher number gives a group of functions its other login with a new password: see docs/day-two.md. The owner has only one login, so its password changes immediately."
  type        = object({ owner = optional(number, 1), auth = optional(number, 1), api = optional(number, 1), mail = optional(number, 1), ops = optional(number, 1) })
  default     = {}
}

variable "server_name" {
  description = "Name of a server that a restore has made, after it was imported into the state: see docs/day-two.md. Null for the server that this stack made."
  type        = string
  default     = null

  validation {
    condition     = var.server_name == null || can(regex("^[a-z][a-z0-9-]{1,61}[a-z0-9]$", var.server_name))
    error_message = "server_name is ${jsonencode(var.server_name)}: expected 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "alert_emails" {
  description = "Email addresses to which Azure writes if the server is out of CPU, disk or connections, or down. Prometheus, in the cluster, does not see this. Empty for nobody."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "alert_emails are ${jsonencode(var.alert_emails)}: expected addresses such as operations@example.org."
  }
}

variable "reads_secrets" {
  description = "Whether the owner's password is read from the vault. False only for a plan by somebody who may not read it, such as the workflow."
  type        = bool
  default     = true
}
