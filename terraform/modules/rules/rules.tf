# The files name a runbook by its path in the repository, which is what promtool's tests and people at a desk know; whoever is
# woken has a link. HEAD is the default branch, as GitHub has it.
locals {
  pages = var.repository == null ? "" : "${var.repository}/blob/HEAD/"
  files = { for name in fileset(var.folder, "*.yaml") : trimsuffix(name, ".yaml") => file("${var.folder}/${name}") }
}
