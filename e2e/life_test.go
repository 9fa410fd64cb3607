//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// If the database is down for a minute, every request of both arms and of the untouched fails. No arm is at fault, so nothing is
// rolled back: everyone is in their arm again when the database is back.
func TestClusterADatabaseThatIsAwayRollsNothingBack(t *testing.T) {
	cluster(t)
	const away = time.Minute
	e := newExperiment(t, func(s *experiment.Spec) {
		s.Services, s.Salt = []string{"timeline"}, "pinned"
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}
	})
	people := registerCrowd(t, []string{""}, 20)
	e.mustKn("start", "-f", e.file, "--anyway")
	people.waitForRules(e, e.rules(50))
	signal := func(s string) {
		if _, err := execute(context.Background(), "", "e2e/cluster/signal.sh", "postgres", s); err != nil {
			t.Error(err)
		}
	}
	failed, sent := 0, 0
	ask := func(until time.Time) {
		for time.Now().Before(until) {
			for _, m := range people {
				if a, err := m.try("GET", m.path("/tweets"), ""); err != nil || a.status >= 500 {
					failed++
				}
				sent++
				if time.Now().After(until) {
					return
				}
			}
		}
	}
	back := false
	defer func() {
		if !back {
			signal("CONT")
		}
	}()
	signal("STOP")
	ask(time.Now().Add(away))
	signal("CONT")
	back = true
	t.Logf("%d of %d requests failed while the database was away", failed, sent)
	if failed == 0 {
		t.Fatal("no request failed while the database was away: it proves nothing")
	}
	within(t, "everyone's arm", readyLimit, func() bool {
		for _, m := range people {
			if a := m.do("GET", m.path("/tweets"), ""); a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("X-Revision"), e.name+"-timeline-"+a.header.Get("X-Variant")) {
				return false
			}
		}
		return true
	})
	ask(time.Now().Add(70 * time.Second)) // enough for a turn of steer, and for the last counts of the edges
	if o := e.object(); o.Status.Phase != experiment.Running || o.Spec.End != "" {
		t.Errorf("it is %s, because %q: want Running", o.Status.Phase, o.Status.Because)
	}
	e.mustKn("stop", e.name)
	e.checkServicesUnchanged()
}

// If a namespace with a live experiment is deleted, it is gone within two minutes, and the controllers do not disturb the
// deletion. Kubernetes checks again after half of the time that pods may take to end, which Knative sets to timeoutSeconds.
// When the namespace is made again from the same files, the experiment continues. Two controllers move it from its start.
func TestClusterANamespaceIsDeletedWhileAnExperimentIsLive(t *testing.T) {
	cluster(t)
	inside(t)
	const limit, other = 2 * time.Minute, "e2e-gone"
	e := newExperiment(t, func(s *experiment.Spec) { s.Services, s.Start = []string{"witness"}, true })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if _, err := kubectl(ctx, "", "delete", "namespace", other, "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	apply := func(object map[string]any) {
		t.Helper()
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kubectl(t.Context(), string(text), "apply", "--namespace="+other, "--filename=-"); err != nil {
			t.Fatal(err)
		}
	}
	var template struct {
		Metadata map[string]any `json:"metadata"`
		Spec     map[string]any `json:"spec"`
	}
	if err := json.Unmarshal(e.before["witness"].template(t), &template); err != nil {
		t.Fatal(err)
	}
	template.Spec["timeoutSeconds"] = 30
	delete(template.Spec, "responseStartTimeoutSeconds")
	begin := func() (drivers []*exec.Cmd) {
		t.Helper()
		run(t, "create", "namespace", other)
		apply(map[string]any{
			"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": "witness"},
			"spec": map[string]any{"template": template},
		})
		run(t, "--namespace="+other, "wait", "--for=condition=Ready", "--timeout=150s", "ksvc/witness")
		apply(map[string]any{"apiVersion": "warble.dev/v1alpha1", "kind": "Experiment", "metadata": map[string]any{"name": e.name}, "spec": e.spec})
		for range 2 {
			drivers = append(drivers, e.inBackground("run", "--every=2s", "--namespace="+other))
		}
		run(t, "--namespace="+other, "wait", "--for=jsonpath={.status.phase}=Running", "--timeout=150s", "experiment/"+e.name)
		return drivers
	}
	assigned := func() (s rollout.Status) {
		t.Helper()
		if err := json.Unmarshal([]byte(run(t, "--namespace="+other, "get", "experiment", e.name, "--output=jsonpath={.status}")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	drivers := begin()
	before := assigned()
	run(t, "delete", "namespace", other, "--wait=false")
	began := time.Now()
	within(t, "the namespace's end", limit, func() bool {
		left, err := kubectl(t.Context(), "", "get", "namespace", other, "--ignore-not-found", "--output=name")
		return err == nil && left == ""
	})
	t.Logf("gone after %s", time.Since(began).Round(100*time.Millisecond))
	end := func() {
		for _, driver := range drivers {
			if err := driver.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
			_ = driver.Wait() // its error is the signal
		}
	}
	end()
	drivers = begin()
	if after := assigned(); !after.Adopted || after.Assign.Salt != before.Assign.Salt || after.Assign.Open != before.Assign.Open || after.Planned != before.Planned {
		t.Errorf("before %+v, after %+v", before, after)
	}
	e.mustKn("stop", e.name, "--namespace="+other)
	run(t, "--namespace="+other, "wait", "--for=jsonpath={.status.phase}=Concluded", "--timeout=150s", "experiment/"+e.name)
	end()
	run(t, "delete", "namespace", other, "--wait=false")
}

// Only Git changes manifests in Git. With promoteBy: git, steer waits until the manifests are deployed with the treatment, writes no
// Service, and deletes the arms when everybody has the treatment. No request fails. Somebody applies the manifests again and again from
// the start to the end, like Flux, which does not undo a pause or the promotion.
func promotedByGit(t *testing.T) {
	e := newExperiment(t, func(s *experiment.Spec) {
		s.Services, s.PromoteBy = []string{"retweet"}, "git"
	})
	ada := register(t, "")
	id := ada.post("ada's")
	t.Parallel()
	l := startOne(t, 4, func() (answer, error) { return ada.try("POST", ada.path("/retweets"), object("tweet_id", id)) })
	e.as = experimenter(t)
	e.mustKn("start", "-f", e.file, "--anyway")
	flux := reapply(t, e, "retweet")
	e.mustKn("pause", e.name)
	flux.again()
	if o := e.object(); o.Status.Phase != experiment.Paused || !o.Spec.Paused {
		t.Errorf("its pause was undone: it is %s", o.Status.Phase)
	}
	e.mustKn("resume", e.name)
	folder := filepath.Join(t.TempDir(), "knative")
	if _, err := execute(t.Context(), "", "cp", "-r", "knative", folder); err != nil {
		t.Fatal(err)
	}
	e.mustKn("promote", e.name, "--anyway")
	within(t, "the wait for the manifests", 5*time.Minute, func() bool {
		return strings.Contains(e.object().Status.Message, "manifests of retweet")
	})
	e.checkServicesUnchanged()
	e.mustKn("promote", e.name, "--write="+folder)
	flux.set("retweet", e.promoted("retweet"))
	within(t, "its end", 8*time.Minute, func() bool { return e.object().Status.Phase == experiment.Concluded })
	flux.again()
	t.Logf("applied %d times; %d requests meanwhile, none failed", flux.stop(), l.stop())
	if o := e.object(); o.Status.Conclusion != experiment.WasPromoted {
		t.Errorf("it ended as %q, because %q", o.Status.Conclusion, o.Status.Because)
	}
	if now, want := serviceOf(t, "retweet").Metadata.Generation, e.before["retweet"].Metadata.Generation+1; now != want {
		t.Errorf("retweet is of generation %d, want %d: nobody but Git has written it", now, want)
	}
}

// promoted returns a Service's template with the treatment's variables.
func (e *experimentRun) promoted(name string) []byte {
	e.t.Helper()
	variables, err := e.before[name].variables()
	if err != nil {
		e.t.Fatal(err)
	}
	for name, value := range e.spec.Treatment.Env {
		variables = set(variables, name, string(value))
	}
	var template map[string]any
	if err := json.Unmarshal(e.before[name].template(e.t), &template); err != nil {
		e.t.Fatal(err)
	}
	template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["env"] = variables
	text, err := json.Marshal(template)
	if err != nil {
		e.t.Fatal(err)
	}
	return text
}

// inBackground starts a verb, which runs until it ends or the test ends.
func (e *experimentRun) inBackground(args ...string) *exec.Cmd {
	e.t.Helper()
	cmd := e.command(e.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = e.t.Output(), e.t.Output()
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	return cmd
}
