output "files" {
  description = "The rules of each file, by its name without .yaml."
  value       = { for name, text in local.files : name => yamldecode(replace(text, "runbook_url: ", "runbook_url: ${local.pages}")) }
}
