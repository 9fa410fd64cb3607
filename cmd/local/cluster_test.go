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

// memoryStore is a rollout.Store in memory, and a readout in which every guardrail passes.
type memoryStore struct {
	mu     sync.Mutex
	starts map[string]experiment.Start
	steps  []string
}

func (n *memoryStore) StartExperiment(_ context.Context, s experiment.Start) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.starts[s.Name] = s
	return nil
}

func (n *memoryStore) StartedBefore(_ context.Context, name string) (*experiment.Past, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, started := n.starts[name]
	if !started {
		return nil, nil //nolint:nilnil // the interface asks for this
	}
	return &experiment.Past{Name: name, Salt: s.Salt, UID: s.UID, Namespace: s.Namespace, PlannedUnits: s.PlannedUnits, Phase: experiment.Draft}, nil
}

func (n *memoryStore) LiveExperiments(_ context.Context, namespace string) (live []experiment.Past, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, s := range n.starts {
		if s.Namespace == namespace {
			live = append(live, experiment.Past{Name: name, UID: s.UID, Namespace: s.Namespace})
		}
	}
	return live, nil
}

func (n *memoryStore) Transition(_ context.Context, name string, t experiment.Transition) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps = append(n.steps, name+" "+t.ID)
	if t.Phase == experiment.Concluded {
		delete(n.starts, name)
	}
	return nil
}

func (n *memoryStore) Suspension(context.Context, string, time.Time) (string, error) { return "", nil }

func (n *memoryStore) ArchiveExperiment(context.Context, string, time.Time) error { return nil }

func (n *memoryStore) KeepMetrics(context.Context, []experiment.Metric) error { return nil }

func (n *memoryStore) Plan(context.Context, experiment.Spec, []experiment.Metric) (int64, error) {
	return 100, nil
}

func (n *memoryStore) Judge(context.Context, string, time.Time) (experiment.Judgement, error) {
	return experiment.Judgement{Guardrails: experiment.GuardPass}, nil
}

// rig is a local run without an edge and a database. Its functions are processes of this test program. Tests call its driver.
type rig struct {
	*testing.T
	state   state
	records *records
	fleet   *fleet
	cluster *cluster
	driver  *rollout.Driver
	store   *memoryStore
	later   atomic.Int64 // how far the driver's clock is ahead
	said    bytes.Buffer
	cancel  func()
}

func newRig(t *testing.T, names ...string) *rig {
	t.Helper()
	r := &rig{T: t, state: stateOf(t), store: &memoryStore{starts: make(map[string]experiment.Start)}}
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

// create creates an experiment on services, with the wish to start.
func (r *rig) create(name string, services ...string) {
	r.Helper()
	e := mustDemoFile(r.T, "name: likes-demo", "name: "+name, "[like, timeline, tweet]", "["+strings.Join(services, ", ")+"]",
		"exposure: [timeline, tweet, like]", "", "layer: {name: engagement, slots: [0, 10000]}", "")
	if err := r.records.createOnce(e); err != nil {
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

// turnUntil makes turns, like drive, until a condition holds.
func (r *rig) turnUntil(what string, is func() bool) {
	r.Helper()
	within(r.T, time.Minute, what, func() bool {
		if _, err := r.driver.Turn(r.Context()); err != nil {
			r.Fatal(err)
		}
		if err := r.cluster.dropUnused(); err != nil {
			r.Fatal(err)
		}
		return is()
	})
}

func (r *rig) turnTo(name, describes string) {
	r.Helper()
	r.turnUntil(name+" to be "+describes, func() bool { return r.get(name).Describe() == describes })
}

// routes reads the file that the edge reads.
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

// reach returns the addresses of a service's arms in the routes file, nil if it has none.
func (r *rig) reach(name, service string) *experiment.Reach {
	r.Helper()
	for _, rules := range r.routes().Experiments {
		if reach, found := rules.Reach[service]; found && rules.Name == name {
			return &reach
		}
	}
	return nil
}

// url returns the address of the process that serves the untouched.
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

// ask returns a process's revision and environment.
func ask(host string) (revision string, info processInfo, err error) {
	answer, err := http.Get("http://" + host + "/")
	if err != nil {
		return "", info, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(text, &info)
	}
	return answer.Header.Get("X-Revision"), info, err
}

// checkProcess checks a process's revision and environment.
func (r *rig) checkProcess(host, revision string, want processInfo) {
	r.Helper()
	got, info, err := ask(host)
	if diff := cmp.Diff(want, info); err != nil || got != revision || diff != "" {
		r.Errorf("%s is %s, want %s: %v %s", host, got, revision, err, diff)
	}
}

// waitForEnd waits until a process has ended.
func (r *rig) waitForEnd(host string) {
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
	control := processInfo{Configuration: "likes-like-control", Service: "like", Experiment: "likes", Arm: "control"}
	treatment := processInfo{Configuration: "likes-like-treatment", Service: "like", Experiment: "likes", Arm: "treatment", Features: "likes"}
	before := r.reach("likes", "like")
	r.checkProcess(before.Control.Host, "likes-like-control-00001", control)
	r.checkProcess(before.Treatment.Host, "likes-like-treatment-00001", treatment)
	r.checkProcess(r.url("like"), "like-local", processInfo{KService: "like", Configuration: "like"})
	if before.Host != "" || r.reach("likes", "timeline") == nil || r.reach("tweets", "tweet") == nil {
		t.Errorf("%+v", r.routes().Experiments)
	}
	if rules := r.routes().Experiments[0]; rules.Name != "likes" || rules.Open != (experiment.Open{Control: 5000, Treatment: 5000}) || rules.Salt == "" || rules.Generation != 1 {
		t.Errorf("%+v", rules)
	}
	if text := r.console(); !strings.Contains(text, "\nlikes: Running, step 1/1 50%: every arm answers\n") || strings.Count(text, "likes: Running, step") != 1 {
		t.Errorf("it says %s", text)
	}

	// A new build replaces the arms too. The routes file has the new addresses before the status.
	r.fleet.replace(t.Context())
	after := r.reach("likes", "like")
	r.checkProcess(after.Control.Host, "likes-like-control-00001", control)
	if r.waitForEnd(before.Control.Host); after.Control.Host == before.Control.Host {
		t.Errorf("%s was not replaced", after.Control.Host)
	}
	r.turnUntil("the status to have the new addresses", func() bool { return r.get("likes").Status.Assign.Services[0].Reach == *after })

	// An arm that ends unexpectedly is started again at the same address.
	r.fleet.mu.Lock()
	died := r.fleet.armLocked(idOf(keyOf(r.get("likes").UID, "like"), "likes-like-treatment-00001")).process
	r.fleet.mu.Unlock()
	if err := died.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-died.finished
	within(t, time.Minute, "the arm to come back", func() bool {
		_, info, err := ask(after.Treatment.Host)
		return err == nil && info == treatment
	})

	// Another run with the same folder continues. Its arms are ready before its edge.
	r.end()
	r.start("like", "timeline", "tweet")
	resumed := r.reach("likes", "like")
	r.checkProcess(resumed.Treatment.Host, "likes-like-treatment-00001", treatment)
	r.turnUntil("the status to have them", func() bool { return r.get("likes").Status.Assign.Services[0].Reach == *resumed })

	// A rebase makes both arms again. The old ones stay until no route leads to them.
	r.wish("likes", func(w *experiment.Wishes) { w.Rebase = &experiment.Rebase{Number: 1} })
	r.turnUntil("new arms", func() bool { return !r.get("likes").Status.Rebasing && r.get("likes").Status.Rebases == 1 })
	rebased := r.reach("likes", "like")
	r.checkProcess(rebased.Control.Host, "likes-like-control-00002", control)
	r.checkProcess(rebased.Treatment.Host, "likes-like-treatment-00002", treatment)
	r.waitForEnd(resumed.Control.Host)
	r.waitForEnd(resumed.Treatment.Host)

	// A stop closes the slots before the driver's next turn. Later the arms are dropped.
	r.wish("tweets", func(w *experiment.Wishes) { w.End = experiment.Stopped })
	if open := r.routes().Experiments[1].Open; open != (experiment.Open{}) {
		t.Errorf("after a stop %+v is open", open)
	}
	stopped := r.reach("tweets", "tweet")
	r.turnTo("tweets", "Concluded, stopped")
	if r.reach("tweets", "tweet") != nil {
		t.Error("the edge still has the way to its arms")
	}
	r.checkProcess(stopped.Control.Host, "tweets-tweet-control-00001", processInfo{Configuration: "tweets-tweet-control", Service: "tweet", Experiment: "tweets", Arm: "control"})
	r.later.Add(int64(time.Minute))
	r.turnUntil("its arms to go", func() bool { return r.get("tweets").Status.Swept })
	r.waitForEnd(stopped.Control.Host)

	// A promotion gives the Services the treatment, and the next run keeps it.
	untouched := r.url("like")
	r.wish("likes", func(w *experiment.Wishes) { w.End = experiment.Promoted })
	r.turnUntil("the promotion", func() bool {
		r.later.Add(int64(20 * time.Second))
		return r.get("likes").Describe() == "Concluded, promoted"
	})
	r.checkProcess(r.url("like"), "like-local-2", processInfo{KService: "like", Configuration: "like", Features: "likes"})
	r.checkProcess(r.url("tweet"), "tweet-local", processInfo{KService: "tweet", Configuration: "tweet"})
	r.waitForEnd(untouched)
	r.later.Add(int64(time.Minute))
	r.turnUntil("its arms to go", func() bool { return r.get("likes").Status.Swept })
	r.end()
	r.start("like", "timeline", "tweet")
	r.checkProcess(r.url("like"), "like-local-2", processInfo{KService: "like", Configuration: "like", Features: "likes"})
	if n := len(r.routes().Functions); n != 3 || len(r.routes().Experiments) != 0 {
		t.Errorf("%+v", r.routes())
	}
}

// console returns the output so far.
func (r *rig) console() string {
	r.fleet.console.mu.Lock()
	defer r.fleet.console.mu.Unlock()
	return r.said.String()
}

func TestTheArmsOfADeletedExperimentEnd(t *testing.T) {
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
	r.create("likes", "like") // its arms have the same names as those that end
	r.turnTo("likes", "Running, step 1/1 50%")
	r.waitForEnd(reach.Control.Host)
	r.waitForEnd(reach.Treatment.Host)
	again := r.reach("likes", "like")
	r.checkProcess(again.Control.Host, "likes-like-control-00001", processInfo{Configuration: "likes-like-control", Service: "like", Experiment: "likes", Arm: "control"})
	if r.get("likes").UID == first.UID || len(r.records.read().Arms) != 1 {
		t.Errorf("%+v", r.records.read().Arms)
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if !strings.Contains(strings.Join(r.store.steps, ", "), "likes deleted") {
		t.Errorf("recorded is %s", r.store.steps)
	}
}

func TestATreatmentThatCrashesGetsNoTraffic(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like", "tweet")
	e := mustDemoFile(t, "name: likes-demo", "name: crash", "[like, timeline, tweet]", "[like]", "exposure: [timeline, tweet, like]", "", "FEATURES: likes", "FEATURES: crash")
	if err := r.records.createOnce(e); err != nil {
		t.Fatal(err)
	}
	r.turnUntil("its crash to be reported", func() bool {
		return strings.Contains(r.get("crash").Status.Message, "crash-like-treatment-00001, which does not become ready") &&
			strings.Contains(r.get("crash").Status.Message, "ended before it was ready")
	})
	if len(r.routes().Experiments) != 0 {
		t.Errorf("somebody is in it: %+v", r.routes().Experiments)
	}
	r.end()
	r.start("like", "tweet") // another run starts, even though the arm does not
	r.later.Add(int64(time.Hour))
	r.turnTo("crash", "Concluded, rolled back")
}

func TestWritesToTheClusterCheckTheResourceVersion(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like")
	ctx := t.Context()
	r.create("likes", "like")
	stale := r.get("likes")
	r.wish("likes", func(w *experiment.Wishes) { w.By = "ada" })
	stale.Status.Message = "from an old version"
	if err := r.cluster.UpdateStatus(ctx, stale); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("a status: %v", err)
	}
	if _, err := r.cluster.Experiment(ctx, "nobody"); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("an unknown experiment: %v", err)
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
		t.Errorf("a Service that somebody else has written: %v", err)
	}
	within(t, time.Minute, "its crash to be reported", func() bool { return strings.Contains(r.console(), "like: like-local-2 does not take over") })
	r.checkProcess(r.url("like"), "like-local", processInfo{KService: "like", Configuration: "like"})
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
	r.checkProcess(r.url("like"), "like-local-3", processInfo{KService: "like", Configuration: "like", Features: "likes"})

	// If two drivers make the same arm, the second gets a conflict.
	e := r.get("likes")
	arm := rollout.Arm{Service: "like", Arm: experiment.Control, Base: "like-local-3", Image: services[0].Image, Source: "like-local-3/0"}
	if err := r.cluster.MakeArm(ctx, e, arm); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.MakeArm(ctx, e, arm); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("an arm that exists: %v", err)
	}
	within(t, time.Minute, "the arm", func() bool {
		arms, err := r.cluster.Arms(ctx, e)
		return err == nil && arms["like"].Control.Ready
	})
	revision, info, err := ask(r.fleet.address(idOf(keyOf(e.UID, "like"), "likes-like-control-00001")))
	if err != nil || revision != "likes-like-control-00001" || info.Features != "likes" {
		t.Errorf("an arm is not a copy of its base: %s %+v %v", revision, info, err)
	}
	if err := errors.Join(r.cluster.RemoveRoute(ctx, e, "like"), r.cluster.RemoveArms(ctx, e, "like"), r.cluster.RemoveArms(ctx, e, "like"), r.cluster.RemoveRoute(ctx, e, "like")); err != nil {
		t.Errorf("removing what does not exist: %v", err)
	}
	stranger := e.DeepCopy()
	stranger.UID = "another"
	if err := r.cluster.MakeArm(ctx, stranger, arm); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("an arm of a deleted experiment: %v", err)
	}
}

// TestAWishWakesTheLoop while the next turn would come only after the idle interval.
func TestAWishWakesTheLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t, "like")
	e := mustDemoFile(t, "name: likes-demo", "name: likes", "[like, timeline, tweet]", "[like]", "exposure: [timeline, tweet, like]", "")
	e.Spec.Start = false
	if _, err := r.records.create(e); err != nil {
		t.Fatal(err)
	}
	if r.cluster.interval(false) != idleInterval {
		t.Error("a draft shortens the interval")
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
		t.Error("a live experiment does not shorten the interval")
	}
}
