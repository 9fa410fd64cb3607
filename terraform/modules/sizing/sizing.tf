locals {
  # The machines that may be chosen, with their vCores, GiB of memory, and Azure's default of max_connections:
  # https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-limits. Burstable machines are missing: they have no PgBouncer.
  machines = {
    GP_Standard_D2ads_v5  = { vcores = 2, memory = 8, connections = 859 }
    GP_Standard_D4ads_v5  = { vcores = 4, memory = 16, connections = 1718 }
    GP_Standard_D8ads_v5  = { vcores = 8, memory = 32, connections = 3437 }
    GP_Standard_D16ads_v5 = { vcores = 16, memory = 64, connections = 5000 }
    MO_Standard_E2ads_v5  = { vcores = 2, memory = 16, connections = 1718 }
    MO_Standard_E4ads_v5  = { vcores = 4, memory = 32, connections = 3437 }
    MO_Standard_E8ads_v5  = { vcores = 8, memory = 64, connections = 5000 }
  }
  machine = try(local.machines[var.sku], local.machines.GP_Standard_D2ads_v5)

  clients = var.pods * var.connections
  # Statements are short. If many more than one per core run at the same time, they only wait for each other. 8 connections per core leave
  # room for statements that wait for the disk. The rest of max_connections is for the owner, backups and Azure itself.
  pool = max(10, floor(local.machine.vcores * 8 / var.logins))
}
