package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

func read(t *testing.T, change ...string) (*rollout.Experiment, error) {
	t.Helper()
	text, err := os.ReadFile("../../knative/experiments/likes-demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(change...).Replace(string(text))
	if len(change) > 0 && changed == string(text) {
		t.Fatalf("%q is not in the file", change)
	}
	return parseTrial([]byte(changed))
}

func must(t *testing.T, change ...string) *rollout.Experiment {
	t.Helper()
	e, err := read(t, change...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestWhatALocalRunCannotHaveIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string][]string{
		"treatment.image: expected treatment.env": {"env: {FEATURES: likes}", "image: {like: registry.example/like}"},
		"unit: request is split by Knative": {"unit: user", "unit: request", ", units: 30", "", "window: 2m", "", "primary: {name: tweets_per_user, minimumEffect: 5%}", "",
			"secondary: [retweets_per_user, active_days, feedback_score]", "", "exposure: [timeline, tweet, like]", "", "layer: {name: engagement, slots: [0, 10000]}", ""},
		`unit: "nobody": expected community`: {"unit: user", "unit: nobody"},
	} {
		if _, err := read(t, change...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if e := must(t); e.Spec.Run.State != experiment.Running {
		t.Errorf("what says nothing is to run, and is to be %q", e.Spec.Run.State)
	}
}

// TestAnotherRunGoesOn with what was kept, unless it is another experiment's.
func TestAnotherRunGoesOn(t *testing.T) {
	t.Parallel()
	run := func(s state, e *rollout.Experiment) (*trial, error) {
		one := &trial{fleet: &fleet{state: s}}
		return one, one.load(e)
	}
	s := open(t, t.TempDir()+"/state", false)
	first, err := run(s, must(t, "unit: user", "unit: user\n  audience: {communities: []}"))
	if err != nil {
		t.Fatal(err)
	}
	first.kept.Experiment.Status.Phase = rollout.Running
	first.kept.Services["like"] = &service{Newest: "like-2"}
	keep := func() {
		t.Helper()
		text, err := json.Marshal(first.kept)
		if err == nil {
			err = os.WriteFile(s.path(keptExperiment), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	keep()

	second, err := run(s, must(t))
	if err != nil {
		t.Fatal(err)
	}
	if e, was := second.kept.Experiment, first.kept.Experiment; e.UID == "" || e.UID != was.UID || e.Generation != 1 || e.Status.Phase != rollout.Running || second.kept.Services["like"].Newest != "like-2" {
		t.Errorf("%+v after %+v", second.kept, first.kept)
	}
	if err := second.want(must(t, "spec:", "spec:\n  run: {state: Paused}")); err != nil || second.kept.Experiment.Generation != 2 || second.kept.Experiment.Spec.Run.State != experiment.Paused {
		t.Errorf("a wish: %v %+v", err, second.kept.Experiment)
	}
	for want, change := range map[string][]string{
		"expected no change but to run": {"window: 2m", "window: 3m"},
		"likes-demo is Running":         {"name: likes-demo", "name: another"},
		"expected its file, or -fresh":  {"name: likes-demo", "name: another"},
	} {
		if _, err := run(s, must(t, change...)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}

	first.kept.Experiment.Status.Phase, first.kept.Experiment.Status.Conclusion = rollout.Concluded, rollout.WasStopped
	keep()
	if third, err := run(s, must(t)); err != nil || len(third.kept.Services) != 0 {
		t.Errorf("after a stop everything is as the manifests say: %v %+v", err, third.kept.Services)
	}
	if other, err := run(s, must(t, "name: likes-demo", "name: another")); err != nil || other.kept.Experiment.UID == first.kept.Experiment.UID {
		t.Errorf("after it another may come: %v", err)
	}
	if fresh, err := run(open(t, string(s), true), must(t)); err != nil || fresh.kept.Experiment.UID == first.kept.Experiment.UID {
		t.Errorf("-fresh left the experiment: %v", err)
	}
}
