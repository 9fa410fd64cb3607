terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
  }

  # storage_account_name comes with init, from STATE_ACCOUNT: see the Makefile's verb stack.
  backend "azurerm" {
    container_name   = "terraform"
    key              = "01-cluster.tfstate"
    use_azuread_auth = true
  }
}
