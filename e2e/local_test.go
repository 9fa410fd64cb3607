//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/clocktest"
	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/store/pgtest"
)

// likesFile writes the experiment likes-e2e, with this hold and these metrics, into a file, and returns its name.
func likesFile(t *testing.T, hold, metrics string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "likes.yaml")
	text := fmt.Sprintf(`apiVersion: warble.dev/v1alpha1
kind: Experiment
metadata: {name: likes-e2e}
spec:
  services: [like, timeline, tweet]
  treatment: {env: {FEATURES: likes}}
  unit: user
  ramp: {steps: [50], hold: {time: %s}}
  metrics: %s
`, hold, metrics)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// local is a local run with an experiment, and what its users have seen.
type local struct {
	t    *testing.T
	run  *apitest.Local
	tool string // kn-experiment

	arms     map[string]experiment.Arm // by user
	requests map[experiment.Arm]int
}

// newLocal builds the tool. The caller starts the run.
func newLocal(t *testing.T) *local {
	t.Helper()
	l := &local{t: t, tool: filepath.Join(t.TempDir(), "kn-experiment"), arms: make(map[string]experiment.Arm), requests: make(map[experiment.Arm]int)}
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", l.tool, "../cmd/kn-experiment").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return l
}

// An experiment without a cluster: each user has one arm on every request, even after a restart, until a person stops the experiment.
// PostgreSQL has exactly what the users saw.
func TestLocalExperiment(t *testing.T) {
	processes(t)
	// The planned end is after the hold and a window. In so small an experiment, units that complete later do not count.
	file := likesFile(t, "90s", "{window: 2s, primary: {name: tweets_per_user, minimumEffect: 5%}}")
	l := newLocal(t)
	var err error
	if l.run, err = apitest.StartExperiment(t.Context(), file, "DATABASE_URL="); err != nil {
		t.Fatal(err)
	}
	var started []int
	t.Cleanup(func() {
		started = append(started, descendants(l.run.PID())...)
		if err := l.run.Stop(); err != nil {
			t.Error(err)
		}
		checkEnded(t, started)
		if t.Failed() {
			for line := range strings.Lines(l.run.Log()) {
				if !strings.Contains(line, `"level":"info"`) {
					t.Log(line)
				}
			}
		}
	})
	l.waitForLog("likes-e2e: Running, step 1/1 50%", 1)

	const people = 20
	var users []*user
	for range people {
		users = append(users, l.register())
	}
	for range 3 {
		for _, u := range users {
			l.use(u)
		}
	}
	exposures := make([]string, 0, people)
	arms := experiment.Counts{}
	for _, u := range users {
		arm := l.arms[u.id]
		exposures = append(exposures, fmt.Sprintf("%s %s %s", u.id, arm, arm))
		if arm == experiment.Control {
			arms.Control++
		} else {
			arms.Treatment++
		}
	}
	const exposed = `select concat_ws(' ', user_id, assigned, served) from exposures order by user_id`
	if diff := cmp.Diff(exposures, l.column(exposed)); diff != "" { // ids rise with time
		t.Error(diff)
	}
	// The database had no users at the start, so no sample size is planned, and the experiment does not end before all units have completed.
	eventually(t, "a report in which everyone's window is over", time.Minute, func() bool { return l.report().Units.Completed == arms })
	if r := l.report(); r.Units.Entered != arms || r.Phase != "Running" {
		t.Errorf("%d of the report: %+v, want %+v", people, r.Units, arms)
	}
	if said := l.kn("status", "likes-e2e"); !strings.Contains(said, fmt.Sprintf("%d control, %d treatment of %d", arms.Control, arms.Treatment, people)) {
		t.Error(said)
	}

	const transitions = `select id from experiment_transitions order by at, id`
	before, processes := l.column(transitions), descendants(l.run.PID())
	if err := l.run.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkEnded(t, processes)
	// The counts that the edge had when it was stopped are stored too.
	counted := l.column(`select concat_ws(' ', arm, sum(requests), sum(errors)) from windows group by arm order by arm`)
	want := []string{fmt.Sprintf("control %d 0", l.requests[experiment.Control]), fmt.Sprintf("treatment %d 0", l.requests[experiment.Treatment])}
	if diff := cmp.Diff(want, counted); diff != "" {
		t.Error(diff)
	}
	for _, u := range users {
		u.url = l.run.URL
		l.use(u)
	}
	if diff := cmp.Diff(before, l.column(transitions)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(exposures, l.column(exposed)); diff != "" {
		t.Error(diff)
	}
	if pids := l.run.PIDs("like"); len(pids) != 3 {
		t.Errorf("%d processes of like, want one of each arm and one for the others", len(pids))
	}

	started = append(started, descendants(l.run.PID())...)
	l.kn("stop", "likes-e2e", "-m", "the test is over")
	took := clocktest.Took(func() {
		eventually(t, "a stop that is in force", time.Minute, func() bool { return users[0].do("GET", users[0].path("/tweets"), "").header.Get("X-Variant") == "" })
	})
	if took > 4*time.Second {
		t.Errorf("the stop was in force after %s, want 2 s or so", took)
	}
	l.waitForLog("likes-e2e: Concluded, stopped", 1)
	for _, name := range experimented {
		only(t, l.run, name)
	}
	for _, u := range users {
		if a := u.do("GET", u.path("/tweets"), ""); a.status != http.StatusOK || a.header.Get("X-Variant") != "" {
			t.Errorf("after the stop %d %s", a.status, a.header)
		}
	}
}

// use calls every Service of the experiment as a user, and checks that the arm is the same as before.
func (l *local) use(u *user) {
	l.t.Helper()
	for _, request := range []struct{ method, path, body string }{
		{"GET", u.path("/timelines/reverse_chronological"), ""},
		{"POST", "/2/tweets", object("text", "hello, warble")},
		{"GET", u.path("/liked_tweets"), ""},
	} {
		a := u.do(request.method, request.path, request.body)
		arm := experiment.Arm(a.header.Get("X-Variant"))
		if l.arms[u.id] == "" {
			l.arms[u.id] = arm
		}
		l.requests[arm]++
		opened := a.status/100 == 2
		if request.path == u.path("/liked_tweets") {
			opened = opened == (arm == experiment.Treatment)
		}
		if arm == "" || arm != l.arms[u.id] || !opened || !strings.Contains(a.header.Get("X-Revision"), "-"+string(arm)+"-") {
			l.t.Errorf("%s %s of %s: %d, arm %q after %q, by %s: %.200s", request.method, request.path, u.id, a.status, arm, l.arms[u.id], a.header.Get("X-Revision"), a.body)
		}
	}
}

func (l *local) register() *user {
	l.t.Helper()
	n := strconv.Itoa(len(l.arms))
	u := (&user{t: l.t}).withURL(l.run.URL)
	s := decode[session](l.t, u.do("POST", "/auth/register", object("name", "Ada", "email", "ada"+n+"@example.org", "password", password)), http.StatusCreated)
	u.id, u.token = s.Data.ID, s.Token
	l.arms[u.id] = ""
	return u
}

// waitForLog waits until the run has printed text a number of times.
func (l *local) waitForLog(text string, times int) {
	l.t.Helper()
	eventually(l.t, text, time.Minute, func() bool { return strings.Count(l.run.Log(), text) >= times })
}

func (l *local) database() string {
	l.t.Helper()
	url, err := l.run.DatabaseURL()
	if err != nil {
		l.t.Fatal(err)
	}
	return url
}

func (l *local) column(sql string) []string {
	l.t.Helper()
	rows, err := pgtest.Column(l.t.Context(), l.database(), sql)
	if err != nil {
		l.t.Fatal(err)
	}
	return rows
}

// kn runs a verb on the local run, and returns its output.
func (l *local) kn(args ...string) string {
	l.t.Helper()
	text, err := l.command(args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("kn experiment %v: %v\n%s", args, err, text)
	}
	return string(text)
}

// knRefused runs a verb that must be refused, and returns its output.
func (l *local) knRefused(args ...string) string {
	l.t.Helper()
	text, err := l.command(args...).CombinedOutput()
	if err == nil {
		l.t.Fatalf("kn experiment %v: expected it to be refused\n%s", args, text)
	}
	return string(text)
}

func (l *local) command(args ...string) *exec.Cmd {
	l.t.Helper()
	kubeconfig, err := l.run.Kubeconfig()
	if err != nil {
		l.t.Fatal(err)
	}
	cmd := exec.CommandContext(l.t.Context(), l.tool, args...)
	cmd.Env = []string{"DATABASE_URL=" + l.database(), "KUBECONFIG=" + kubeconfig, "HOME=" + filepath.Dir(l.tool), "USER=ada"}
	return cmd
}

func (l *local) report() (r readout.Report) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.kn("report", "likes-e2e", "-o", "json")), &r); err != nil {
		l.t.Fatal(err)
	}
	return r
}

// checkEnded checks that all processes end.
func checkEnded(t *testing.T, pids []int) {
	t.Helper()
	if len(pids) == 0 {
		t.Error("no processes: nothing is proven")
	}
	for _, pid := range pids {
		eventually(t, "the end of process "+strconv.Itoa(pid), time.Minute, func() bool {
			_, err := os.Stat("/proc/" + strconv.Itoa(pid))
			return os.IsNotExist(err)
		})
	}
}
