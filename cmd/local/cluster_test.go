package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// notebook is a rollout.Store in memory, and a readout that finds nothing against anything.
type notebook struct {
	mu     sync.Mutex
	starts map[string]experiment.Start
	steps  []string
}

func (n *notebook) StartExperiment(_ context.Context, s experiment.Start) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.starts[s.Name] = s
	return nil
}

func (n *notebook) StartedBefore(_ context.Context, name string) (*experiment.Past, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, there := n.starts[name]
	if !there {
		return nil, nil //nolint:nilnil // as its interface says
	}
	return &experiment.Past{Name: name, Salt: s.Salt, UID: s.UID, Namespace: s.Namespace, PlannedUnits: s.PlannedUnits, Phase: experiment.Draft}, nil
}

func (n *notebook) LiveExperiments(_ context.Context, namespace string) (live []experiment.Past, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, s := range n.starts {
		if s.Namespace == namespace {
			live = append(live, experiment.Past{Name: name, UID: s.UID, Namespace: s.Namespace})
		}
	}
	return live, nil
}

func (n *notebook) Transition(_ context.Context, name string, t experiment.Transition) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps = append(n.steps, name+" "+t.ID)
	if t.Phase == experiment.Concluded {
		delete(n.starts, name)
	}
	return nil
}

func (n *notebook) Suspension(context.Context, string, time.Time) (string, error) { return "", nil }

func (n *notebook) ArchiveExperiment(context.Context, string, time.Time) error { return nil }

func (n *notebook) KeepMetrics(context.Context, []experiment.Metric) error { return nil }

func (n *notebook) Plan(context.Context, experiment.Spec, []experiment.Metric) (int64, error) {
	return 100, nil
}

func (n *notebook) Judge(context.Context, string, time.Time) (experiment.Judgement, error) {
	return experiment.Judgement{Guardrails: experiment.GuardPass}, nil
}

// rig is a local run without an edge and a database: processes of this program, and a driver that is called by hand.
type rig struct {
	*testing.T
	state   state
	records *records
	fleet   *fleet
	cluster *cluster
	driver  *rollout.Driver
	store   *notebook
	later   atomic.Int64 // how far the driver's clock is ahead
	said    bytes.Buffer
	cancel  func()
}

func newRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := &rig{T: t, state: stateOf(t), store: &notebook{starts: make(map[string]experiment.Start)}}
	r.start(names...)
	t.Cleanup(func() { r.end() })
	return r
}

func (r *rig) start(names ...string) {
	r.Helper()
	services, database := functions(r.T, r.state, names...)
	var err error
	if r.records, err = openRecords(r.state.path(keptFile)); err != nil {
		r.Fatal(err)
	}
	if r.fleet, err = newFleet(r.state, newConsole(&r.said, everything, services), "", services, database, r.records.read()); err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	r.cancel = cancel
	if r.cluster, err = newCluster(ctx, r.records, r.fleet, services); err != nil {
		r.Fatal(err)
	}
	if err := r.fleet.start(ctx); err != nil {
		r.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(r.later.Load())) }
	r.driver = &rollout.Driver{Cluster: r.cluster, Store: r.store, Readout: r.store, Now: now, Actor: "local", Say: r.cluster.say}
}

func (r *rig) end() {
	r.cancel()
	r.fleet.stop()
}

// create makes an experiment at services that is to start.
func (r *rig) create(name string, services ...string) {
	r.Helper()
	e := must(r.T, "name: likes-demo", "name: "+name, "[like, timeline, tweet]", "["+strings.Join(services, ", ")+"]",
		"exposure: [timeline, tweet, like]", "", "layer: {name: engagement, slots: [0, 10000]}", "")
	if err := r.records.begin(e); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) get(name string) *rollout.Experiment {
	r.Helper()
	e, err := r.records.get(name)
	if err != nil {
		r.Fatal(err)
	}
	return e
}

func (r *rig) wish(name string, wish func(*experiment.Wishes)) {
	r.Helper()
	_, err := r.records.update(name, func(e *rollout.Experiment) (*rollout.Experiment, error) {
		wish(&e.Spec.Wishes)
		return e, nil
	})
	if err != nil {
		r.Fatal(err)
	}
}

// turnUntil has the driver turn until a thing is so, as drive does.
func (r *rig) turnUntil(what string, is func() bool) {
	r.Helper()
	within(r.T, time.Minute, what, func() bool {
		if _, err := r.driver.Turn(r.Context()); err != nil {
			r.Fatal(err)
		}
		if err := r.cluster.forget(); err != nil {
			r.Fatal(err)
		}
		return is()
	})
}

func (r *rig) turnTo(name, describes string) {
	r.Helper()
	r.turnUntil(name+" to be "+describes, func() bool { return r.get(name).Describe() == describes })
}

// routes is the file that the edge reads.
func (r *rig) routes() (file routesFile) {
	r.Helper()
	text, err := os.ReadFile(r.state.path("warble-routes", "routes.json"))
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		r.Fatal(err)
	}
	return file
}

// reach is where the edge finds the arms of a service; nil where it finds none.
func (r *rig) reach(name, service string) *experiment.Reach {
	r.Helper()
	for _, rules := range r.routes().Experiments {
		if reach, there := rules.Reach[service]; there && rules.Name == name {
			return &reach
		}
	}
	return nil
}

// url is where the edge finds the untouched process of a service.
func (r *rig) url(service string) string {
	r.Helper()
	for _, f := range r.routes().Functions {
		if f.Name == service {
			return strings.TrimPrefix(f.URL, "http://")
		}
	}
	r.Fatalf("the edge has no way to %s", service)
	return ""
}

// ask returns what a process says of itself.
func ask(host string) (revision string, says told, err error) {
	answer, err := http.Get("http://" + host + "/")
	if err != nil {
		return "", says, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(text, &says)
	}
	return answer.Header.Get("X-Revision"), says, err
}

// says checks that a process is a revision and was told what it is.
func (r *rig) says(host, revision string, want told) {
	r.Helper()
	got, says, err := ask(host)
	if diff := cmp.Diff(want, says); err != nil || got != revision || diff != "" {
		r.Errorf("%s is %s, want %s: %v %s", host, got, revision, err, diff)
	}
}

func (r *rig) gone(host string) {
	r.Helper()
	within(r.T, time.Minute, "the end of "+host, func() bool {
		_, _, err := ask(host)
		return err != nil
	})
}

func TestTwoExperimentsRunFromTheirStartToTheirEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like", "timeline", "tweet")
	r.create("likes", "like", "timeline")
	r.create("tweets", "tweet")
	r.turnTo("likes", "Running, step 1/1 50%")
	r.turnTo("tweets", "Running, step 1/1 50%")
	control := told{Configuration: "likes-like-control", Service: "like", Experiment: "likes", Arm: "control"}
	treatment := told{Configuration: "likes-like-treatment", Service: "like", Experiment: "likes", Arm: "treatment", Features: "likes"}
	before := r.reach("likes", "like")
	r.says(before.Control.Host, "likes-like-control-00001", control)
	r.says(before.Treatment.Host, "likes-like-treatment-00001", treatment)
	r.says(r.url("like"), "like-local", told{KService: "like", Configuration: "like"})
	if before.Host != "" || r.reach("likes", "timeline") == nil || r.reach("tweets", "tweet") == nil {
		t.Errorf("%+v", r.routes().Experiments)
	}
	if rules := r.routes().Experiments[0]; rules.Name != "likes" || rules.Open != (experiment.Open{Control: 5000, Treatment: 5000}) || rules.Salt == "" || rules.Generation != 1 {
		t.Errorf("%+v", rules)
	}
	if text := r.console(); !strings.Contains(text, "\nlikes: Running, step 1/1 50%: every arm answers\n") || strings.Count(text, "likes: Running, step") != 1 {
		t.Errorf("it says %s", text)
	}

	// A new build replaces the arms too, and the edge follows before the status does.
	r.fleet.replace(t.Context())
	after := r.reach("likes", "like")
	r.says(after.Control.Host, "likes-like-control-00001", control)
	if r.gone(before.Control.Host); after.Control.Host == before.Control.Host {
		t.Errorf("%s was not replaced", after.Control.Host)
	}
	r.turnUntil("the status to have the new addresses", func() bool { return r.get("likes").Status.Assign.Services[0].Reach == *after })

	// An arm that ends unasked comes back where it was.
	r.fleet.mu.Lock()
	died := r.fleet.armLocked(idOf(keyOf(r.get("likes").UID, "like"), "likes-like-treatment-00001")).process
	r.fleet.mu.Unlock()
	if err := died.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-died.finished
	within(t, time.Minute, "the arm to come back", func() bool {
		_, says, err := ask(after.Treatment.Host)
		return err == nil && says == treatment
	})

	// Another run on the folder goes on, and the arms are there before its edge is.
	r.end()
	r.start("like", "timeline", "tweet")
	resumed := r.reach("likes", "like")
	r.says(resumed.Treatment.Host, "likes-like-treatment-00001", treatment)
	r.turnUntil("the status to have them", func() bool { return r.get("likes").Status.Assign.Services[0].Reach == *resumed })

	// A rebase makes both arms again, and the old ones stay until nothing leads to them.
	r.wish("likes", func(w *experiment.Wishes) { w.Rebase = &experiment.Rebase{Number: 1} })
	r.turnUntil("new arms", func() bool { return !r.get("likes").Status.Rebasing && r.get("likes").Status.Rebases == 1 })
	rebased := r.reach("likes", "like")
	r.says(rebased.Control.Host, "likes-like-control-00002", control)
	r.says(rebased.Treatment.Host, "likes-like-treatment-00002", treatment)
	r.gone(resumed.Control.Host)
	r.gone(resumed.Treatment.Host)

	// A stop closes the slots before anything moves, and then the arms go.
	r.wish("tweets", func(w *experiment.Wishes) { w.End = experiment.Stopped })
	if open := r.routes().Experiments[1].Open; open != (experiment.Open{}) {
		t.Errorf("after a stop %+v is open", open)
	}
	stopped := r.reach("tweets", "tweet")
	r.turnTo("tweets", "Concluded, stopped")
	if r.reach("tweets", "tweet") != nil {
		t.Error("the edge still has the way to its arms")
	}
	r.says(stopped.Control.Host, "tweets-tweet-control-00001", told{Configuration: "tweets-tweet-control", Service: "tweet", Experiment: "tweets", Arm: "control"})
	r.later.Add(int64(time.Minute))
	r.turnUntil("its arms to go", func() bool { return r.get("tweets").Status.Swept })
	r.gone(stopped.Control.Host)

	// A promotion gives the Services the treatment, also for the next run.
	untouched := r.url("like")
	r.wish("likes", func(w *experiment.Wishes) { w.End = experiment.Promoted })
	r.turnUntil("the promotion", func() bool {
		r.later.Add(int64(20 * time.Second))
		return r.get("likes").Describe() == "Concluded, promoted"
	})
	r.says(r.url("like"), "like-local-2", told{KService: "like", Configuration: "like", Features: "likes"})
	r.says(r.url("tweet"), "tweet-local", told{KService: "tweet", Configuration: "tweet"})
	r.gone(untouched)
	r.later.Add(int64(time.Minute))
	r.turnUntil("its arms to go", func() bool { return r.get("likes").Status.Swept })
	r.end()
	r.start("like", "timeline", "tweet")
	r.says(r.url("like"), "like-local-2", told{KService: "like", Configuration: "like", Features: "likes"})
	if n := len(r.routes().Functions); n != 3 || len(r.routes().Experiments) != 0 {
		t.Errorf("%+v", r.routes())
	}
}

// console is what was said so far.
func (r *rig) console() string {
	r.fleet.console.mu.Lock()
	defer r.fleet.console.mu.Unlock()
	return r.said.String()
}

func TestArmsOfADeletedExperimentGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like")
	r.create("likes", "like")
	r.turnTo("likes", "Running, step 1/1 50%")
	first, reach := r.get("likes"), r.reach("likes", "like")
	if _, err := r.records.remove("likes", nil); err != nil {
		t.Fatal(err)
	}
	if r.reach("likes", "like") != nil {
		t.Error("the edge still has the way to its arms")
	}
	r.create("likes", "like") // its arms have the names of those that go
	r.turnTo("likes", "Running, step 1/1 50%")
	r.gone(reach.Control.Host)
	r.gone(reach.Treatment.Host)
	again := r.reach("likes", "like")
	r.says(again.Control.Host, "likes-like-control-00001", told{Configuration: "likes-like-control", Service: "like", Experiment: "likes", Arm: "control"})
	if r.get("likes").UID == first.UID || len(r.records.read().Arms) != 1 {
		t.Errorf("%+v", r.records.read().Arms)
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if !strings.Contains(strings.Join(r.store.steps, ", "), "likes deleted") {
		t.Errorf("recorded is %s", r.store.steps)
	}
}

func TestATreatmentThatCrashesFailsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like", "tweet")
	e := must(t, "name: likes-demo", "name: crash", "[like, timeline, tweet]", "[like]", "exposure: [timeline, tweet, like]", "", "FEATURES: likes", "FEATURES: crash")
	if err := r.records.begin(e); err != nil {
		t.Fatal(err)
	}
	r.turnUntil("its crash to be told", func() bool {
		return strings.Contains(r.get("crash").Status.Message, "crash-like-treatment-00001, which does not get ready") &&
			strings.Contains(r.get("crash").Status.Message, "ended before it was ready")
	})
	if len(r.routes().Experiments) != 0 {
		t.Errorf("somebody is in it: %+v", r.routes().Experiments)
	}
	r.end()
	r.start("like", "tweet") // another run starts although the arm does not
	r.later.Add(int64(time.Hour))
	r.turnTo("crash", "Concluded, rolled back")
}

func TestWritesToTheClusterAreByVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like")
	ctx := t.Context()
	r.create("likes", "like")
	stale := r.get("likes")
	r.wish("likes", func(w *experiment.Wishes) { w.By = "ada" })
	stale.Status.Message = "of what was read before"
	if err := r.cluster.UpdateStatus(ctx, stale); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("a status: %v", err)
	}
	if _, err := r.cluster.Experiment(ctx, "nobody"); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	services, err := r.cluster.Services(ctx, nil)
	if err != nil || len(services) != 1 {
		t.Fatal(services, err)
	}
	s := *services[0]
	if s.Created != "like-local" || s.Ready != s.Created || !s.Settled || !s.Latest || s.Pool != 4 || s.MostPods != 0 || s.Timeout != 30*time.Second || s.UID == "" || s.Env["FEATURES"] != "" {
		t.Errorf("%+v", s)
	}
	if err := r.cluster.GiveTreatment(ctx, &s, map[string]string{"FEATURES": "likes"}, "registry.example/like"); err == nil {
		t.Error("an image is given")
	}
	if err := r.cluster.GiveTreatment(ctx, &s, map[string]string{"FEATURES": "crash"}, ""); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.GiveTreatment(ctx, &s, map[string]string{"FEATURES": "likes"}, ""); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("a Service that was written meanwhile: %v", err)
	}
	within(t, time.Minute, "its crash to be told", func() bool { return strings.Contains(r.console(), "like: like-local-2 does not take over") })
	r.says(r.url("like"), "like-local", told{KService: "like", Configuration: "like"})
	if services, err = r.cluster.Services(ctx, nil); err != nil || services[0].Settled || services[0].Created != "like-local-2" || services[0].Ready != "like-local" {
		t.Errorf("%+v %v", services[0], err)
	}
	if err := r.cluster.GiveTreatment(ctx, services[0], map[string]string{"FEATURES": "likes"}, ""); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "another to take over", func() bool {
		services, err = r.cluster.Services(ctx, nil)
		return err == nil && services[0].Settled && services[0].Created == "like-local-3"
	})
	r.says(r.url("like"), "like-local-3", told{KService: "like", Configuration: "like", Features: "likes"})

	// Of two that make one arm, the second reads again.
	e := r.get("likes")
	arm := rollout.Arm{Service: "like", Arm: experiment.Control, Base: "like-local-3", Image: services[0].Image, Source: "like-local-3/0"}
	if err := r.cluster.MakeArm(ctx, e, arm); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.MakeArm(ctx, e, arm); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("an arm that is there: %v", err)
	}
	within(t, time.Minute, "the arm", func() bool {
		arms, err := r.cluster.Arms(ctx, e)
		return err == nil && arms["like"].Control.Ready
	})
	revision, says, err := ask(r.fleet.address(idOf(keyOf(e.UID, "like"), "likes-like-control-00001")))
	if err != nil || revision != "likes-like-control-00001" || says.Features != "likes" {
		t.Errorf("an arm is no copy of its base: %s %+v %v", revision, says, err)
	}
	if err := errors.Join(r.cluster.RemoveRoute(ctx, e, "like"), r.cluster.RemoveArms(ctx, e, "like"), r.cluster.RemoveArms(ctx, e, "like"), r.cluster.RemoveRoute(ctx, e, "like")); err != nil {
		t.Errorf("what is not there cannot be removed: %v", err)
	}
	stranger := e.DeepCopy()
	stranger.UID = "another"
	if err := r.cluster.MakeArm(ctx, stranger, arm); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("an arm of one that was deleted: %v", err)
	}
}

// TestTheLoopHearsAWishAtOnce, while nothing else would have it look.
func TestTheLoopHearsAWishAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like")
	e := must(t, "name: likes-demo", "name: likes", "[like, timeline, tweet]", "[like]", "exposure: [timeline, tweet, like]", "")
	e.Spec.Start = false
	if _, err := r.records.create(e); err != nil {
		t.Fatal(err)
	}
	if r.cluster.interval(false) != idleInterval {
		t.Error("a draft keeps the loop busy")
	}
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 1)
	var driving sync.WaitGroup
	driving.Go(func() { r.cluster.drive(ctx, r.driver, woken) })
	defer driving.Wait()
	defer cancel()
	within(t, time.Minute, "the first turn", func() bool { return r.get("likes").Status.Message != "" })
	r.wish("likes", func(w *experiment.Wishes) { w.Start = true })
	woken <- struct{}{}
	within(t, time.Minute, "its start", func() bool { return r.get("likes").Describe() == "Running, step 1/1 50%" })
	if r.cluster.interval(false) != liveInterval || r.cluster.interval(true) != movingInterval {
		t.Error("a live experiment is not looked at")
	}
}
