// Package docs_test checks the pages of docs against the code.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// levelTwo has the lines of levels 1 and 2 in the chapters V6, V7 and V9 of ASVS 5.0: for each section, its last line.
var levelTwo = []struct {
	section string
	last    int
}{
	{"6.1", 3},
	{"6.2", 12},
	{"6.3", 4},
	{"6.4", 4},
	{"6.5", 5},
	{"6.6", 3},
	{"6.8", 4},
	{"7.1", 3},
	{"7.2", 4},
	{"7.3", 2},
	{"7.4", 5},
	{"7.5", 2},
	{"7.6", 2},
	{"9.1", 3},
	{"9.2", 4},
}

// TestTheThreatModelAnswersEveryLine of ASVS once, and names only tests that exist.
func TestTheThreatModelAnswersEveryLine(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, s := range levelTwo {
		for n := range s.last {
			want = append(want, fmt.Sprintf("%s.%d", s.section, n+1))
		}
	}
	for _, line := range regexp.MustCompile(`(?m)^\| ([0-9]+\.[0-9]+\.[0-9]+) \|[^|]+\|([^|]*)\|$`).FindAllStringSubmatch(string(text), -1) {
		got = append(got, line[1])
		if strings.TrimSpace(line[2]) == "" {
			t.Errorf("%s has no answer", line[1])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines of ASVS (-) and those of the table (+):\n%s", diff)
	}

	existing := tests(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) == 0 {
		t.Fatal("the page names no test")
	}
	for _, name := range named {
		if !slices.Contains(existing, name[1]) {
			t.Errorf("the page names the test %s, which does not exist", name[1])
		}
	}
}

// tests returns the names of all tests of the repository.
func tests(t *testing.T) (names []string) {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, name := range declared.FindAllStringSubmatch(string(text), -1) {
			names = append(names, name[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
