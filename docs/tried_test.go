package docs_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	fence   = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$")
	code    = regexp.MustCompile("`([^`]+)`")
	program = regexp.MustCompile(`(?:^|[\s"'(|;&])(make|az|kubectl|terraform|kn experiment|ko|go run \./cmd/migrate|migrate) +([^|;&\n)]+)`)
	verb    = regexp.MustCompile(`^[a-z][a-z-]*$`)
	args    = regexp.MustCompile(`ARGS=["']?([^ "']+)`)
)

// commands returns the commands in a page's text, each as a program and its verbs, without the other arguments.
func commands(text string) map[string]bool {
	found := make(map[string]bool)
	var lines []string
	for _, block := range fence.FindAllStringSubmatch(text, -1) {
		if block[1] != "sh" {
			continue
		}
		for line := range strings.Lines(block[2]) {
			line, _, _ = strings.Cut(line, "# ")
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	for _, span := range code.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		lines = append(lines, strings.Join(strings.Fields(span[1]), " ")) // a command may be broken into two lines
	}
	for _, line := range lines {
		for _, c := range program.FindAllStringSubmatch(line, -1) {
			for _, name := range named(strings.TrimPrefix(c[1], "go run ./cmd/"), strings.Fields(c[2]), args.FindStringSubmatch(c[2])) {
				found[name] = true
			}
		}
	}
	return found
}

// named returns the names of one command, by its program. make may have several verbs, and ARGS has arguments of some verbs.
func named(program string, words, arguments []string) (names []string) {
	for len(words) > 0 && strings.HasPrefix(words[0], "-") { // -n warble, -chdir=terraform/01-cluster
		flags := 1
		if words[0] == "-n" {
			flags = 2
		}
		words = words[min(flags, len(words)):]
	}
	var verbs []string
	for _, word := range words {
		if !verb.MatchString(word) {
			break
		}
		verbs = append(verbs, word)
	}
	switch {
	case len(verbs) == 0:
		return nil
	case program == "make":
		for _, v := range verbs {
			names = append(names, "make "+v)
		}
		if arguments != nil {
			return []string{names[0] + " ARGS=" + arguments[1]}
		}
		return names
	case program == "az":
		return []string{"az " + strings.Join(verbs, " ")}
	case slices.Contains([]string{"create", "state", "communities", "deletions", "outbox"}, verbs[0]) && program != "ko" && len(verbs) > 1:
		return []string{program + " " + verbs[0] + " " + verbs[1]}
	}
	return []string{program + " " + verbs[0]}
}

// TestTheTableOfWhatWasTriedHasEveryCommand: each command of a page is in the page's last table, which says whether somebody has
// tried it. The table has no other commands.
func TestTheTableOfWhatWasTriedHasEveryCommand(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"deploy.md", "day-two.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		says, table, is := strings.Cut(string(text), "\n## What has been tried\n")
		if !is {
			t.Fatalf("%s has no table of what has been tried", page)
		}
		var first strings.Builder
		for line := range strings.Lines(table) {
			if strings.HasPrefix(line, "| ") {
				cell, _, _ := strings.Cut(line[1:], " | ")
				first.WriteString(cell + "\n")
			}
		}
		said, tried := commands(says), commands(first.String())
		for _, name := range slices.Sorted(maps.Keys(said)) {
			if !tried[name] {
				t.Errorf("%s has the command `%s`, but its table does not", page, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(tried)) {
			if !said[name] {
				t.Errorf("the table of %s has the command `%s`, but the page does not", page, name)
			}
		}
	}
}

// TestCommandsAreFound, because without commands the test above would check nothing.
func TestCommandsAreFound(t *testing.T) {
	t.Parallel()
	const page = "Say `make stack ARGS=plan`, then `az keyvault secret\nset --name x`.\n\n   ```sh\n   make kubeconfig registry # make nothing\n" +
		"   for f in $(kubectl -n warble get ksvc -o name); do\n     terraform -chdir=terraform/02-database state rm x | kubectl apply -f -\n   done\n" +
		"   go run ./cmd/migrate communities add gophers Gophers\n   ```\n\n```sql\nmake it so\n```\n"
	want := []string{"az keyvault secret set", "kubectl apply", "kubectl get", "make kubeconfig", "make registry", "make stack ARGS=plan", "migrate communities add", "terraform state rm"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(commands(page)))); diff != "" {
		t.Error(diff)
	}
}
