// Package shared_test holds the rules of who may import whom, as the map in CONTRIBUTING.md promises them.
package shared_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// pkg is what go list says of a package of this module.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

const module = "warble/"

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	for _, complaint := range complaints(list(t)) {
		t.Error(complaint)
	}
}

// Without this test, nobody would notice a rule that accepts everything.
func TestTheImportRulesCanFail(t *testing.T) {
	t.Parallel()
	for want, broken := range map[string]pkg{
		"imports a function":                      {ImportPath: "warble/shared/store", Imports: []string{"warble/functions/tweet"}},
		"imports another function":                {ImportPath: "warble/functions/tweet", Imports: []string{"warble/functions/users"}},
		"imports github.com/jackc/pgx":            {ImportPath: "warble/functions/tweet", Imports: []string{"github.com/jackc/pgx/v5"}},
		"imports github.com/prometheus":           {ImportPath: "warble/shared/function", Imports: []string{"github.com/prometheus/client_golang/prometheus"}},
		"imports k8s.io":                          {ImportPath: "warble/functions/tweet", Imports: []string{"k8s.io/client-go"}},
		"is a guest, and imports Warble's":        {ImportPath: "warble/e2e/guest", Imports: []string{"warble/shared/function"}},
		"says what an experiment is, and imports": {ImportPath: "warble/shared/experiment", Imports: []string{"warble/shared/stats"}},
		"links a database driver":                 {ImportPath: "warble/functions/validate", Deps: []string{"github.com/jackc/pgx/v5/pgconn"}},
		"says nothing of what it holds":           {ImportPath: "warble/shared/utils"},
		"has 0 importers: expected at least 2":    {ImportPath: "warble/shared/lonely"},
	} {
		found := complaints([]pkg{broken})
		if !slices.ContainsFunc(found, func(c string) bool { return strings.Contains(c, want) }) {
			t.Errorf("no complaint with %q in %q", want, found)
		}
	}
}

// TestTheMapNamesEveryFolderOfShared checks also that the map names no folder that does not exist.
func TestTheMapNamesEveryFolderOfShared(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(text), "\n## The map\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	var mapped, there []string
	for line := range strings.Lines(chapter) {
		folders, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		if !strings.Contains(folders, "`shared/") {
			continue
		}
		for name := range strings.SplitSeq(folders, ",") { // `shared/readout`, `report`
			mapped = append(mapped, strings.TrimPrefix(strings.Trim(name, " `"), "shared/"))
		}
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			there = append(there, entry.Name())
		}
	}
	slices.Sort(mapped)
	if diff := cmp.Diff(there, mapped); diff != "" {
		t.Errorf("folders of shared/ (-) and the map of them in CONTRIBUTING.md (+):\n%s", diff)
	}
}

// Every link of the pages to a file of the repository must lead to an existing file.
func TestLinksLeadToExistingFiles(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/decisions/*.md", "../docs/runbooks/*.md", "../terraform/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	link := regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), found[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, found[1])
			}
		}
		if page == "../README.md" && strings.Count(string(text), "\n") >= 120 {
			t.Errorf("%s has %d lines: expected fewer than 120", page, strings.Count(string(text), "\n"))
		}
	}
}

// owners are the only packages that may import what begins with a prefix; a name ending in / stands for all below it.
var owners = map[string][]string{
	"github.com/jackc/pgx":         {"shared/store", "shared/store/", "cmd/local", "cmd/migrate", "e2e/"},
	"github.com/jackc/tern":        {"shared/store/migrations"},
	"github.com/prometheus":        {"shared/telemetry"},
	"gopkg.in/DataDog/dd-trace-go": {"shared/telemetry", "shared/store"},
	"k8s.io":                       {"shared/knative", "shared/knative/", "shared/rollout", "functions/edge", "functions/steer", "cmd/kn-experiment", "cmd/local"},
	"knative.dev":                  {"shared/knative", "functions/edge"},
}

var vague = []string{"util", "utils", "common", "helper", "helpers", "model", "models", "types", "internal", "misc", "base"}

func complaints(packages []pkg) (found []string) {
	complain := func(p pkg, format string, args ...any) {
		found = append(found, p.ImportPath+" "+fmt.Sprintf(format, args...))
	}
	importers := make(map[string]int)
	for _, p := range packages {
		for _, imported := range slices.Concat(p.Imports, p.XTestImports) {
			if !strings.HasPrefix(p.ImportPath, imported+"/") && !strings.HasPrefix(imported, p.ImportPath+"/") {
				importers[imported]++
			}
		}
	}
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			switch {
			case strings.HasPrefix(name, "shared/") && strings.HasPrefix(imported, module+"functions/"):
				complain(p, "imports a function, %s", imported)
			case strings.HasPrefix(name, "shared/") && strings.HasPrefix(imported, module+"cmd/"):
				complain(p, "imports a command, %s", imported)
			case strings.HasPrefix(name, "functions/") && strings.HasPrefix(imported, module+"functions/"):
				complain(p, "imports another function, %s", imported)
			case name == "e2e/guest" && strings.HasPrefix(imported, module): // it stands for a Service that was built without Warble
				complain(p, "is a guest, and imports Warble's %s", imported)
			case name == "shared/experiment" && strings.HasPrefix(imported, module): // what an experiment is depends on no cluster, database or function
				complain(p, "says what an experiment is, and imports %s", imported)
			}
			for prefix, allowed := range owners {
				if strings.HasPrefix(imported, prefix) && !slices.ContainsFunc(allowed, func(owner string) bool {
					return name == owner || strings.HasSuffix(owner, "/") && strings.HasPrefix(name, owner)
				}) {
					complain(p, "imports %s: only %s may", imported, strings.Join(allowed, ", "))
				}
			}
		}
		if name == "functions/validate" && slices.ContainsFunc(p.Deps, func(d string) bool { return strings.HasPrefix(d, "github.com/jackc/") }) {
			complain(p, "links a database driver")
		}
		for segment := range strings.SplitSeq(name, "/") {
			if slices.Contains(vague, segment) {
				complain(p, "is called %s, which says nothing of what it holds", segment)
			}
		}
		forTests := strings.HasSuffix(name, "test")
		if path.Dir(name) == "shared" && name != "shared/function" && !forTests && importers[p.ImportPath] < 2 {
			complain(p, "has %d importers: expected at least 2; otherwise move its code to where it is used", importers[p.ImportPath])
		}
	}
	return found
}

func list(t *testing.T) (packages []pkg) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "warble/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// A sweep that no function calls would let its table grow for ever. Without FinishDeletions, a deleted account's rows would stay.
func TestEverySweepIsCalledByAFunction(t *testing.T) {
	t.Parallel()
	sweeps, err := os.ReadFile("store/sweep.go")
	if err != nil {
		t.Fatal(err)
	}
	mains, err := filepath.Glob("../functions/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range mains {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	names := regexp.MustCompile(`\) (Sweep\w+)\(`).FindAllStringSubmatch(string(sweeps), -1)
	if len(names) == 0 {
		t.Fatal("store/sweep.go has no sweeps: it proves nothing")
	}
	for _, name := range append(names, []string{"", "FinishDeletions"}) {
		if !strings.Contains(all.String(), "db."+name[1]+")") {
			t.Errorf("no function calls %s", name[1])
		}
	}
}
