# The receivers of alerts. Their URLs and keys are in the vault, as alert-page, alert-ticket and alert-heartbeat. Alertmanager reads them
# from files.
locals {
  alert_receivers = var.alerts == null ? {} : { for name, kind in { page = var.alerts.page, ticket = var.alerts.ticket, heartbeat = var.alerts.heartbeat } : name => kind if kind != null }
  alert_secrets   = [for name in keys(local.alert_receivers) : "alert-${name}"]

  alertmanager = {
    route = {
      receiver        = try(local.alert_receivers.ticket, null) == null ? "nobody" : "ticket"
      group_by        = ["alertname", "namespace"]
      group_wait      = "30s"
      group_interval  = "5m"
      repeat_interval = "12h"
      routes = [
        # Watchdog always fires. If it stops arriving, its receiver knows that Prometheus, Alertmanager or the cluster is down.
        {
          matchers        = ["alertname = Watchdog"]
          receiver        = try(local.alert_receivers.heartbeat, null) == null ? "nobody" : "heartbeat"
          group_wait      = "0s"
          group_interval  = "1m"
          repeat_interval = "5m"
        },
        { matchers = ["alertname = InfoInhibitor"], receiver = "nobody" },
        { matchers = ["severity =~ \"page|critical\""], receiver = try(local.alert_receivers.page, null) == null ? "nobody" : "page", repeat_interval = "1h" },
      ]
    }
    inhibit_rules = [
      # A budget that burns fast also burns slowly, so the slow alert says nothing new. If nobody can reach Warble, the budgets' alerts say
      # nothing new either.
      { source_matchers = ["alertname = ErrorBudgetBurnsFast"], target_matchers = ["alertname = ErrorBudgetBurnsSlowly"], equal = ["function"] },
      { source_matchers = ["alertname = LatencyBudgetBurnsFast"], target_matchers = ["alertname = LatencyBudgetBurnsSlowly"], equal = ["function"] },
      { source_matchers = ["alertname =~ \"IngressDown|KnativeDown|EdgeMissing\""], target_matchers = ["alertname =~ \"(Error|Latency)BudgetBurns.*\""] },
      { source_matchers = ["severity = critical"], target_matchers = ["severity =~ \"warning|info\""], equal = ["namespace", "alertname"] },
      { source_matchers = ["severity = warning"], target_matchers = ["severity = info"], equal = ["namespace", "alertname"] },
      { source_matchers = ["alertname = InfoInhibitor"], target_matchers = ["severity = info"], equal = ["namespace"] },
    ]
    receivers = concat([{ name = "nobody" }], [for name, kind in local.alert_receivers : merge({ name = name }, {
      (kind == "teams" ? "msteamsv2_configs" : "${kind}_configs") = [merge(
        { send_resolved = name != "heartbeat" },
        { for field in [{ webhook = "url_file", slack = "api_url_file", teams = "webhook_url_file", pagerduty = "routing_key_file" }[kind]] : field => "/etc/alertmanager/secrets/alert-${name}/value" },
      )]
    })])
  }
}
