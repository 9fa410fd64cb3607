package shared_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// described matches a verb of the Makefile that make help lists, with its group and what it does.
var described = regexp.MustCompile(`(?m)^([a-z0-9-]+):.*## ([A-Z][a-z]+): (.*)$`)

func TestMakeHelpShowsEveryVerbIn80Columns(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	help := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", "..", "help")
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MAKE") && !strings.HasPrefix(variable, "MFLAGS=") { // the flags of a make that runs the tests
			help.Env = append(help.Env, variable)
		}
	}
	text, err := help.CombinedOutput()
	if err != nil {
		t.Fatalf("make help: %v\n%s", err, text)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	verbs := described.FindAllStringSubmatch(string(makefile), -1)
	if len(verbs) < 30 {
		t.Errorf("%d verbs: expected more", len(verbs))
	}
	words := " " + strings.Join(strings.Fields(string(text)), " ") + " "
	for _, verb := range verbs {
		if want := "make " + verb[1] + " " + strings.Join(strings.Fields(verb[3]), " "); strings.Count(words, " "+want+" ") != 1 {
			t.Errorf("expected once: %s", want)
		}
		if !strings.Contains("\n"+string(text), "\n"+verb[2]+"\n") {
			t.Errorf("make help has no group %s, which is that of %s", verb[2], verb[1])
		}
	}
}
