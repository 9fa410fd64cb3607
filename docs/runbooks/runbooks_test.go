// Package runbooks_test checks the commands of the runbooks, because people who are woken at night have no time for a wrong command.
package runbooks_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

const root = "../.."

func TestMain(m *testing.M) { pgtest.Main(m) }

// page has a runbook's code: its fenced blocks, and its code spans.
type page struct {
	name   string
	blocks []string
	spans  []string
}

var (
	fenced = regexp.MustCompile("(?s)```sh\n(.*?)```")
	span   = regexp.MustCompile("`([^`]+)`")
)

func pages(t *testing.T) (all []page) {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := page{name: file}
		for _, found := range fenced.FindAllSubmatch(text, -1) {
			p.blocks = append(p.blocks, string(found[1]))
		}
		for _, found := range span.FindAllSubmatch(fenced.ReplaceAll(text, nil), -1) {
			p.spans = append(p.spans, strings.Join(strings.Fields(string(found[1])), " ")) // a command may be broken into two lines
		}
		all = append(all, p)
	}
	return all
}

// code returns all lines of blocks, and all spans.
func (p page) code() (all []string) {
	for _, block := range p.blocks {
		all = append(all, strings.Split(strings.TrimSpace(block), "\n")...)
	}
	return append(all, p.spans...)
}

func TestBlocksAreShell(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash here")
	}
	for _, p := range pages(t) {
		for _, block := range p.blocks {
			check := exec.CommandContext(t.Context(), shell, "-n")
			check.Stdin = strings.NewReader(block)
			if said, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", p.name, err, said, block)
			}
		}
	}
}

// object is an object of the manifests or of the charts.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
}

// objects returns the objects of a deployment.
func objects(t *testing.T) (all []object) {
	t.Helper()
	files, err := filepath.Glob(root + "/knative/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, root+"/terraform/04-observability/podmonitor.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var o object
			if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, o)
		}
	}
	// Other objects: those of Knative, of Prometheus's operator, and of the charts of 03-application.
	for _, o := range [][3]string{
		{"CustomResourceDefinition", "services.serving.knative.dev", ""},
		{"Deployment", "pingsource-mt-adapter", "knative-eventing"},
		{"Service", "prometheus-operated", "monitoring"},
		{"Service", "public", "knative-serving"},
		{"ClusterIssuer", "letsencrypt", ""},
		{"ClusterSecretStore", "vault", ""},
	} {
		all = append(all, object{Kind: o[0], Metadata: struct{ Name, Namespace string }{o[1], o[2]}})
	}
	return all
}

// kinds are kubectl's names of kinds.
var kinds = map[string]string{
	"ksvc": "Service", "svc": "Service", "pod": "Pod", "pods": "Pod", "events": "Event", "experiment": "Experiment", "experiments": "Experiment",
	"crd": "CustomResourceDefinition", "broker": "Broker", "pingsource": "PingSource", "podmonitor": "PodMonitor", "deployment": "Deployment",
	"networkpolicies": "NetworkPolicy", "podautoscalers": "PodAutoscaler", "services.serving.knative.dev": "Service",
	"certificate": "Certificate", "certificaterequest": "CertificateRequest", "order": "Order", "challenge": "Challenge", "clusterissuer": "ClusterIssuer",
	"externalsecret": "ExternalSecret", "clustersecretstore": "ClusterSecretStore", "knativeserving": "KnativeServing", "knativeeventing": "KnativeEventing",
	"nodes": "Node",
}

// verbs are kubectl's verbs, with the number of words before the kind, or -1 if the verb takes no kind.
var verbs = map[string]int{"get": 0, "describe": 0, "annotate": 0, "patch": 0, "delete": 0, "port-forward": 0, "auth": 2, "logs": -1, "apply": -1, "create": -1, "label": 0, "wait": -1}

// withValue are the flags with a value in the next word.
var withValue = []string{"-n", "-l", "-o", "-c", "-p", "-f", "--field-selector"}

var kubectl = regexp.MustCompile(`(?:^|[\s;(])kubectl ([^;|&)]*)`)

// Each command of kubectl names a kind that exists, and an object of a deployment in its namespace.
func TestCommandsOfKubectlNameExistingObjects(t *testing.T) {
	t.Parallel()
	existing := objects(t)
	checked := 0
	for _, p := range pages(t) {
		for _, line := range p.code() {
			for _, found := range kubectl.FindAllStringSubmatch(line, -1) {
				checked++
				for _, complaint := range complaints(strings.Fields(found[1]), existing) {
					t.Errorf("%s: kubectl %s: %s", p.name, found[1], complaint)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("%d commands of kubectl: expected more", checked)
	}
}

// TestTheRulesCanFail finds rules that would accept every command.
func TestTheRulesCanFail(t *testing.T) {
	t.Parallel()
	existing := objects(t)
	for command, want := range map[string]string{
		"-n warble get ksvc nobody":                   "no Service nobody in warble",
		"-n default get ksvc edge":                    "no Service edge in default",
		"get kservices":                               "kservices: no such kind",
		"-n warble show ksvc":                         "show: no such verb",
		"-n warble get pods -l warble.dev/service=it": "no Service it in warble",
		"-n warble get pods -l app=edge":              "-l app=edge: expected warble.dev/service",
	} {
		if got := strings.Join(complaints(strings.Fields(command), existing), "; "); got != want {
			t.Errorf("kubectl %s: %q, want %q", command, got, want)
		}
	}
}

// complaints returns the mistakes in a command of kubectl.
func complaints(words []string, existing []object) (found []string) {
	namespace := ""
	has := func(kind, name string) {
		placeholder := strings.ToUpper(name) == name
		if !placeholder && !slices.ContainsFunc(existing, func(o object) bool {
			return o.Kind == kind && o.Metadata.Name == name && o.Metadata.Namespace == namespace
		}) {
			found = append(found, strings.TrimSuffix("no "+kind+" "+name+" in "+namespace, " in "))
		}
	}
	var plain []string
	var selectors []string
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case slices.Contains(withValue, word) && i+1 < len(words):
			i++
			switch word {
			case "-n":
				namespace = words[i]
			case "-l":
				selectors = append(selectors, words[i])
			}
		case !strings.HasPrefix(word, "-") && !strings.ContainsAny(word, `'"{\#=`):
			plain = append(plain, word)
		case strings.HasPrefix(word, "#"): // a comment
			i = len(words)
		}
	}
	for _, selector := range selectors {
		name, ok := strings.CutPrefix(selector, "warble.dev/service=")
		if !ok && namespace != "warble" {
			continue // pods of other namespaces have other labels
		}
		if !ok {
			found = append(found, "-l "+selector+": expected warble.dev/service")
		} else if !strings.HasPrefix(name, `"$`) { // a variable of the shell function logs
			has("Service", name)
		}
	}
	if len(plain) == 0 { // for example get --raw=/readyz
		return found
	}
	before, known := verbs[plain[0]]
	switch {
	case !known:
		return append(found, plain[0]+": no such verb")
	case before < 0 || len(plain) < before+2:
		return found
	}
	for word := range strings.SplitSeq(plain[before+1], ",") {
		word, name, named := strings.Cut(word, "/")
		kind, known := kinds[word]
		switch {
		case !known && plain[0] == "port-forward":
			return found
		case !known:
			found = append(found, word+": no such kind")
		case named:
			has(kind, name)
		case len(plain) > before+2:
			has(kind, plain[before+2])
		}
	}
	return found
}

var (
	update  = regexp.MustCompile(`kn service update ([\w-]+) -n warble (--traffic (?:REVISION|@latest)=100|--image IMAGE)`)
	logs    = regexp.MustCompile(`(?:^|;)\s*logs ([\w-]+)`)
	made    = regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)
	program = regexp.MustCompile(`go run \./(\S+)`)
	path    = regexp.MustCompile(`\b(?:knative|terraform|shared|functions|cmd|docs)/[\w./-]+`)
)

// The functions, verbs of make, programs and files that a page names exist.
func TestThePagesNameOnlyThingsThatExist(t *testing.T) {
	t.Parallel()
	existing := objects(t)
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	exists := func(p page, name string) {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	function := func(p page, name string) {
		if !slices.ContainsFunc(existing, func(o object) bool {
			return o.Kind == "Service" && o.Metadata.Name == name && o.Metadata.Namespace == "warble"
		}) {
			t.Errorf("%s: there is no function %s", p.name, name)
		}
	}
	for _, p := range pages(t) {
		for _, line := range p.code() {
			if strings.Contains(line, "kn service") && !update.MatchString(line) {
				t.Errorf("%s: %s: expected what %s matches", p.name, line, update)
			}
			for _, found := range slices.Concat(update.FindAllStringSubmatch(line, -1), logs.FindAllStringSubmatch(line, -1)) {
				function(p, found[1])
			}
			for _, found := range made.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(string(makefile), "\n"+found[1]+":") {
					t.Errorf("%s: make %s: the Makefile has no such target", p.name, found[1])
				}
			}
			for _, found := range program.FindAllStringSubmatch(line, -1) {
				exists(p, found[1])
			}
			for _, found := range path.FindAllString(line, -1) {
				exists(p, found)
			}
		}
	}
}

var (
	quoted    = regexp.MustCompile(`(?m)^sql (?:"([^"]+)"|'([^']+)')`)
	statement = regexp.MustCompile(`^(?:select|delete|insert|update) `)
)

// Statements run on a migrated database as its owner, who is not a superuser, and who can see what the pages describe.
func TestStatementsRun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	folder, err := os.MkdirTemp("", "warble-runbooks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	server, err := pgserver.Start(ctx, folder, pgserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	for _, sql := range []string{`create role warble login createrole`, `create database warble owner warble`} {
		if err := pgtest.Exec(ctx, server.Superuser("postgres"), sql); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := store.Connect(ctx, server.URL("warble", "warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, _, err := migrations.Apply(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if err := store.CreateLogin(ctx, conn, store.DatabaseLogin{Name: "warble_api_login", Group: "warble_api"}); err != nil {
		t.Fatal(err)
	}
	run := 0
	for _, p := range pages(t) {
		var statements []string
		for _, found := range quoted.FindAllStringSubmatch(strings.Join(p.blocks, "\n"), -1) {
			statements = append(statements, found[1]+found[2])
		}
		statements = append(statements, slices.DeleteFunc(p.spans, func(s string) bool { return !statement.MatchString(s) })...)
		for _, sql := range statements {
			run++
			if _, err := conn.Exec(ctx, strings.ReplaceAll(sql, "PID", "0")); err != nil {
				t.Errorf("%s: %s: %v", p.name, sql, err)
			}
		}
	}
	if run < 8 {
		t.Errorf("%d statements: expected more", run)
	}
	text, err := os.ReadFile(root + "/docs/day-two.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```sql\n(.*?)^```$").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Error("docs/day-two.md has no statement: expected that for mail that was not sent")
	}
	for _, found := range blocks {
		if _, err := conn.Exec(ctx, string(found[1])); err != nil {
			t.Errorf("docs/day-two.md: %s: %v", found[1], err)
		}
	}

	other, err := store.Connect(ctx, server.URL("warble_api_login", "warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(context.Background()) })
	var seen int
	if err := conn.QueryRow(ctx, `select count(*) from pg_stat_activity where usename = 'warble_api_login' and state is not null`).Scan(&seen); err != nil || seen != 1 {
		t.Errorf("the owner sees what %d connections of the functions do, %v: expected 1", seen, err)
	}
}

// TestTheShellFunctionSQLAsksTheDatabase runs the function of the README with a fake kubectl that runs the command of the Job's pod: psql, with
// the arguments of the manifest and the statement of the config map.
func TestTheShellFunctionSQLAsksTheDatabase(t *testing.T) {
	t.Parallel()
	var job struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Command, Args []string
						VolumeMounts  []struct {
							MountPath string `yaml:"mountPath"`
						} `yaml:"volumeMounts"`
					}
				}
			}
		}
	}
	text, err := os.ReadFile(root + "/knative/examples/psql.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &job)
	}
	if err != nil || len(job.Spec.Template.Spec.Containers) != 1 {
		t.Fatal(job, err)
	}
	var functions string
	for _, p := range pages(t) {
		if p.name == "README.md" {
			functions = p.blocks[len(p.blocks)-1]
		}
	}
	container := job.Spec.Template.Spec.Containers[0]
	folder, d := t.TempDir(), pgtest.New(t)
	command := strings.Join(slices.Concat(container.Command, container.Args), " ")
	command = strings.NewReplacer("$(DATABASE_DIRECT_URL)", `"`+d.URL(pgtest.Owner)+`"`, container.VolumeMounts[0].MountPath+"/", folder+"/").Replace(command)
	kubectl := `#!/bin/sh
case "$*" in
"-n warble create configmap psql --from-literal=statement.sql="*) for a; do case "$a" in --from-literal=*) printf %s "${a#--from-literal=statement.sql=}" >` + folder + `/statement.sql;; esac; done;;
"apply -f -") cat;;
"create -f knative/examples/psql.yaml -o name") echo job.batch/psql-1;;
"-n warble wait --for=jsonpath={.status.conditions[0].type} --timeout=6m job.batch/psql-1") ;;
"-n warble logs job.batch/psql-1") ` + command + ` 2>&1;;
*) echo "not expected: kubectl $*"; exit 1;;
esac
`
	if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte(kubectl), 0o700); err != nil { //nolint:gosec // it must be executable
		t.Fatal(err)
	}
	for statement, want := range map[string]string{
		`select 'it''s ' || 41 + 1 as "the answer"`: "it's 42",
		`select from nowhere`:                       `relation "nowhere" does not exist`,
	} {
		shell := exec.CommandContext(t.Context(), "bash", "-c", functions+"\nsql \"$STATEMENT\"")
		shell.Dir, shell.Env = root, append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"), "STATEMENT="+statement)
		if said, _ := shell.CombinedOutput(); !strings.Contains(string(said), want) { // its exit code is kubectl's
			t.Errorf("sql %s: %q, want %q in it", statement, said, want)
		}
	}
}
