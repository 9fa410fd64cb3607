locals {
  # vCores and GiB of memory of the machines that are worth it, and what Azure lets max_connections be by default:
  # https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-limits. A burstable one has no PgBouncer.
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
  # Statements are short, and more of them at once than a few for each core only wait for one another: 8 a core leave room
  # for those that wait for the disk. What max_connections has beyond that is for the owner, backups and Azure itself.
  pool = max(10, floor(local.machine.vcores * 8 / var.logins))
}
