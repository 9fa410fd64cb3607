package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/rollout"
)

// TestAWishIsHandedToSteerOnce: an edge asks steer for a turn, with its signature, when it sees a new or changed spec. A status that
// steer writes is no wish; otherwise each turn would cause the next.
func TestAWishIsHandedToSteerOnce(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.start(t)
	p := startPod(t, s.config(), "")
	seen := func() *rollout.Experiment {
		if all := objects[*rollout.Experiment](p.watch.experiments); len(all) > 0 {
			return all[0]
		}
		return new(rollout.Experiment)
	}
	var mu sync.Mutex
	var asked []int64 // the generation that the edge had seen, for each request
	steer, _ := serveFunction(t, function.Routes{"POST /turn": function.FromEdge(handlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, seen().Generation)
		w.WriteHeader(http.StatusNoContent)
	}))})
	askedFor := func() []int64 {
		mu.Lock()
		defer mu.Unlock()
		return append([]int64(nil), asked...)
	}
	o, _, _ := newTestOutcomes(t, steer)
	forwardUntilTheEnd(t, p.watch, o.requestTurn)

	people, err := newExperimentsClient(s.config(), http.DefaultClient, ns)
	if err != nil {
		t.Fatal(err)
	}
	e := &rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: "likes", Namespace: ns, Generation: 1}}
	write := func(request *rest.Request) {
		t.Helper()
		if err := request.Namespace(ns).Resource(rollout.Resource).Body(e).Do(t.Context()).Into(e); err != nil {
			t.Fatal(err)
		}
	}
	write(people.rest.Post())
	inForceSoon(t, "the new experiment is handed on", func() bool { return len(askedFor()) > 0 })
	for step := 1; step <= 20; step++ {
		e.Status.Phase, e.Status.Assign.Step = experiment.Running, step
		write(people.rest.Put().Name(e.Name).SubResource("status"))
		eventually(t, "the edge sees the status", func() bool { return seen().Status.Assign.Step == step })
	}
	e.Generation, e.Spec.End = 2, experiment.Stopped
	write(people.rest.Put().Name(e.Name))
	inForceSoon(t, "the wish is handed on", func() bool { all := askedFor(); return all[len(all)-1] == 2 })
	if diff := cmp.Diff([]int64{1, 2}, askedFor()); diff != "" {
		t.Errorf("steer was asked for the generations: %s", diff)
	}
}

// forwardUntilTheEnd forwards wishes until the test ends.
func forwardUntilTheEnd(t *testing.T, w *watch, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.forwardWishes(ctx, ask); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
}

// TestSteerIsAskedAgainIfItFails, two seconds later and three times at most, because it checks all experiments each minute anyway.
func TestSteerIsAskedAgainIfItFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failures int
		changes  int // while steer is asked for the first time
		want     []time.Duration
		warnings int
	}{
		"it answers":                          {0, 0, []time.Duration{0}, 0},
		"it starts":                           {1, 0, []time.Duration{0, 2 * time.Second}, 0},
		"it is away":                          {3, 0, []time.Duration{0, 2 * time.Second, 4 * time.Second}, 1},
		"more wishes while it moves":          {0, 3, []time.Duration{0, 0}, 0},
		"more wishes, and it is away for 4 s": {2, 3, []time.Duration{0, 2 * time.Second, 4 * time.Second, 4 * time.Second}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			log := new(journal)
			w := &watch{log: zerolog.New(log), wished: make(chan struct{}, 1)}
			began := time.Now()
			var asked []time.Duration
			forwardUntilTheEnd(t, w, func(context.Context) error {
				if asked = append(asked, time.Since(began)); len(asked) == 1 {
					for range c.changes {
						signal(w.wished)
					}
				}
				if len(asked) <= c.failures {
					return errors.New("connection refused")
				}
				return nil
			})
			signal(w.wished)
			time.Sleep(time.Hour) // of the bubble
			synctest.Wait()
			if diff := cmp.Diff(c.want, asked); diff != "" {
				t.Errorf("%s: asked at %s", name, diff)
			}
			if n := log.count("cannot ask steer"); n != c.warnings {
				t.Errorf("%s: %d warnings, want %d: %s", name, n, c.warnings, log)
			}
			asked = nil
			signal(w.wished)
			synctest.Wait()
			if len(asked) == 0 {
				t.Errorf("%s: the next wish is not handed on", name)
			}
		})
	}
}

// TestRequestsDoNotWaitForSteer, neither in an arm, whose answers are counted for steer, nor untouched.
func TestRequestsDoNotWaitForSteer(t *testing.T) {
	t.Parallel()
	arrived, over := make(chan struct{}), make(chan struct{})
	silent := serve(t, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // without it the server does not notice that the edge has left
		close(arrived)
		<-r.Context().Done()
		close(over)
	}))
	for name, steer := range map[string]string{"it does not answer": silent, "it is away": "http://" + refusingAddress(t)} {
		edge := start(t, config{steerURL: steer})
		rules := openTo("likes", experiment.User, "mirror")
		rules.Open = experiment.Open{Control: 3000, Treatment: 3000}
		service := serveArms(t, &rules)
		edge.writeExperiments(t, []experiment.Rules{rules}, service)
		w := &watch{log: edge.telemetry.Log, wished: make(chan struct{}, 1)}
		forwardUntilTheEnd(t, w, edge.edge.outcomes.requestTurn)
		signal(w.wished)
		if steer == silent {
			<-arrived
		}
		for id := range int64(20) {
			want := string(armOf(rules, id+1, ""))
			a := send(t, http.MethodGet, edge.url+"/m/x", "", "Authorization", edge.bearer(t, id+1))
			if a.StatusCode != http.StatusOK || a.Header.Get(headerVariant) != want {
				t.Errorf("%s: user %d: %s from the arm %q, want 200 from %q", name, id+1, a.Status, a.Header.Get(headerVariant), want)
			}
		}
		select {
		case <-over:
			if steer == silent {
				t.Errorf("%s: users were answered only after the edge had given up on steer", name)
			}
		default:
		}
	}
}
