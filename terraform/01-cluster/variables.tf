variable "subscription_id" {
  description = "Of Azure, which pays."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.subscription_id))
    error_message = "subscription_id is \"${var.subscription_id}\": expected a UUID in lower case, as `az account show --query id` prints it."
  }
}

variable "project" {
  description = "Begins every name."
  type        = string
  default     = "warble"
}

variable "environment" {
  description = "Tells installations of one subscription apart."
  type        = string
  default     = "production"
}

variable "location" {
  description = "Region of Azure, with three availability zones."
  type        = string
  default     = "westeurope"

  validation {
    condition     = can(regex("^[a-z0-9]+$", var.location))
    error_message = "location is \"${var.location}\": expected a region's short name, as westeurope."
  }
}

variable "addresses" {
  description = "Of the virtual network, of the pods behind it and of Kubernetes' services."
  type        = object({ network = string, pods = string, services = string })
  default     = { network = "10.40.0.0/16", pods = "10.244.0.0/16", services = "10.96.0.0/16" }
}

variable "kubernetes_version" {
  description = "Minor version; patches come by themselves."
  type        = string
  default     = "1.34"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version is \"${var.kubernetes_version}\": expected a minor version, as 1.34."
  }
}

variable "nodes" {
  description = "Of the cluster: the machine's size, and how few and how many there may be."
  type        = object({ size = string, min = number, max = number })
  default     = { size = "Standard_D4as_v5", min = 2, max = 6 }

  validation {
    condition     = startswith(var.nodes.size, "Standard_")
    error_message = "nodes.size is \"${var.nodes.size}\": expected a machine's size, as Standard_D4as_v5."
  }
  validation {
    condition     = var.nodes.min >= 2 && var.nodes.min <= var.nodes.max && var.nodes.max <= 100
    error_message = "nodes are ${var.nodes.min} to ${var.nodes.max}: expected 2 at least, so that one may go, and 100 at most."
  }
}

variable "administrators" {
  description = "Object ids of the Entra groups whose members administer the cluster and the vault."
  type        = set(string)

  validation {
    condition     = length(var.administrators) > 0 && alltrue([for id in var.administrators : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", id))])
    error_message = "administrators are ${jsonencode(var.administrators)}: expected the object id of one group at least, for the cluster has no accounts of its own."
  }
}

variable "authorized_ranges" {
  description = "Addresses that may speak to the API server and the vault from outside; empty for any, as GitHub's runners have no fixed ones."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for range in var.authorized_ranges : can(cidrhost(range, 0))])
    error_message = "authorized_ranges are ${jsonencode(var.authorized_ranges)}: expected each as 198.51.100.0/24."
  }
}

variable "github_subjects" {
  description = "Subjects of GitHub's tokens by what they may do: release (push images and deploy), plan and apply (these stacks). Since July 2026 they carry ids: repo:OWNER@ID/REPO@ID:environment:NAME. Empty for no GitHub."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.github_subjects), ["release", "plan", "apply"])) == 0
    error_message = "github_subjects has ${join(", ", setsubtract(keys(var.github_subjects), ["release", "plan", "apply"]))}: expected release, plan and apply."
  }
  validation {
    condition     = alltrue([for subject in values(var.github_subjects) : can(regex("^repo:[^/:*]+/[^/:*]+:[^*]+$", subject))])
    error_message = "github_subjects are ${jsonencode(var.github_subjects)}: expected each as repo:OWNER@ID/REPO@ID:environment:NAME."
  }
}

variable "state_account_id" {
  description = "Resource id of the storage account that holds the state, which GitHub's plan reads and apply writes. Needed with github_subjects only."
  type        = string
  default     = null

  validation {
    condition     = var.state_account_id == null ? length(var.github_subjects) == 0 : can(regex("/providers/Microsoft.Storage/storageAccounts/[a-z0-9]{3,24}$", var.state_account_id))
    error_message = "state_account_id is ${jsonencode(var.state_account_id)}: expected the id that `make state` prints, where there are github_subjects."
  }
}

variable "log_analytics" {
  description = "Whether the cluster's audit log and the containers' output go to Log Analytics, which bills by the gigabyte. Prometheus and Datadog need none of it."
  type        = bool
  default     = false
}
