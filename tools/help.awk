# Lists the verbs of a Makefile by group, in lines of at most `columns` characters. A verb is a line "verb: ## Group: what it does". Verbs
# without a group come last.
BEGIN { split("Use Develop Cluster Azure Release Other", order, " ") }
/^[a-z0-9-]+:.*## / && !/^help:/ {
  verb = $0; sub(/:.*/, "", verb)
  text = $0; sub(/^.*## /, "", text)
  group = "Other"
  if (match(text, /^[A-Z][a-z]+: /)) { group = substr(text, 1, RLENGTH - 2); text = substr(text, RLENGTH + 1) }
  line = sprintf("  make %-16s", verb); left = length(line)
  n = split(text, words, " ")
  for (i = 1; i <= n; i++) {
    if (length(line) + 1 + length(words[i]) > columns && length(line) > left) { lists[group] = lists[group] line "\n"; line = sprintf("%" left "s", "") }
    line = line " " words[i]
  }
  lists[group] = lists[group] line "\n"
}
END { for (i = 1; i in order; i++) if (order[i] in lists) printf("%s%s\n%s", (i > 1 ? "\n" : ""), order[i], lists[order[i]]) }
