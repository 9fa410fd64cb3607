//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/readout"
)

const (
	// people is the number at which a broken assignment can be told from chance. rate is the greatest number of requests a second
	// that two cores can serve together with a cluster.
	people     = 2000
	peopleRate = 40
	// planted is the effect: people in the treatment post 1 + planted times as much.
	planted = 1.0
	// verdictWithin is longer than any case takes: a guardrail needs 5 minutes, and steer checks each minute.
	verdictWithin = 15 * time.Minute
)

// The experiments end as the planted truth demands: an effect is found and promoted, no
// effect is not promoted, a slow treatment is rolled back, and a broken assignment withholds a verdict that would be a win. All
// use one population. Two experiments run at a time, each with its own Services, because two cores cannot serve three that end
// together: each end starts new pods.
func TestLongVerdicts(t *testing.T) {
	cluster(t)
	steady(t)
	users := populate(t) // first, because the planned size depends on the users known at the start
	judged := func(services []string, treatment map[string]experiment.Value) *experimentRun {
		return newExperiment(t, func(s *experiment.Spec) {
			s.Services, s.Treatment.Env, s.Promote, s.Alpha = services, treatment, "automatic", .01
			s.Ramp.Hold.Time, s.Metrics.Window = new(experiment.Duration(5*time.Minute)), experiment.Duration(3*time.Minute)
			s.Metrics.Primary.MinimumEffect = .3
		})
	}
	likes := map[string]experiment.Value{"FEATURES": "likes"}
	broken := judged([]string{"like", "timeline"}, likes)
	effect := judged([]string{"like", "timeline"}, likes)
	none := judged([]string{"tweet"}, map[string]experiment.Value{"NOTHING": "reads this"})
	slow := newExperiment(t, func(s *experiment.Spec) {
		s.Services, s.Treatment.Env, s.Metrics.Primary.Name = []string{"retweet"}, map[string]experiment.Value{"FAULTS": "slow=500ms@100%"}, "retweets_per_user"
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.SlowShare, Over: experiment.Duration(250 * time.Millisecond), Margin: .01}}
	})

	for _, e := range []*experimentRun{none, broken} {
		e.mustKn("start", "-f", e.file, "--anyway")
	}
	run(t, "patch", "experiment", broken.name, "--subresource=status", "--type=merge", `--patch={"status":{"assign":{"open":{"control":6000,"treatment":4000}}}}`)
	users.use(effect.name)
	var cases sync.WaitGroup
	cases.Go(func() {
		t.Run("a broken assignment has no verdict", func(t *testing.T) { withheld(t, broken) })
		broken.mustKn("stop", broken.name)
		t.Run("an effect is promoted", func(t *testing.T) {
			for _, name := range effect.spec.Services {
				untilReady(t, name) // the verb returns a moment before
			}
			effect.mustKn("start", "-f", effect.file, "--anyway")
			r := effect.waitForEnd(t, "promoted: ", readout.Outcome(experiment.Win))
			if lift := r.Primary.Lift; lift == nil || lift.Lower == nil || lift.Upper == nil || *lift.Lower > planted || *lift.Upper < planted {
				t.Errorf("%+v, want %+g in the interval, which was planted", lift, planted)
			}
		})
	})
	cases.Go(func() {
		t.Run("no effect is not promoted", func(t *testing.T) { none.waitForEnd(t, "rolled back: ", readout.Outcome(experiment.NotWorthIt)) })
		t.Run("a slowness is rolled back", func(t *testing.T) {
			slow.mustKn("start", "-f", slow.file, "--anyway")
			if r := slow.waitForEnd(t, "rolled back: ", readout.Breach); !strings.Contains(r.Sentence, labelOf(t, experiment.SlowShare)) {
				t.Errorf("%s: want %s named", r.Sentence, labelOf(t, experiment.SlowShare))
			}
		})
	})
	cases.Wait()
}

// withheld waits until the experiment would be a win with a right assignment, and until steer has
// seen this and has done nothing.
func withheld(t *testing.T, e *experimentRun) {
	began := time.Now()
	var r readout.Report
	red := func() string {
		i := slices.IndexFunc(r.Health, func(c readout.Check) bool { return c.Name == "sample ratio" && c.State == readout.Red })
		if i < 0 {
			return ""
		}
		return r.Health[i].Name + ": " + r.Health[i].Detail
	}
	if !soon(t, func() bool {
		r = e.report(t)
		return red() != "" && r.Primary.Interval.Lower != nil && *r.Primary.Interval.Lower > 0
	}) {
		t.Fatalf("it would not have been won, or its sample ratio is not red: %+v, %+v", r.Health, r.Primary)
	}
	t.Logf("after %s: %s", time.Since(began).Round(time.Second), r.Sentence)
	if r.Verdict != readout.Withheld || !strings.Contains(r.Sentence, red()) {
		t.Errorf("%s, %s: want it withheld, for its %s", r.Verdict, r.Sentence, red())
	}
	steered := ""
	if !soon(t, func() bool {
		steered = run(t, "get", "experiment", e.name, "--output=jsonpath={.status.phase}: {.status.message}")
		return strings.HasPrefix(steered, "Running: no step and no verdict while a health check is red: ") && strings.Contains(steered, "sample ratio")
	}) {
		t.Errorf("steer leaves it at %q", steered)
	}
	t.Logf("after %s: %s", time.Since(began).Round(time.Second), steered)
}

// waitForEnd waits until steer ends an experiment, and checks the end and the verdict of the report.
func (e *experimentRun) waitForEnd(t *testing.T, end string, verdict readout.Outcome) readout.Report {
	t.Helper()
	began := time.Now()
	status := ""
	if !soon(t, func() bool {
		status = run(t, "get", "experiment", e.name, "--output=jsonpath={.status.phase}: {.status.because}{.status.message}")
		return strings.HasPrefix(status, "Concluded: ")
	}) {
		t.Errorf("not concluded within %s: %s", verdictWithin, status)
	}
	r := e.report(t)
	t.Logf("after %s: %s: %s", time.Since(began).Round(time.Second), status, r.Sentence)
	if !strings.HasPrefix(status, "Concluded: "+end) || r.Verdict != verdict {
		t.Fatalf("%s, and its verdict is %q; want %q and %q", status, r.Verdict, end, verdict)
	}
	return r
}

// report returns the present report of kn experiment.
func (e *experimentRun) report(t *testing.T) (r readout.Report) {
	t.Helper()
	cmd := e.command(t.Context(), "report", e.name, "-o", "json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if exited, ok := errors.AsType[*exec.ExitError](err); ok && exited.ExitCode() == 3 {
		err = nil // code 3 means that the verdict is withheld
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatalf("kn experiment report %s: %v\n%s", e.name, err, stderr.String())
	}
	return r
}

// soon polls a condition that takes minutes.
func soon(t *testing.T, ok func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(verdictWithin); time.Now().Before(deadline); time.Sleep(3 * time.Second) {
		if ok() {
			return true
		}
	}
	return ok()
}

// steady keeps the number of pods until the test ends. On two cores more pods do not help, and starting
// and ending them takes CPU time from requests: slower answers would then start even more pods.
func steady(t *testing.T) {
	t.Helper()
	const scale = "/spec/template/metadata/annotations/autoscaling.knative.dev~1"
	names := []string{"feedback", "like", "register", "retweet", "timeline", "tweet", "users"}
	for _, name := range names {
		patch(t, name, change{"add", scale + "min-scale", "1"}, change{"add", scale + "max-scale", "1"})
	}
	patch(t, "edge", change{"add", scale + "max-scale", "2"})
	for _, name := range append(names, "edge") {
		untilReady(t, name)
	}
}

// population are registered synthetic people.
type population struct {
	t     *testing.T
	tool  string // cmd/load, as built here
	flags []string
}

func populate(t *testing.T) *population {
	t.Helper()
	folder := t.TempDir()
	p := &population{t: t, tool: filepath.Join(folder, "load")}
	if _, err := execute(t.Context(), "", "go", "build", "-o", p.tool, "./cmd/load"); err != nil {
		t.Fatal(err)
	}
	p.flags = []string{
		"-url", warble.url, "-host", warble.host, "-users", strconv.Itoa(people), "-state", filepath.Join(folder, "people.json"),
		"-seed", strconv.Itoa(rand.IntN(1_000_000)), // people who are new to this Warble
		"-rate", strconv.Itoa(peopleRate),
	}
	began := time.Now()
	if text, err := exec.CommandContext(t.Context(), p.tool, append(p.flags, "-for", "1s", "-max-errors", "1")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("%d people registered in %s", people, time.Since(began).Round(time.Second))
	return p
}

// use makes the people use Warble until the test ends. People in the treatment of the named experiment have the planted effect.
// Experiments must not disturb them: cmd/load fails if more than one request in a hundred fails.
func (p *population) use(name string) {
	p.t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(p.tool, append(p.flags, "-for", "30m", "-experiment", name, "-effect", fmt.Sprint(planted))...) //nolint:noctx // ended below
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			p.t.Error(err)
		}
		p.t.Logf("load:\n%s", said.String())
	})
}
