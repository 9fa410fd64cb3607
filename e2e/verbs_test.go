//go:build e2e

package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/apitest"
	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/rollout"
)

// verbs tries verbs of kn experiment in the way that the welcome of a local run tells people to.
type verbs struct {
	t       *testing.T
	run     *apitest.Local
	exports string // the lines of the welcome that set KUBECONFIG and DATABASE_URL
	home    string // an empty folder
	tried   map[string]bool
}

// export matches a line of the welcome that sets a variable.
var export = regexp.MustCompile(`(?m)^ +(export [A-Z_]+=.*)$`)

func newVerbs(t *testing.T, run *apitest.Local) *verbs {
	t.Helper()
	v := &verbs{t: t, run: run, home: t.TempDir(), tried: make(map[string]bool)}
	for _, line := range export.FindAllStringSubmatch(run.Log(), -1) {
		v.exports += line[1] + "\n"
	}
	for _, name := range []string{"KUBECONFIG", "DATABASE_URL"} {
		if !strings.Contains(v.exports, "export "+name+"=") {
			t.Fatalf("the welcome does not export %s:\n%s", name, run.Log())
		}
	}
	return v
}

// command returns the command of a verb, in a shell that has only the printed exports.
func (v *verbs) command(ctx context.Context, args ...string) *exec.Cmd {
	v.tried[args[0]] = true
	tool := filepath.Join(v.run.State(), "bin", "kn-experiment")
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-euc", v.exports + `exec "$0" "$@"`, tool}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + v.home, "USER=ada"}
	return cmd
}

// kn runs a verb, and checks its exit code and that it prints each text of wants. It returns the standard output.
func (v *verbs) kn(code int, wants []string, args ...string) string {
	v.t.Helper()
	var stdout, stderr strings.Builder
	cmd := v.command(v.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		v.t.Fatal(err)
	}
	said := stdout.String() + stderr.String()
	if cmd.ProcessState.ExitCode() != code {
		v.t.Fatalf("kn experiment %s: exit code %d, want %d\n%s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), code, said)
	}
	for _, want := range wants {
		if !strings.Contains(said, want) {
			v.t.Errorf("kn experiment %s: no %q in\n%s", strings.Join(args, " "), want, said)
		}
	}
	return stdout.String()
}

// begin starts a verb that does not end by itself. said returns what it has printed. end interrupts it, if interrupt is set, and checks
// that it ends without an error.
func (v *verbs) begin(args ...string) (said func() string, end func(interrupt bool)) {
	v.t.Helper()
	file, err := os.Create(filepath.Join(v.t.TempDir(), "said"))
	if err != nil {
		v.t.Fatal(err)
	}
	cmd := v.command(v.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = file, file
	if err := errors.Join(cmd.Start(), file.Close()); err != nil {
		v.t.Fatal(err)
	}
	said = func() string {
		text, err := os.ReadFile(file.Name())
		if err != nil {
			v.t.Fatal(err)
		}
		return string(text)
	}
	return said, func(interrupt bool) {
		v.t.Helper()
		if interrupt {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				v.t.Error(err)
			}
		}
		if err := cmd.Wait(); err != nil {
			v.t.Errorf("kn experiment %s: %v\n%s", strings.Join(args, " "), err, said())
		}
	}
}

// until waits until a verb that was begun has printed a text.
func (v *verbs) until(said func() string, text string) {
	v.t.Helper()
	eventually(v.t, text, time.Minute, func() bool { return strings.Contains(said(), text) })
}

// experiment returns the experiment as status shows it.
func (v *verbs) experiment(name string) (e rollout.Experiment) {
	v.t.Helper()
	v.decode(&e, "status", name, "-o", "json")
	return e
}

// decode runs a verb that prints JSON.
func (v *verbs) decode(into any, args ...string) {
	v.t.Helper()
	if err := json.Unmarshal([]byte(v.kn(0, nil, args...)), into); err != nil {
		v.t.Fatalf("kn experiment %s: %v", strings.Join(args, " "), err)
	}
}

// all returns the names of all verbs, as the shell's completion gets them.
func (v *verbs) all() (names []string) {
	v.t.Helper()
	for line := range strings.Lines(v.kn(0, nil, "__complete", "")) {
		if name, _, isVerb := strings.Cut(line, "\t"); isVerb {
			names = append(names, name)
		}
	}
	if !slices.Contains(names, "validate") || !slices.Contains(names, "rollback") {
		v.t.Fatalf("the verbs are %q: expected all of them", names)
	}
	return names
}

// A local run serves the resource Experiment, and every verb works against it with the variables that it prints. A new verb fails this test
// until it is tried here.
func TestLocalRunTakesEveryVerb(t *testing.T) {
	v := newVerbs(t, processes(t))
	folder, id := t.TempDir(), strings.ToLower(rand.Text()[:6])
	write := func(file, text string) string {
		t.Helper()
		file = filepath.Join(folder, file)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// No experiment can find so small an effect, so plan and start always refuse the design. For the second one, git promotes.
	const design = `apiVersion: warble.dev/v1alpha1
kind: Experiment
metadata: {name: %s}
spec:
  title: Does every verb work?
  services: [%s]
  treatment: {env: {VERBS: tried}}
  unit: user
  ramp: {steps: [25, 50], approve: manual, hold: {time: 1h}}
  promoteBy: %s
  metrics: {window: 10s, primary: {name: tweets_per_user, minimumEffect: 0.01%%}}
`
	name, other := "verbs-"+id, "git-"+id
	file, otherFile := write("verbs.yaml", fmt.Sprintf(design, name, "tweet", "steer")), write("git.yaml", fmt.Sprintf(design, other, "timeline", "git"))
	t.Cleanup(func() { // does nothing if the test has passed
		for _, name := range []string{name, other} {
			_ = v.command(context.WithoutCancel(t.Context()), "stop", name).Run()
		}
	})

	// Before the start.
	v.kn(0, []string{"resource  warble.dev/v1alpha1 Experiment", "cluster   https://127.0.0.1:", " has the resource"}, "version")
	v.kn(0, []string{"\n  promote "}, "help")
	v.kn(0, []string{"__start_kn"}, "completion", "bash")
	v.kn(0, []string{"experiment " + name + " is well-formed"}, "validate", "-f", file)
	v.kn(2, []string{"wrong.yaml:9: ramp.steps[1]: 25 after 50: expected rising percents"}, "validate", "-f",
		write("wrong.yaml", strings.Replace(fmt.Sprintf(design, name, "tweet", "steer"), "[25, 50]", "[50, 25]", 1)))
	v.kn(3, []string{"a local run has only", "Metric       tweets_per_user", "use --anyway"}, "plan", "-f", file)
	v.kn(0, []string{"Metric       tweets_per_user"}, "plan", "-f", file, "--anyway")
	v.metrics("orders-" + id)
	v.simulate(file)
	var forGit rollout.Experiment
	v.decode(&forGit, "start", "-f", file, "--dry-run=client", "-o", "json")
	if forGit.Name != name || !forGit.Spec.Start {
		t.Errorf("the file for Git has %s, start %v", forGit.Name, forGit.Spec.Start)
	}
	v.kn(2, []string{"expected one of [none client]"}, "start", "-f", file, "--dry-run=server")
	v.kn(3, []string{"to start it in spite of this, use --anyway"}, "start", "-f", file)
	v.kn(3, []string{"treatment.image: expected treatment.env, because a local run has only one program for each function"}, "start", "--anyway", "-f",
		write("image.yaml", strings.Replace(fmt.Sprintf(design, name, "tweet", "steer"), "{env: {VERBS: tried}}", "{image: {tweet: ko://warble/functions/tweet}}", 1)))
	if listed := v.kn(0, nil, "list"); strings.Contains(listed, name) {
		t.Errorf("it was not started, and is listed:\n%s", listed)
	}

	// While it runs.
	v.kn(0, []string{name + " is Running, step 1/2 25%"}, "start", "-f", file, "--anyway", "-m", "let us see")
	v.kn(3, []string{name + " is Running, step 1/2 25%: a start needs a draft, or a name that is not used yet"}, "start", "-f", file, "--anyway")
	v.kn(0, []string{other + " is Running, step 1/2 25%"}, "start", "-f", otherFile, "--anyway")
	v.lists(name)
	v.kn(3, []string{name + " is Running, step 1/2 25%: archive needs an experiment that is Concluded"}, "archive", name)
	v.kn(0, nil, "approve", name, "-m", "the figures look right")
	if e := v.experiment(name); e.Spec.Approved != 1 || e.Spec.By != "ada" || e.Spec.Why != "the figures look right" {
		t.Errorf("after approve: %+v", e.Spec.Wishes)
	}
	v.kn(0, []string{name + " is Running, step 2/2 50%"}, "step", name)
	v.kn(3, []string{name + " is at step 2 of 2"}, "step", name)
	v.kn(0, []string{name + " is Paused, step 2/2 50%"}, "pause", name)
	v.kn(3, []string{name + " is paused: resume it first"}, "promote", name)
	v.kn(0, []string{name + " is Running, step 2/2 50%"}, "resume", name)
	v.kn(1, []string{"there is no experiment nothing in the namespace warble"}, "pause", "nothing")
	v.kn(0, nil, "rebase", name)
	if e := v.experiment(name); e.Status.Rebases != 1 || e.Status.Rebasing {
		t.Errorf("after rebase: %d rebases, one under way: %v", e.Status.Rebases, e.Status.Rebasing)
	}
	entered := experiment.Counts{}
	for range 4 {
		v.tweet(name, &entered)
	}
	v.dashboard(name)
	v.drive(name)
	v.report(name, entered)

	// The ends: one is rolled back, and git promotes the other.
	watched, end := v.begin("status", name, "--watch")
	v.until(watched, name+": Running, step 2/2 50%")
	v.kn(0, []string{"every slot is closed", name + " is Concluded, rolled back"}, "rollback", name, "-m", "the support team asks for it")
	end(false)
	if said := watched(); !strings.Contains(said, name+": Concluded, rolled back") {
		t.Errorf("status --watch does not show the end:\n%s", said)
	}
	v.promote(other)
	v.kn(0, []string{other + " is Concluded, stopped"}, "stop", other)
	v.kn(3, []string{name + " is Concluded, rolled back: only an experiment that runs can be promoted"}, "promote", name)
	v.archive(name, entered)
	for _, service := range []string{"tweet", "timeline"} {
		only(t, v.run, service) // for the tests that come after this one
	}

	for _, verb := range v.all() {
		if !v.tried[verb] {
			t.Errorf("kn experiment %s is not tried here", verb)
		}
	}
}

// metrics creates a Metric, and lists it.
func (v *verbs) metrics(name string) {
	v.t.Helper()
	m := &rollout.Metric{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: experiment.EventMetric{
		Label: "Orders", Unit: "orders", Direction: "up", Kind: experiment.KindSum, Event: experiment.EventSource{Type: "shop." + name + ".v1", SubjectIsUnit: true},
	}}
	if err := resources(v.t, v.run).CreateMetric(v.t.Context(), m); err != nil {
		v.t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + name + ` +Orders +shop\.` + name + `\.v1 +orders +more +0 +– +ready$`)
	if said := v.kn(0, nil, "metrics"); !line.MatchString(said) {
		v.t.Errorf("metrics: no line that matches %s in\n%s", line, said)
	}
	v.kn(0, []string{"kind: MetricList", "name: " + name}, "metrics", "-o", "yaml")
	var list rollout.MetricList
	v.decode(&list, "metrics", "-o", "json")
	if !slices.ContainsFunc(list.Items, func(m rollout.Metric) bool { return m.Name == name }) {
		v.t.Errorf("metrics -o json: no %s in %+v", name, list.Items)
	}
}

func (v *verbs) simulate(file string) {
	v.t.Helper()
	args := []string{"simulate", "-f", file, "--units", "200", "--effect", "100%", "--runs", "4", "--looks", "5"}
	v.kn(0, []string{"200 users, 25%, 50% in each arm held for 1h", "5 looks, 4"}, args...)
	var results []readout.Simulated
	v.decode(&results, append(args, "-o", "json")...)
	if len(results) != 2 || results[0].Runs != 4 || results[0].World.Effect != 0 || results[1].World.Effect != 1 {
		v.t.Errorf("simulate: %+v", results)
	}
	v.kn(2, []string{"0 runs: expected 1 or more"}, "simulate", "--runs", "0")
}

// lists checks list and status in every format.
func (v *verbs) lists(name string) {
	v.t.Helper()
	line := regexp.MustCompile(`(?m)^` + name + ` +Running +1/2 25% `)
	if said := v.kn(0, nil, "list"); !line.MatchString(said) {
		v.t.Errorf("list: no line that matches %s in\n%s", line, said)
	}
	v.kn(0, []string{"kind: ExperimentList", "name: " + name}, "list", "-o", "yaml")
	var list rollout.ExperimentList
	v.decode(&list, "list", "-o", "json")
	if !slices.ContainsFunc(list.Items, func(e rollout.Experiment) bool { return e.Name == name && e.Status.Phase == experiment.Running }) {
		v.t.Errorf("list -o json: %s is not Running in %+v", name, list.Items)
	}
	v.kn(0, []string{name + ": Running, step 1/2 25%", "services    tweet", "slots       2500 control, 2500 treatment of 10000", "entered "}, "status", name)
	v.kn(0, []string{"kind: Experiment\n", "phase: Running", "title: Does every verb work?"}, "status", name, "-o", "yaml")
	if e := v.experiment(name); e.Kind != rollout.Kind || e.Status.Phase != experiment.Running || e.Spec.Why != "let us see" {
		v.t.Errorf("status -o json: %s in %s, why %q", e.Kind, e.Status.Phase, e.Spec.Why)
	}
}

// tweet registers a user who tweets until an arm answers that was made after the rebase, and adds the user to entered.
func (v *verbs) tweet(name string, entered *experiment.Counts) {
	v.t.Helper()
	u := register(v.t, "")
	var a answer
	within(v.t, "an answer of an arm after the rebase", time.Minute, func() bool {
		a = u.do("POST", "/2/tweets", object("text", "hello, warble"))
		return regexp.MustCompile(`^` + name + `-tweet-(control|treatment)-00002$`).MatchString(a.header.Get("X-Revision"))
	})
	if experiment.Arm(a.header.Get("X-Variant")) == experiment.Control {
		entered.Control++
	} else {
		entered.Treatment++
	}
}

func (v *verbs) dashboard(name string) {
	v.t.Helper()
	v.kn(2, []string{"--listen 0.0.0.0:8070: expected a loopback address"}, "dashboard", "--listen", "0.0.0.0:8070")
	said, end := v.begin("dashboard", "--listen", "127.0.0.1:0")
	v.until(said, "\n")
	_, board, found := strings.Cut(strings.TrimSpace(said()), "the board is at ")
	if !found {
		v.t.Fatalf("dashboard: no address in %s", said())
	}
	for path, wants := range map[string][]string{
		"/":                    {`href="/experiments/` + name + `"`, "Does every verb work?", "Running, step 2/2 50%"},
		"/experiments/" + name: {"Does every verb work?", `data-verb="pause"`, `data-verb="rollback"`},
	} {
		answer, page := apitest.Send(v.t, http.MethodGet, board+path, "")
		if answer.StatusCode != http.StatusOK {
			v.t.Errorf("the board's %s: %s", path, answer.Status)
		}
		for _, want := range wants {
			if !strings.Contains(page, want) {
				v.t.Errorf("the board's %s: no %q in\n%s", path, want, page)
			}
		}
	}
	end(true)
}

// drive checks that run changes nothing, and says why: it needs the Services, which a local run does not serve. A local run moves its
// experiments itself.
func (v *verbs) drive(name string) {
	v.t.Helper()
	before := v.experiment(name)
	said, end := v.begin("run", "--every", "100ms")
	v.until(said, name+": GET /apis/serving.knative.dev/v1/namespaces/warble/services: a local run has only ")
	end(true)
	if after := v.experiment(name); after.Generation != before.Generation || after.Describe() != before.Describe() {
		v.t.Errorf("after run: %s, before: %s", after.Describe(), before.Describe())
	}
}

// report checks every format, when everyone's exposure is stored.
func (v *verbs) report(name string, entered experiment.Counts) {
	v.t.Helper()
	var r readout.Report
	eventually(v.t, "a report of everyone who entered", time.Minute, func() bool {
		v.decode(&r, "report", name, "-o", "json")
		return r.Units.Entered == entered
	})
	if r.Experiment != name || r.Phase != experiment.Running || len(r.Steps) != 2 {
		v.t.Errorf("report -o json: %s is %s, with %d steps", r.Experiment, r.Phase, len(r.Steps))
	}
	units := fmt.Sprintf(" entered, %d control and %d treatment;", entered.Control, entered.Treatment)
	v.kn(0, []string{name + ": ", "Does every verb work?", units}, "report", name)
	v.kn(0, []string{"# " + name + ": ", "| Question | Does every verb work? |", units}, "report", name, "-o", "markdown")
	v.kn(0, []string{"<!DOCTYPE html>", "Does every verb work?", "</html>"}, "report", name, "-o", "html")
	v.kn(2, []string{"expected one of [text json markdown html]"}, "report", name, "-o", "pdf")
	v.kn(1, []string{"the database has no experiment nothing"}, "report", "nothing")
}

// promote promotes an experiment by git, and writes the treatment into a copy of the manifest.
func (v *verbs) promote(name string) {
	v.t.Helper()
	text, err := os.ReadFile("../knative/500-timeline.yaml")
	if err != nil {
		v.t.Fatal(err)
	}
	file := filepath.Join(v.t.TempDir(), "500-timeline.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		v.t.Fatal(err)
	}
	v.kn(0, []string{name + " is Promoting", "wrote " + file, "steer waits until the manifests are deployed"}, "promote", name, "--write="+filepath.Dir(file))
	if text, err = os.ReadFile(file); err != nil || !regexp.MustCompile(`(?s)VERBS.{1,40}tried`).Match(text) {
		v.t.Errorf("%v: the manifest does not have the treatment:\n%s", err, text)
	}
}

// archive exports the report when the arms are gone, and deletes the rows of single users.
func (v *verbs) archive(name string, entered experiment.Counts) {
	v.t.Helper()
	file := filepath.Join(v.t.TempDir(), "export.json")
	v.kn(0, []string{name + " is Archived"}, "archive", name, "--to", file)
	var r readout.Report
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.Experiment != name || r.Units.Entered != entered {
		v.t.Errorf("the export: %v, of %s, %+v entered, want %+v", err, r.Experiment, r.Units.Entered, entered)
	}
	v.kn(0, []string{"nothing is exported: archive was requested before"}, "archive", name)
	v.kn(0, []string{name + ": Archived"}, "status", name)
}
