# The files of rules name a runbook by its path in the repository, which is enough for promtool's tests and for people with a checkout.
# Somebody who is woken needs a link, so this module puts the repository's URL before the path. HEAD is GitHub's name for the default branch.
locals {
  pages = var.repository == null ? "" : "${var.repository}/blob/HEAD/"
  files = { for name in fileset(var.folder, "*.yaml") : trimsuffix(name, ".yaml") => file("${var.folder}/${name}") }
}
