package shared_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"
)

// workflow is what the rules look at; actionlint, which make check runs, has seen to the rest.
type workflow struct {
	Permissions map[string]string
	Concurrency any
	Jobs        map[string]struct {
		Uses     string
		Strategy struct {
			Matrix struct {
				Stack   []string
				Include []struct{ Stack, Refresh string }
			}
		}
		Permissions    map[string]string
		TimeoutMinutes int `yaml:"timeout-minutes"`
		Needs          string
		Environment    string
		Steps          []step
	}
	On struct {
		Schedule []struct{ Cron string }
	}
}

type step struct {
	Uses, Run string
	With      map[string]any
}

// Each action must be pinned to a commit that somebody has reviewed, rights must be granted per job, and each step must be a verb
// of make, which runs in the same way on any machine.
func TestWorkflowsDoNoMoreThanTheySay(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range workflowComplaints(os.DirFS(".."), string(makefile)) {
		t.Error(complaint)
	}
}

// promised are the steps that keep what is deployed what was looked at, in their order, by workflow and job.
var promised = []struct {
	workflow, job string
	steps         []string
}{
	{"e2e", "local", []string{"make e2e", "make kills KILLS=\"50\"", "make e2e-clients"}},
	{"check", "terraform", []string{"make schemas", "make test-infra"}},
	{"security", "dependencies", []string{"actions/dependency-review-action"}},
	{"security", "workflows", []string{"zizmorcore/zizmor-action"}},
	{"security", "code", []string{"github/codeql-action/init", "github/codeql-action/analyze"}},
	{"security", "scorecard", []string{"ossf/scorecard-action", "github/codeql-action/upload-sarif"}},
	{"drift", "drift", []string{"azure/login", "make locked", "make stack ARGS=\"plan -detailed-exitcode -lock=false -input=false -refresh=$REFRESH\""}},
	{"infrastructure", "plan", []string{"azure/login", "make locked", "make stack ARGS=\"plan"}},
	{"stack", "plan", []string{"azure/login", "make locked", "make stack ARGS=\"plan -refresh=false -lock=false -input=false -out=apply.tfplan\"", "actions/upload-artifact"}},
	{"stack", "apply", []string{"azure/login", "actions/download-artifact", "make locked", "make stack ARGS=\"apply -input=false apply.tfplan\""}},
	{"release", "build", []string{"make release", "make sign", "actions/attest-build-provenance", "actions/upload-artifact"}},
	{"release", "candidate", []string{"actions/download-artifact", "make verify", "make deploy ARGS=\"-from release.yaml candidate\""}},
	{"release", "publish", []string{"make publish"}},
	{"release", "promote", []string{"make deploy ARGS=\"promote\""}},
}

// order is what has to have been done, and by whom it was approved, before a job.
var order = []struct{ workflow, job, needs, environment string }{
	{"stack", "plan", "", "review"},
	{"stack", "apply", "plan", "infrastructure"},
	{"infrastructure", "database", "cluster", ""},
	{"infrastructure", "application", "database", ""},
	{"infrastructure", "observability", "application", ""},
	{"release", "candidate", "build", "production"},
	{"release", "publish", "candidate", ""},
	{"release", "promote", "publish", "production"},
	{"drift", "drift", "", "review"},
}

// The reviewed plan is the one that is applied, the signed images are those that are deployed, the tested artefacts are those that
// are published, every scanner runs, and processes are killed under load.
func TestWorkflowsKeepTheirPromises(t *testing.T) {
	t.Parallel()
	for _, complaint := range promiseComplaints(os.DirFS("..")) {
		t.Error(complaint)
	}
}

func TestABrokenPromiseOfAWorkflowIsFound(t *testing.T) {
	t.Parallel()
	for _, one := range []struct{ file, old, new, want string }{
		{"e2e", "make kills", "make clean", "e2e: job local: expected make kills"},
		{"security", "zizmorcore/zizmor-action", "zizmorcore/other-action", "security: job workflows: expected zizmorcore/zizmor-action"},
		{"stack", "-out=apply.tfplan", "-out=other.tfplan", "stack: job plan: expected make stack"},
		{"stack", "apply -input=false apply.tfplan", "apply -input=false -auto-approve", "stack: job apply: expected make stack"},
		{"stack", "environment: infrastructure", "environment: review", "stack: job apply: runs in \"review\", expected infrastructure"},
		{"release", "      - run: make verify\n", "", "release: job candidate: expected make verify"},
		{"release", "needs: candidate", "needs: build", "release: job publish: needs \"build\", expected candidate"},
		{"release", "cache: false", "cache: true", "release: job build: takes a cache"},
		{"drift", `cron: "41 4 * * 1"`, `cron: "41 4 1 * *"`, "drift: expected to run weekly"},
		{"drift", "          - stack: 04-observability\n            refresh: \"false\"\n", "", "drift: plans [01-cluster 02-database 03-application]"},
		{"drift", "refresh: \"true\"", "refresh: \"false\"", "drift: does not read Azure for 01-cluster"},
		{"infrastructure", "      - run: make locked\n", "", "infrastructure: job plan: expected make locked"},
	} {
		tree := make(fstest.MapFS)
		for _, name := range []string{"check", "e2e", "security", "drift", "infrastructure", "stack", "release"} {
			text, err := os.ReadFile("../.github/workflows/" + name + ".yml")
			if err != nil {
				t.Fatal(err)
			}
			if name == one.file {
				changed := strings.Replace(string(text), one.old, one.new, 1)
				if changed == string(text) {
					t.Fatalf("%s has no %q", name, one.old)
				}
				text = []byte(changed)
			}
			tree[".github/workflows/"+name+".yml"] = &fstest.MapFile{Data: text}
		}
		if found := promiseComplaints(tree); !slices.ContainsFunc(found, func(c string) bool { return strings.Contains(c, one.want) }) {
			t.Errorf("%s with %q in the place of %q: no complaint with %q in %q", one.file, one.new, one.old, one.want, found)
		}
	}
}

func promiseComplaints(tree fs.FS) (found []string) {
	complain := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	all := make(map[string]workflow)
	read := func(name string) workflow {
		if w, ok := all[name]; ok {
			return w
		}
		var w workflow
		text, err := fs.ReadFile(tree, ".github/workflows/"+name+".yml")
		if err == nil {
			err = yaml.Unmarshal(text, &w)
		}
		if err != nil {
			complain("%s: %v", name, err)
		}
		all[name] = w
		return w
	}
	for _, p := range promised {
		steps := read(p.workflow).Jobs[p.job].Steps
		for _, want := range p.steps {
			at := slices.IndexFunc(steps, func(s step) bool { return strings.HasPrefix(s.Run, want) || strings.HasPrefix(s.Uses, want+"@") })
			if at < 0 {
				complain("%s: job %s: expected %s, after what comes before it", p.workflow, p.job, want)
				continue
			}
			steps = steps[at+1:]
		}
	}
	for _, o := range order {
		job := read(o.workflow).Jobs[o.job]
		if job.Needs != o.needs {
			complain("%s: job %s: needs %q, expected %s", o.workflow, o.job, job.Needs, o.needs)
		}
		if job.Environment != o.environment {
			complain("%s: job %s: runs in %q, expected %s", o.workflow, o.job, job.Environment, o.environment)
		}
	}
	for name, job := range read("release").Jobs {
		for _, s := range job.Steps {
			if strings.HasPrefix(s.Uses, "actions/setup-go@") && s.With["cache"] != false {
				complain("release: job %s: takes a cache, into which another workflow may have put something", name)
			}
		}
	}
	var drifting []string
	for _, one := range read("drift").Jobs["drift"].Strategy.Matrix.Include {
		drifting = append(drifting, one.Stack)
		if readsCluster := one.Stack > "03"; one.Refresh != "true" && !readsCluster {
			complain("drift: does not read Azure for %s: expected refresh to be \"true\"", one.Stack)
		}
	}
	if planned := read("infrastructure").Jobs["plan"].Strategy.Matrix.Stack; !slices.Equal(drifting, planned) {
		complain("drift: plans %v, expected %v, as the workflow infrastructure does", drifting, planned)
	}
	for _, name := range []string{"drift", "security"} {
		if schedule := read(name).On.Schedule; len(schedule) != 1 || !strings.HasSuffix(schedule[0].Cron, " * * 1") {
			complain("%s: expected to run weekly, on a Monday", name)
		}
	}
	return found
}

func TestAWorkflowThatBreaksARuleIsFound(t *testing.T) {
	t.Parallel()
	const right = `
permissions: {}
concurrency: {group: check}
jobs:
  check:
    timeout-minutes: 10
    permissions: {contents: read}
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
        with: {persist-credentials: false}
      - run: make check ARGS="x"
`
	const dependabot = `
updates:
  - {package-ecosystem: gomod, directories: [/, /tools], cooldown: {default-days: 7}}
  - {package-ecosystem: terraform, directories: [/terraform/modules/*], cooldown: {default-days: 7}}
  - {package-ecosystem: npm, directory: /client, cooldown: {default-days: 7}}
  - {package-ecosystem: github-actions, directory: /, cooldown: {default-days: 7}}
`
	tree := func(workflow, dependabot string) fs.FS {
		files := make(fstest.MapFS)
		for name, text := range map[string]string{
			".github/workflows/check.yml": workflow, ".github/dependabot.yml": dependabot,
			"go.mod": "", "tools/go.mod": "", "client/package.json": "", "client/node_modules/x/package.json": "", "terraform/modules/naming/a.tf": "",
		} {
			files[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return files
	}
	const makefile = "check: shellcheck\n"
	if found := workflowComplaints(tree(right, dependabot), makefile); len(found) > 0 {
		t.Fatalf("of what is right: %q", found)
	}
	for _, one := range []struct{ old, new, want string }{
		{"de0fac2e4500dabe0009e67214ff5f5447ce83dd", "v6.0.2", "uses actions/checkout@v6.0.2: expected a commit"},
		{" # v6.0.2", "", "expected its version in a comment"},
		{"with: {persist-credentials: false}", "", "keeps its credentials"},
		{"permissions: {}", "", "gives its jobs rights"},
		{"permissions: {}", "permissions: {contents: write}", "gives its jobs rights"},
		{"    permissions: {contents: read}\n", "", "job check says nothing of its rights"},
		{"concurrency: {group: check}", "", "has no concurrency group"},
		{"    timeout-minutes: 10\n", "", "job check has no timeout-minutes"},
		{"make check", "go test ./...", "runs \"go test"},
		{"make check ARGS=\"x\"", "make check && curl example.org", "expected one line that calls make"},
		{"make check ARGS=\"x\"", "make check ARGS=\"${{ github.ref }}\"", "expected one line that calls make"},
		{"make check", "make czech", "the Makefile has no czech"},
		{"/tools", "/tool", "gomod leaves out /tools"},
		{"/terraform/modules/*", "/terraform", "terraform leaves out /terraform/modules/naming"},
		{"/client", "/clients", "npm leaves out /client"},
		{"github-actions", "docker", "github-actions leaves out /"},
		{"/client, cooldown: {default-days: 7}", "/client", "npm takes a version 0 days after its release"},
	} {
		w, d := strings.Replace(right, one.old, one.new, 1), dependabot
		if w == right {
			d = strings.Replace(dependabot, one.old, one.new, 1)
		}
		found := workflowComplaints(tree(w, d), makefile)
		if !slices.ContainsFunc(found, func(c string) bool { return strings.Contains(c, one.want) }) {
			t.Errorf("%q in the place of %q: no complaint with %q in %q", one.new, one.old, one.want, found)
		}
	}
}

var (
	commit   = regexp.MustCompile(`^[a-zA-Z0-9./_-]+@[0-9a-f]{40}$`)
	versions = regexp.MustCompile(`(?m)uses: (\S+) # v[0-9]+\.[0-9]+\.[0-9]+$`)
	verb     = regexp.MustCompile(`^make ([a-z0-9-]+)(?: [A-Z]+="[^"$]*(?:\$[A-Z_]+)?")*$`)
)

func workflowComplaints(tree fs.FS, makefile string) (found []string) {
	complain := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	names, _ := fs.Glob(tree, ".github/workflows/*")
	if len(names) == 0 {
		complain("there are no workflows")
	}
	for _, name := range names {
		text, err := fs.ReadFile(tree, name)
		var w workflow
		if err == nil {
			err = yaml.Unmarshal(text, &w)
		}
		if err != nil {
			complain("%s: %v", name, err)
			continue
		}
		if w.Permissions == nil || len(w.Permissions) > 0 {
			complain("%s gives its jobs rights: expected permissions: {}", name)
		}
		if w.Concurrency == nil {
			complain("%s has no concurrency group", name)
		}
		commented := versions.FindAllStringSubmatch(string(text), -1)
		for _, id := range slices.Sorted(maps.Keys(w.Jobs)) {
			job := w.Jobs[id]
			if job.Permissions == nil {
				complain("%s: job %s says nothing of its rights", name, id)
			}
			if job.TimeoutMinutes == 0 && !strings.HasPrefix(job.Uses, "./") { // whose jobs have theirs
				complain("%s: job %s has no timeout-minutes", name, id)
			}
			for _, step := range job.Steps {
				switch call := verb.FindStringSubmatch(step.Run); {
				case step.Uses != "" && !commit.MatchString(step.Uses):
					complain("%s: job %s uses %s: expected a commit", name, id, step.Uses)
				case step.Uses != "" && !slices.ContainsFunc(commented, func(m []string) bool { return m[1] == step.Uses }):
					complain("%s: job %s uses %s: expected its version in a comment", name, id, step.Uses)
				case strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false:
					complain("%s: job %s keeps its credentials: expected persist-credentials: false", name, id)
				case step.Uses == "" && call == nil:
					complain("%s: job %s runs %q: expected one line that calls make", name, id, step.Run)
				case step.Uses == "" && !strings.Contains("\n"+makefile, "\n"+call[1]+":"):
					complain("%s: job %s runs %q: the Makefile has no %s", name, id, step.Run, call[1])
				}
			}
		}
	}
	return append(found, uncovered(tree)...)
}

// uncovered lists the folders that Dependabot is to look at and is not told of, and the updates that it proposes too early. zizmor, which the
// workflow security runs, expects a week too.
func uncovered(tree fs.FS) (found []string) {
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directory   string
			Directories []string
			Cooldown    struct {
				DefaultDays int `yaml:"default-days"`
			}
		}
	}
	text, err := fs.ReadFile(tree, ".github/dependabot.yml")
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if err != nil {
		return []string{err.Error()}
	}
	told := make(map[string][]string)
	for _, update := range config.Updates {
		told[update.Ecosystem] = append(append(told[update.Ecosystem], update.Directories...), update.Directory)
		if days := update.Cooldown.DefaultDays; days < 7 {
			found = append(found, fmt.Sprintf("dependabot.yml: %s takes a version %d days after its release: expected 7", update.Ecosystem, days))
		}
	}
	wanted := map[[2]string]bool{{"github-actions", "/"}: true}
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		folder := path.Join("/", path.Dir(name))
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && (entry.Name() == "node_modules" || strings.HasPrefix(entry.Name(), ".")):
			return fs.SkipDir
		case entry.Name() == "go.mod":
			wanted[[2]string{"gomod", folder}] = true
		case entry.Name() == "package.json":
			wanted[[2]string{"npm", folder}] = true
		case path.Ext(name) == ".tf":
			wanted[[2]string{"terraform", folder}] = true
		}
		return nil
	})
	if err != nil {
		return []string{err.Error()}
	}
	for w := range wanted {
		if !slices.ContainsFunc(told[w[0]], func(pattern string) bool { match, _ := path.Match(pattern, w[1]); return match }) {
			found = append(found, fmt.Sprintf("dependabot.yml: %s leaves out %s", w[0], w[1]))
		}
	}
	return found
}
