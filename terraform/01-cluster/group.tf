module "names" {
  source = "../modules/naming"

  project     = var.project
  environment = var.environment
  unique      = var.subscription_id
}

resource "azurerm_resource_group" "this" {
  name     = module.names.base
  location = var.location
  tags     = module.names.tags
}
