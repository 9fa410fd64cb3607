package main

import (
	"os"
	"strings"
	"testing"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// demoFile reads the experiment of the demo, with replacements of its text as for strings.NewReplacer.
func demoFile(t *testing.T, change ...string) (*rollout.Experiment, error) {
	t.Helper()
	text, err := os.ReadFile("../../knative/experiments/likes-demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(change...).Replace(string(text))
	if len(change) > 0 && changed == string(text) {
		t.Fatalf("%q is not in the file", change)
	}
	return parseFile([]byte(changed))
}

func mustDemoFile(t *testing.T, change ...string) *rollout.Experiment {
	t.Helper()
	e, err := demoFile(t, change...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// byRequest are the replacements that give the demo's experiment the unit request.
var byRequest = []string{
	"unit: user", "unit: request", ", units: 30", "", "window: 2m", "", "primary: {name: tweets_per_user, minimumEffect: 5%}", "",
	"secondary: [retweets_per_user, feedback_score]", "", "exposure: [timeline, tweet, like]", "", "layer: {name: engagement, slots: [0, 10000]}", "",
}

func TestAFileThatALocalRunCannotCarryOutIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string][]string{
		"treatment.image: expected treatment.env":     {"env: {FEATURES: likes}", "image: {like: registry.example/like}"},
		"unit: request needs Knative's traffic split": byRequest,
		"rebase.image: expected none":                 {"spec:", "spec:\n  rebase: {number: 1, image: {like: registry.example/like}}"},
		`unit: "nobody": expected community`:          {"unit: user", "unit: nobody"},
	} {
		if _, err := demoFile(t, change...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if e := mustDemoFile(t); !e.Spec.Start {
		t.Error("the experiment of a file does not start")
	}
}

func TestTheExperimentOfAFileIsCreatedOnceAndThenNotChanged(t *testing.T) {
	t.Parallel()
	s := stateOf(t)
	r, err := openRecords(s.path(keptFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.createOnce(mustDemoFile(t)); err != nil {
		t.Fatal(err)
	}
	first, err := r.get("likes-demo")
	if err != nil || first.UID == "" || !first.Spec.Start {
		t.Fatalf("%+v %v", first, err)
	}
	_, err = r.update("likes-demo", func(e *rollout.Experiment) (*rollout.Experiment, error) {
		e.Spec.Paused, e.Spec.End = true, experiment.Stopped
		return e, nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if r, err = openRecords(s.path(keptFile)); err != nil {
		t.Fatal(err)
	}
	if err := r.createOnce(mustDemoFile(t, "unit: user", "unit: user\n  audience: {communities: []}")); err != nil {
		t.Errorf("the same design, written otherwise: %v", err)
	}
	if e, err := r.get("likes-demo"); err != nil || e.UID != first.UID || e.Generation != 2 || !e.Spec.Paused || e.Spec.End != experiment.Stopped {
		t.Errorf("the file has taken back a wish: %+v %v", e, err)
	}
	if err := r.createOnce(mustDemoFile(t, "window: 2m", "window: 3m")); err == nil || !strings.Contains(err.Error(), "likes-demo (Draft) with another design: expected") {
		t.Errorf("another design: %v", err)
	}
	if err := r.createOnce(mustDemoFile(t, "name: likes-demo", "name: another")); err != nil || len(r.list().Items) != 2 {
		t.Errorf("another experiment beside it: %v, %d", err, len(r.list().Items))
	}

	namespace := r.read().Namespace
	if r, err = openRecords(open(t, string(s), true).path(keptFile)); err != nil || len(r.list().Items) != 0 || r.read().Namespace == namespace {
		t.Errorf("-fresh left something: %v %+v", err, r.read())
	}
}

func TestABrokenFileOfAnEarlierRunIsNamed(t *testing.T) {
	t.Parallel()
	s := stateOf(t)
	if err := os.WriteFile(s.path(keptFile), []byte(`{"experiments": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRecords(s.path(keptFile)); err == nil || !strings.Contains(err.Error(), keptFile) || !strings.Contains(err.Error(), "-fresh") {
		t.Error(err)
	}
}
