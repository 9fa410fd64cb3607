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

resource "azurerm_consumption_budget_resource_group" "this" {
  count = var.budget == null ? 0 : 1

  name              = module.names.base
  resource_group_id = azurerm_resource_group.this.id
  amount            = var.budget.amount
  time_grain        = "Monthly"

  time_period {
    start_date = var.budget.start
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 80
    threshold_type = "Actual"
    contact_emails = var.budget.emails
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 100
    threshold_type = "Forecasted"
    contact_emails = var.budget.emails
  }
}
