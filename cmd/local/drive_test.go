package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/manifest"
	"warble/shared/rollout"
	"warble/shared/store/pgtest"
)

// TestWishesThroughTheKubeconfigMoveAnExperiment: `kn experiment` reaches the control plane in the same way. The store is PostgreSQL.
func TestWishesThroughTheKubeconfigMoveAnExperiment(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like", "timeline", "tweet")
	url := pgtest.New(t).URL(pgtest.Ops)
	stop, err := moveExperiments(t.Context(), r.state, r.cluster, &database{secrets: map[manifest.KeyRef]string{{Name: "warble-database-ops", Key: "url"}: url}})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if text, err := os.ReadFile(r.state.path(databaseURL)); err != nil || strings.TrimSpace(string(text)) != url {
		t.Errorf("%s: %q %v", databaseURL, text, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", r.state.path(kubeconfig))
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := knative.New(config, namespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	var e *rollout.Experiment
	becomes := func(describes string) {
		t.Helper()
		within(t, time.Minute, describes, func() bool {
			if e, err = cluster.Experiment(t.Context(), "likes-demo"); err != nil {
				t.Fatal(err)
			}
			return e.Describe() == describes && e.Status.ObservedGeneration == e.Generation
		})
	}
	wish := func(wish func(*experiment.Wishes)) {
		t.Helper()
		within(t, time.Minute, "a wish", func() bool { // the driver writes the status meanwhile
			if e, err = cluster.Experiment(t.Context(), "likes-demo"); err != nil {
				t.Fatal(err)
			}
			wish(&e.Spec.Wishes)
			return cluster.Wish(t.Context(), e) == nil
		})
	}
	if err := cluster.CreateExperiment(t.Context(), mustDemoFile(t)); err != nil {
		t.Fatal(err)
	}
	becomes("Running, step 1/1 50%")
	wish(func(w *experiment.Wishes) { w.Paused = true })
	becomes("Paused, step 1/1 50%")
	wish(func(w *experiment.Wishes) {
		w.Paused, w.End, w.By, w.Why = false, experiment.Stopped, "ada", "enough was seen"
	})
	becomes("Concluded, stopped")
	within(t, time.Minute, "its record", func() bool {
		told, err := pgtest.Column(t.Context(), url, `select actor || ': ' || reason from experiment_transitions where phase = 'Concluded'`)
		if err != nil {
			t.Fatal(err)
		}
		return len(told) == 1 && told[0] == "ada: enough was seen"
	})
}
