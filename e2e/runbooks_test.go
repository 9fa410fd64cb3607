//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warble/shared/store/pgtest"
)

// unavailable are commands of the runbooks, by their beginnings, that need something that the cluster of make cluster does not have.
// There each of them must fail.
var unavailable = map[string]string{
	"ask ": "Prometheus; make test-infra runs the queries",
	"kubectl -n cert-manager logs deploy/cert-manager":           "cert-manager",
	"kubectl -n external-secrets logs deploy/external-secrets":   "External Secrets",
	"kubectl -n knative-operator logs deploy/knative-operator":   "Knative's operator",
	"kubectl -n knative-serving describe svc public":             "a load balancer of Azure",
	"kubectl -n knative-serving get svc public":                  "a load balancer of Azure",
	"kubectl -n monitoring get externalsecret":                   "External Secrets",
	"kubectl -n warble describe challenge":                       "cert-manager",
	"kubectl -n warble describe externalsecret":                  "External Secrets",
	"kubectl -n warble get certificate,certificaterequest,order": "cert-manager",
	"kubectl -n warble get externalsecret":                       "External Secrets",
	"kubectl -n warble get podmonitor":                           "Prometheus's operator",
	"kubectl get clusterissuer":                                  "cert-manager",
	"kubectl get clustersecretstore":                             "External Secrets",
	"kubectl get knativeserving,knativeeventing":                 "Knative's operator",
}

// absent is what kubectl says about an object or a kind that the cluster does not have.
var absent = regexp.MustCompile(`\(NotFound\)|the server doesn't have a resource type`)

// shown is what commands must print, by a part of each. A label, a column or a JSON path that does not exist prints nothing, and
// kubectl still succeeds.
var shown = map[string]*regexp.Regexp{
	"/docs ":                     regexp.MustCompile(`^200$`),
	"--raw=/readyz":              regexp.MustCompile(`^ok$`),
	"auth can-i watch":           regexp.MustCompile(`^yes$`),
	"get ksvc -o custom-columns": regexp.MustCompile(`(?m)^tweet +/2/tweets`),
	"get ksvc edge;":             regexp.MustCompile(`(?ms)^edge +http.* +True.*^edge-\S+ +2/2 +Running`),
	"describe pod -l warble.dev/service=edge": regexp.MustCompile(`(?m)^Events:`),
	"get ksvc relay;":                         regexp.MustCompile(`(?ms)^relay +http.* +True.*^relay-\S+ +2/2 +Running`),
	"get pingsource steer":                    regexp.MustCompile(`(?m)^steer .* True\b`),
	"get broker events;":                      regexp.MustCompile(`(?m)^events .* True\b`),
	"from outbox_leases":                      regexp.MustCompile(`(?m)\| t$`),
	"from dead_letters":                       regexp.MustCompile(deadType + ` *\| 400 `),
	"migrate outbox replay":                   regexp.MustCompile(`(?m)^[1-9][0-9]* dead letters are back in the outbox$`),
	"localhost:2112/metrics":                  regexp.MustCompile(`(?m)^# HELP `),
	".lastState.terminated.exitCode":          regexp.MustCompile(`(?m)^user-container Error 137$`),
	"--previous":                              regexp.MustCompile(`"level":"info"`),
}

// deadType is the type of the test's dead letter. Nobody subscribes to it.
const deadType = "dev.warble.runbook.tried.v1"

// before makes what a page is about.
var before = map[string]func(*testing.T){
	"DeadLetters":      buryEvent,
	"FunctionRestarts": restartWeb,
}

// shell changes the shell for the test. A pipeline fails if one of its programs fails, but grep may find nothing, and head reads to the
// end of its input. sql is the other way of the README, because the cluster has no image with psql.
const shell = `set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
grep() { command grep "$@" || [ $? = 1 ]; }
head() { command head "$@"; cat >/dev/null; }
ask() { kubectl -n monitoring get svc prometheus-operated; }
sql() { psql --no-psqlrc --set=ON_ERROR_STOP=1 --command="$1" "$DATABASE_DIRECT_URL"; }
`

var (
	shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")
	codeSpan   = regexp.MustCompile("`(kubectl [^`]+)`")
	writes     = regexp.MustCompile(`\bkubectl (?:-n \S+ )?(?:annotate|apply|create|delete|label|patch|rollout|scale)\b`)
	onlyPOD    = regexp.MustCompile(`\bPOD\b`)
)

// TestClusterRunbooksCanBeFollowed runs the commands of all runbooks: those of the blocks, and kubectl's in the sentences. A command in a
// sentence that would change something is a dry run at the API server.
func TestClusterRunbooksCanBeFollowed(t *testing.T) {
	needsCluster(t)
	files, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	pages := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimSuffix(filepath.Base(file), ".md")] = string(text)
	}
	serves := "--selector=serving.knative.dev/revision=" + serviceOf(t, "edge").Status.LatestReadyRevisionName
	r := runbooks{
		definitions: filepath.Join(t.TempDir(), "definitions.sh"), url: plainURL(t),
		pod: run(t, "get", "pods", serves, "--output=jsonpath={.items[0].metadata.name}"),
	}
	var functions strings.Builder
	for _, block := range shellBlock.FindAllStringSubmatch(pages["README"], -1) {
		for line := range strings.Lines(block[1]) {
			if !strings.HasPrefix(line, "kubectl ") { // the way to Prometheus
				functions.WriteString(line)
			}
		}
	}
	delete(pages, "README")
	if err := os.WriteFile(r.definitions, []byte(functions.String()+shell), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("pages", func(t *testing.T) {
		for name, text := range pages {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if prepare := before[name]; prepare != nil {
					prepare(t)
				}
				r.follow(t, name, text)
				r.pages.Add(1)
			})
		}
	})
	if int(r.pages.Load()) < len(pages) { // somebody runs only some of them
		return
	}
	for begin := range unavailable {
		if _, is := r.used.Load(begin); !is {
			t.Errorf("no page has the command %q that is unavailable: remove it from the list", begin)
		}
	}
	for part := range shown {
		if _, is := r.used.Load(part); !is {
			t.Errorf("no page has a command with %q: remove it from the list", part)
		}
	}
}

// runbooks has the values of the pages' placeholders, and which entries of the lists were used.
type runbooks struct {
	definitions string // a file with the shell functions
	url, pod    string
	pages       atomic.Int32 // that were followed
	used        sync.Map
}

// follow runs the commands of one page.
func (r *runbooks) follow(t *testing.T, name, text string) {
	t.Helper()
	for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
		for command := range strings.Lines(block[1]) {
			if writes.MatchString(command) {
				t.Errorf("%s changes something: expected it in a sentence, which the test runs as a dry run", command)
				continue
			}
			r.try(t, name, strings.TrimSpace(command))
		}
	}
	for _, span := range codeSpan.FindAllStringSubmatch(shellBlock.ReplaceAllString(text, ""), -1) {
		command := strings.Join(strings.Fields(span[1]), " ") // it may be broken into two lines
		if writes.MatchString(command) {
			command += " --dry-run=server"
		}
		r.try(t, name, command)
	}
}

// try runs one command until it does what it must. It tries for a minute, because a pod may be starting or ending, and the machine busy.
func (r *runbooks) try(t *testing.T, page, command string) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(pollEvery) {
		err := r.check(t, page, command)
		if err == nil {
			return
		}
		if time.Since(began) > time.Minute {
			t.Errorf("%s\n%v", command, err)
			return
		}
	}
}

// check runs one command, and returns what is wrong: it fails, or it prints something else than it must, or it is in the list of what is
// unavailable and works.
func (r *runbooks) check(t *testing.T, page, command string) error {
	t.Helper()
	said, err := r.run(t, page, command)
	for begin, lacks := range unavailable {
		if !strings.HasPrefix(command, begin) {
			continue
		}
		r.used.Store(begin, true)
		switch {
		case err == nil && os.Getenv("KIND_CLUSTER_NAME") == "": // kind has Knative's operator
			return fmt.Errorf("it works, so the cluster has %s: remove it from the list of what is unavailable: %s", lacks, said)
		case err != nil && !absent.MatchString(err.Error()):
			return fmt.Errorf("it fails, but not because the cluster lacks %s: %w", lacks, err)
		}
		return nil
	}
	for part, want := range shown {
		if !strings.Contains(command, part) {
			continue
		}
		r.used.Store(part, true)
		if err == nil && !want.MatchString(said) {
			err = fmt.Errorf("%q, want what %s matches", said, want)
		}
	}
	return err
}

// run runs one command, with values for its placeholders. The page about restarts has the function web for its example tweet, because
// web is the function that the test kills.
func (r *runbooks) run(t *testing.T, page, command string) (string, error) {
	t.Helper()
	command = strings.NewReplacer("https://YOUR-HOST", r.url, "ksvc/NAME", "ksvc/web").Replace(command)
	command = onlyPOD.ReplaceAllString(command, r.pod)
	if page == "FunctionRestarts" {
		command = strings.ReplaceAll(command, "service=tweet", "service=web")
	}
	return execute(t.Context(), "", "bash", "-c", `. "$0"; `+command, r.definitions)
}

// buryEvent makes a dead letter. relay can publish it when the page has put it back.
func buryEvent(t *testing.T) {
	t.Helper()
	url := os.Getenv("DATABASE_DIRECT_URL")
	t.Cleanup(func() {
		if !t.Failed() {
			within(t, "the event's publication", readyLimit, func() bool {
				left, err := pgtest.Column(context.Background(), url, `select type from outbox where type = $1`, deadType)
				return err == nil && len(left) == 0
			})
		}
		for _, table := range []string{"dead_letters", "outbox"} {
			if err := pgtest.Exec(context.Background(), url, `delete from `+table+` where type = $1`, deadType); err != nil {
				t.Error(err)
			}
		}
	})
	if err := pgtest.Exec(t.Context(), url, `
		insert into dead_letters (id, user_id, type, data, created_at, reason, died_at)
		values (1, 1, $1, '{}', now(), '400', now() - interval '1 minute')
		on conflict do nothing`, deadType); err != nil {
		t.Fatal(err)
	}
}

// restartWeb kills the process of the function web, and waits until its pod has started another.
func restartWeb(t *testing.T) {
	t.Helper()
	if a := (&user{t: t}).do("GET", "/", ""); a.status != http.StatusOK {
		t.Fatalf("web: %d %s", a.status, a.body)
	}
	if _, err := execute(t.Context(), "", "e2e/cluster/signal.sh", "web", "KILL"); err != nil {
		t.Fatal(err)
	}
}
