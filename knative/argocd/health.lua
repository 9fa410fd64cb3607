-- The health of an Experiment in Argo CD: resource.customizations.health.warble.dev_Experiment of the ConfigMap argocd-cm.
local status = obj.status or {}
if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return { status = "Progressing", message = "steer has not read this change yet" }
end
local found = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    found[condition.type] = condition
  end
end
for _, known in ipairs({ { "Stalled", "Degraded" }, { "Reconciling", "Progressing" }, { "Ready", "Healthy" } }) do
  local condition = found[known[1]]
  if condition then
    local message = condition.message or ""
    if message == "" then
      message = status.message or "" -- for an ended experiment: how it ended
    end
    return { status = known[2], message = message }
  end
end
return { status = "Progressing", message = status.message or "" }
