data "terraform_remote_state" "cluster" {
  backend = "azurerm"

  config = {
    storage_account_name = var.state_account
    container_name       = "terraform"
    key                  = "01-cluster.tfstate"
    use_azuread_auth     = true
  }
}

data "terraform_remote_state" "application" {
  backend = "azurerm"

  config = {
    storage_account_name = var.state_account
    container_name       = "terraform"
    key                  = "03-application.tfstate"
    use_azuread_auth     = true
  }
}

locals {
  cluster = data.terraform_remote_state.cluster.outputs
}
