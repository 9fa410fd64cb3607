package rollout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/rollout"
)

// fixture simulates a cluster, a database and a readout in memory, with a clock that a test moves. check runs after every write.
type fixture struct {
	metrics []rollout.Metric // in the cluster

	t  *testing.T
	mu sync.Mutex

	now         time.Time
	namespace   rollout.Namespace
	version     int
	experiments map[string]*rollout.Experiment
	services    map[string]*service
	arms        map[string]*arms     // likes/tweet
	ready       map[string]time.Time // when each existing revision can serve
	taken       map[string]bool      // names of objects that no experiment owns
	broken      map[string]string    // what the pods of an arm that never gets ready say, by tweet/treatment
	deaf        map[string]bool      // experiments whose arms never answer
	meddled     bool                 // somebody has deleted arms

	started     map[string]experiment.Start
	transitions map[string][]experiment.Transition
	archived    map[string]bool
	tripped     map[string]suspension
	away        bool // whether the database is away
	verdict     map[string]experiment.Judgement
	plans       int
	meanwhile   func() // called while the first plan is made

	connections int // of the database
	drivers     int // how many make turns at the same time
	strict      *definition
	assigned    map[string]experiment.Arm // by salt and unit
	open        map[string]experiment.Open
	told        []string
	events      []rollout.Event

	writes  int
	dieAt   int  // the write at which the driver is killed, from 1
	through bool // whether that write takes effect
}

type service struct {
	rollout.Service
	version, made int
	readyAt       time.Time
	written       int // how often steer has written it
}

type arms struct {
	owner types.UID
	made  map[experiment.Arm]*rollout.ArmState
	route *rollout.Route
	until time.Time // when the route comes into force
	was   *rollout.Route
}

const (
	armTakes   = 5 * time.Second
	routeTakes = 2 * time.Second
)

func newFixture(t *testing.T, names ...string) *fixture {
	w := &fixture{
		t: t, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), namespace: rollout.Namespace{UID: "namespace-1"}, drivers: 1,
		experiments: make(map[string]*rollout.Experiment), services: make(map[string]*service), arms: make(map[string]*arms),
		ready: make(map[string]time.Time), taken: make(map[string]bool), broken: make(map[string]string), deaf: make(map[string]bool),
		started: make(map[string]experiment.Start), transitions: make(map[string][]experiment.Transition), archived: make(map[string]bool),
		tripped: make(map[string]suspension), verdict: make(map[string]experiment.Judgement), assigned: make(map[string]experiment.Arm), open: make(map[string]experiment.Open),
	}
	for _, name := range names {
		w.serve(name)
	}
	w.pass(time.Minute)
	return w
}

// serve makes a Service, or replaces it by another of that name.
func (w *fixture) serve(name string) {
	s := &service{Service: rollout.Service{
		Name: name, UID: fmt.Sprintf("%s-%d", name, w.version), Wished: "registry.test/" + name, Latest: true, Timeout: 40 * time.Second, MostPods: 3, Pool: 4,
		Env: map[string]string{"FEATURES": ""}, Elsewhere: []string{"DATABASE_URL"},
	}}
	w.services[name] = s
	w.revise(s)
}

// revise makes the revision of a changed template.
func (w *fixture) revise(s *service) {
	s.made++
	s.version++
	w.version++
	s.Created, s.readyAt = fmt.Sprintf("%s-%05d", s.Name, s.made), w.now.Add(armTakes)
	w.ready[s.Created] = s.readyAt
}

// deploy changes a Service, as a person does.
func (w *fixture) deploy(name string, change func(*rollout.Service)) {
	s := w.services[name]
	change(&s.Service)
	w.revise(s)
	w.pass(armTakes)
}

func (w *fixture) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
	for _, s := range w.services {
		if s.Settled = !w.now.Before(s.readyAt); s.Settled {
			s.Ready, s.Image = s.Created, s.Wished
			if !strings.Contains(s.Image, "@") {
				s.Image += "@sha256:" + s.Created
			}
		}
	}
}

// draft makes an experiment, as a person does.
func (w *fixture) draft(text string, wishes experiment.Wishes) {
	w.t.Helper()
	e, err := check(text)
	if err != nil {
		w.t.Fatal(err)
	}
	w.version++
	e.UID, e.Generation, e.ResourceVersion = types.UID(fmt.Sprintf("%s-%d", e.Name, w.version)), 1, strconv.Itoa(w.version)
	e.Spec.Wishes = wishes
	w.experiments[e.Name] = &e
}

// wish writes a wish, as a person does. The API server refuses the same changes as CheckChange.
func (w *fixture) wish(name string, change func(*experiment.Wishes)) {
	w.t.Helper()
	e := w.experiments[name]
	spec := *e.Spec.DeepCopy()
	change(&spec.Wishes)
	if err := experiment.CheckChange(e.Status.Phase, e.Spec, spec); err != nil {
		w.t.Fatalf("the API server refuses the wish: %v", err)
	}
	w.version++
	e.Spec, e.Generation, e.ResourceVersion = spec, e.Generation+1, strconv.Itoa(w.version)
}

func (w *fixture) end(name string, end experiment.End) {
	w.t.Helper()
	w.wish(name, func(s *experiment.Wishes) { s.End, s.By, s.Why = end, "bob", "" })
}

// remove deletes an experiment and what it owns, like kubectl delete.
func (w *fixture) remove(name string) {
	uid := w.experiments[name].UID
	delete(w.experiments, name)
	delete(w.open, name)
	maps.DeleteFunc(w.arms, func(_ string, a *arms) bool { return a.owner == uid })
}

// rebuild replaces the cluster, and keeps the database: Services with the same names and other UIDs, and no experiment.
func (w *fixture) rebuild() {
	clear(w.experiments)
	clear(w.arms)
	clear(w.open)
	w.namespace.UID += "-rebuilt"
	for name, s := range w.services {
		uid := s.UID
		w.serve(name)
		w.services[name].UID = uid + "-rebuilt"
	}
	w.pass(time.Minute)
}

// suspension is why the edges have found a treatment at fault, and when.
type suspension struct {
	at  time.Time
	why string
}

// trip reports a treatment at fault, as the edges do.
func (w *fixture) trip(name, why string) { w.tripped[name] = suspension{w.now, why} }

// takeAway deletes the arms of a Service, as a person does.
func (w *fixture) takeAway(key string) {
	w.meddled = true
	delete(w.arms, key)
}

var errAway, errKilled = errors.New("the database is away"), errors.New("killed")

// access is one driver's access to the fixture. After the driver was killed, every call fails.
type access struct {
	*fixture
	dead bool
}

func (h *access) read(do func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return errKilled
	}
	return do()
}

func (h *access) write(do func() error) error {
	return h.read(func() error {
		h.writes++
		if h.writes == h.dieAt {
			h.dead = true
			if h.through {
				_ = do() // the dead driver does not get the result
				h.check()
			}
			return errKilled
		}
		err := do()
		h.check()
		return err
	})
}

func (h *access) Namespace(context.Context) (n rollout.Namespace, err error) {
	err = h.read(func() error { n = h.namespace; return nil })
	return n, err
}

func (h *access) Experiments(context.Context) (all []rollout.Experiment, err error) {
	err = h.read(func() error {
		for _, name := range slices.Sorted(maps.Keys(h.experiments)) {
			all = append(all, *h.experiments[name].DeepCopy())
		}
		return nil
	})
	return all, err
}

func (h *access) Experiment(_ context.Context, name string) (e *rollout.Experiment, err error) {
	err = h.read(func() error {
		if e = h.experiments[name]; e == nil {
			return rollout.ErrNotFound
		}
		e = e.DeepCopy()
		return nil
	})
	return e, err
}

func (h *access) UpdateStatus(_ context.Context, e *rollout.Experiment) error {
	return h.write(func() error {
		switch present := h.experiments[e.Name]; {
		case present == nil:
			return rollout.ErrNotFound
		case present.ResourceVersion != e.ResourceVersion:
			return rollout.ErrConflict
		default:
			h.version++
			present.Status, present.ResourceVersion = stored(h.t, e.Status), strconv.Itoa(h.version)
			h.admits(present)
			return nil
		}
	})
}

// stored returns a status as the API server stores it, with fewer digits of some times.
func stored(t *testing.T, s rollout.Status) (stored rollout.Status) {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		t.Errorf("status: %v", err)
	}
	return stored
}

// admits checks that the API server accepts the status.
func (w *fixture) admits(e *rollout.Experiment) {
	if w.strict == nil {
		return
	}
	whole := *e
	whole.APIVersion, whole.Kind = rollout.GroupVersion.String(), rollout.Kind
	text, err := json.Marshal(whole)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.strict.admit(w.t, string(text), nil); err != nil {
		w.t.Errorf("the API server refuses the status: %v", err)
	}
}

func (h *access) Services(_ context.Context, detailed []string) (all []*rollout.Service, err error) {
	err = h.read(func() error {
		for _, name := range slices.Sorted(maps.Keys(h.services)) {
			s := h.services[name]
			seen := s.Service
			seen.Env, seen.Object = maps.Clone(s.Env), s.version
			if !slices.Contains(detailed, name) {
				seen.Image = ""
			}
			all = append(all, &seen)
		}
		return nil
	})
	return all, err
}

func (w *fixture) isReady(revision string) bool {
	at, there := w.ready[revision]
	return there && !w.now.Before(at)
}

// routeInForce returns the route that is in force; nil if there is none.
func (w *fixture) routeInForce(a *arms) *rollout.Route {
	if a.route != nil && w.now.Before(a.until) {
		return a.was
	}
	return a.route
}

func host(e, service string, arm experiment.Arm) string {
	return fmt.Sprintf("%s-%s-%s.test", arm, e, service)
}

// answer returns the revision that answers at a host; "" if nothing does.
func (w *fixture) answer(at string) string {
	for key, a := range w.arms {
		name, service, _ := strings.Cut(key, "/")
		for _, arm := range experiment.Arms {
			route := w.routeInForce(a)
			if host(name, service, arm) != at || route == nil || a.made[arm] == nil {
				continue
			}
			revision := map[experiment.Arm]string{experiment.Control: route.Control, experiment.Treatment: route.Treatment}[arm]
			if w.isReady(revision) {
				return revision
			}
		}
	}
	return ""
}

func (h *access) Arms(_ context.Context, e *rollout.Experiment) (all map[string]*rollout.Arms, err error) {
	all = make(map[string]*rollout.Arms)
	err = h.read(func() error {
		for _, service := range e.Spec.Services {
			a := h.arms[e.Name+"/"+service]
			if a == nil || a.owner != e.UID {
				continue
			}
			seen := func(arm experiment.Arm) *rollout.ArmState {
				if a.made[arm] == nil {
					return nil
				}
				m := *a.made[arm]
				m.Ready, m.Failed = h.isReady(m.Revision), h.broken[service+"/"+string(arm)]
				return &m
			}
			all[service] = &rollout.Arms{Control: seen(experiment.Control), Treatment: seen(experiment.Treatment)}
			if a.route != nil {
				way := &rollout.RouteState{Control: a.route.Control, Treatment: a.route.Treatment, Percent: a.route.Percent, InForce: !h.now.Before(a.until)}
				if way.InForce {
					way.Reach.Control = experiment.Side{Host: host(e.Name, service, experiment.Control), Revision: way.Control}
					way.Reach.Treatment = experiment.Side{Host: host(e.Name, service, experiment.Treatment), Revision: way.Treatment}
				}
				all[service].Route = way
			}
		}
		return nil
	})
	return all, err
}

// ownedArms returns the arms that e owns of a Service, after checking that e may make an object called name.
func (w *fixture) ownedArms(e *rollout.Experiment, service, name string) (*arms, error) {
	if present := w.experiments[e.Name]; w.drivers == 1 && !present.Status.Phase.Live() {
		w.t.Errorf("%s is made while %s is %q: expected the status to be written first", name, e.Name, present.Status.Phase)
	}
	if w.taken[name] {
		return nil, fmt.Errorf("there is a %s, and %w", name, rollout.ErrTaken)
	}
	a := w.arms[e.Name+"/"+service]
	if a == nil {
		a = &arms{owner: e.UID, made: make(map[experiment.Arm]*rollout.ArmState)}
		w.arms[e.Name+"/"+service] = a
	}
	return a, nil
}

func (h *access) MakeArm(_ context.Context, e *rollout.Experiment, arm rollout.Arm) error {
	return h.write(func() error {
		name := e.Name + "-" + arm.Service + "-" + string(arm.Arm)
		a, err := h.ownedArms(e, arm.Service, name)
		if err != nil {
			return err
		}
		if _, there := h.ready[arm.Base]; !there {
			return fmt.Errorf("revision %s: %w", arm.Base, rollout.ErrNotFound)
		}
		if arm.Env["WARBLE_ARM"] != string(arm.Arm) || arm.Arm == experiment.Control && len(arm.Env) != 3 {
			h.t.Errorf("the %s of %s has the variables %v", arm.Arm, arm.Service, arm.Env)
		}
		n := 1
		if before := a.made[arm.Arm]; before != nil {
			if before.Source == arm.Source {
				return rollout.ErrConflict
			}
			_, _ = fmt.Sscanf(before.Revision[strings.LastIndexByte(before.Revision, '-')+1:], "%d", &n)
			n++
		}
		made := &rollout.ArmState{Source: arm.Source, Revision: fmt.Sprintf("%s-%05d", name, n)}
		a.made[arm.Arm] = made
		if h.ready[made.Revision] = h.now.Add(armTakes); h.broken[arm.Service+"/"+string(arm.Arm)] != "" {
			delete(h.ready, made.Revision)
		}
		h.told = append(h.told, fmt.Sprintf("%s of %s: %s", made.Revision, arm.Base, arm.Image))
		return nil
	})
}

func (h *access) PutRoute(_ context.Context, e *rollout.Experiment, route rollout.Route) error {
	return h.write(func() error {
		a, err := h.ownedArms(e, route.Service, e.Name+"-"+route.Service)
		if err != nil {
			return err
		}
		if !h.isReady(route.Control) || !h.isReady(route.Treatment) {
			h.t.Errorf("the route leads to %s and %s: expected both to be ready", route.Control, route.Treatment)
		}
		a.was, a.route, a.until = h.routeInForce(a), &route, h.now.Add(routeTakes)
		return nil
	})
}

// drained checks that no request can be under way in the arms.
func (w *fixture) drained(e *rollout.Experiment) {
	s := w.experiments[e.Name].Status
	if s.Phase != experiment.Concluded || w.now.Before(s.ClosedAt.Add(40*time.Second)) {
		w.t.Errorf("at %s arms of %s are deleted, which is %s since %s: expected 40 s between, the timeout of its Services", w.now, e.Name, s.Phase, s.ClosedAt)
	}
}

func (h *access) RemoveRoute(_ context.Context, e *rollout.Experiment, service string) error {
	return h.write(func() error {
		h.drained(e)
		if a := h.arms[e.Name+"/"+service]; a != nil && a.owner == e.UID {
			a.route, a.was = nil, nil
		}
		return nil
	})
}

func (h *access) RemoveArms(_ context.Context, e *rollout.Experiment, service string) error {
	return h.write(func() error {
		h.drained(e)
		if a := h.arms[e.Name+"/"+service]; a != nil && a.owner == e.UID {
			if a.route != nil {
				h.t.Errorf("the arms of %s are deleted before their route", service)
			}
			delete(h.arms, e.Name+"/"+service)
		}
		return nil
	})
}

func (h *access) Answers(ctx context.Context, at string) (revision string, err error) {
	deaf := false
	err = h.read(func() error {
		for name := range h.deaf {
			deaf = deaf || strings.Contains(at, "-"+name+"-")
		}
		for name, s := range h.services {
			if s.Guest && strings.Contains(at, "-"+name) {
				return errors.New("it answers and names no revision")
			}
		}
		if revision = h.answer(at); revision == "" {
			return errors.New("no such host")
		}
		return nil
	})
	if deaf {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return revision, err
}

func (h *access) GiveTreatment(_ context.Context, s *rollout.Service, env map[string]string, image string) error {
	return h.write(func() error {
		present := h.services[s.Name]
		if present == nil {
			return rollout.ErrNotFound
		}
		if s.Object != present.version {
			return rollout.ErrConflict
		}
		may := slices.ContainsFunc(slices.Collect(maps.Values(h.experiments)), func(e *rollout.Experiment) bool {
			return e.Status.Phase == experiment.Promoting && e.Spec.PromoteBy == "steer" && slices.Contains(e.Spec.Services, s.Name) && e.Status.Assign.Open.Control == 0
		})
		if !may || present.Manager != "" {
			h.t.Errorf("%s is written: expected that in a promotion by steer alone, when no slot is control's", s.Name)
		}
		maps.Copy(present.Env, env)
		if image != "" {
			present.Wished = image
		}
		present.written++
		present.Settled = false
		h.revise(present)
		return nil
	})
}

func (h *access) RecordEvent(_ context.Context, e *rollout.Experiment, event rollout.Event) error {
	return h.write(func() error {
		h.told = append(h.told, e.Name+" "+event.Reason)
		h.events = append(h.events, event)
		return nil
	})
}

// onDatabase does a call of the database, unless that is away.
func (h *access) onDatabase(call func(func() error) error, do func() error) error {
	return call(func() error {
		if h.away {
			return errAway
		}
		return do()
	})
}

func (h *access) StartExperiment(_ context.Context, s experiment.Start) error {
	return h.onDatabase(h.write, func() error {
		before, there := h.started[s.Name]
		if there && (before.Salt != s.Salt || h.phase(s.Name) == experiment.Concluded || before.UID != s.UID && before.Namespace == s.Namespace) {
			return problem.Conflict
		}
		if there {
			before.UID, before.Namespace = s.UID, s.Namespace
			s = before
		}
		h.started[s.Name] = s
		return nil
	})
}

// phase returns the phase in the database.
func (w *fixture) phase(name string) experiment.Phase {
	if all := w.transitions[name]; len(all) > 0 {
		return all[len(all)-1].Phase
	}
	return experiment.Draft
}

// past returns what the database knows about an experiment that has started.
func (w *fixture) past(name string) experiment.Past {
	s := w.started[name]
	p := experiment.Past{Name: name, Salt: s.Salt, UID: s.UID, Namespace: s.Namespace, PlannedUnits: s.PlannedUnits, Phase: w.phase(name)}
	if all := w.transitions[name]; len(all) > 0 {
		p.Step = all[len(all)-1].Step
	}
	return p
}

func (h *access) StartedBefore(_ context.Context, name string) (p *experiment.Past, err error) {
	err = h.onDatabase(h.read, func() error {
		if _, there := h.started[name]; there {
			past := h.past(name)
			p = &past
		}
		return nil
	})
	return p, err
}

func (h *access) LiveExperiments(_ context.Context, namespace string) (live []experiment.Past, err error) {
	err = h.onDatabase(h.read, func() error {
		for name, s := range h.started {
			if p := h.phase(name); s.Namespace == namespace && p != experiment.Concluded && p != experiment.Archived {
				live = append(live, h.past(name))
			}
		}
		return nil
	})
	return live, err
}

func (h *access) Transition(_ context.Context, name string, t experiment.Transition) error {
	return h.onDatabase(h.write, func() error {
		if _, there := h.started[name]; !there {
			return problem.NotFound
		}
		if (t.Phase == experiment.Concluded || t.Phase == experiment.Archived) != (t.Conclusion != "") {
			h.t.Errorf("the transition %s to %s has the conclusion %q", t.ID, t.Phase, t.Conclusion)
		}
		if !slices.ContainsFunc(h.transitions[name], func(before experiment.Transition) bool { return before.ID == t.ID }) {
			h.transitions[name] = append(h.transitions[name], t)
		}
		return nil
	})
}

func (h *access) Suspension(_ context.Context, name string, since time.Time) (why string, err error) {
	err = h.onDatabase(h.read, func() error {
		if seen := h.tripped[name]; !seen.at.Before(since) {
			why = seen.why
		}
		return nil
	})
	return why, err
}

func (h *access) ArchiveExperiment(_ context.Context, name string, _ time.Time) error {
	return h.onDatabase(h.write, func() error { h.archived[name] = true; return nil })
}

// Metrics returns the metrics in the cluster.
func (h *access) Metrics(context.Context) (all []rollout.Metric, err error) {
	return all, h.read(func() error {
		all = slices.Clone(h.metrics)
		return nil
	})
}

// KeepMetrics does not count as a write, because no move depends on it.
func (h *access) KeepMetrics(context.Context, []experiment.Metric) error {
	return h.read(func() error { return nil })
}

// Plan returns another number each time, as if the data had changed.
func (h *access) Plan(context.Context, experiment.Spec, []experiment.Metric) (units int64, err error) {
	err = h.onDatabase(h.read, func() error {
		if h.plans++; h.plans == 1 && h.meanwhile != nil {
			h.meanwhile()
		}
		units = int64(5000 + h.plans)
		return nil
	})
	return units, err
}

func (h *access) Judge(_ context.Context, name string, _ time.Time) (v experiment.Judgement, err error) {
	err = h.onDatabase(h.read, func() error {
		var there bool
		if v, there = h.verdict[name]; !there {
			v = experiment.Judgement{Guardrails: experiment.GuardPass}
		}
		v.Entered, v.Reachable = experiment.Counts{Control: 1000, Treatment: 1000}, 10_000
		return nil
	})
	return v, err
}

// check checks what must hold after every write.
func (w *fixture) check() {
	w.t.Helper()
	liveIn := make(map[string]string) // the live experiment of each Service
	for _, name := range slices.Sorted(maps.Keys(w.experiments)) {
		e := w.experiments[name]
		open := e.Rules().Open
		for _, service := range e.Spec.Services {
			live := e.Status.Phase.Live()
			if w.drivers > 1 { // two may start at the same moment, and one of them ends before it assigns anybody
				live = open != experiment.Open{}
			}
			if other := liveIn[service]; live && other != "" {
				w.t.Errorf("%s is in %s and in %s", service, other, name)
			} else if live {
				liveIn[service] = name
			}
		}
		ended := e.Status.Phase == experiment.Concluded || e.Status.Phase == experiment.Archived
		if ended && e.Status.Assign.Open != (experiment.Open{}) {
			w.t.Errorf("%s is %s, and has the slots %v", name, e.Status.Phase, e.Status.Assign.Open)
		}
		if open != (experiment.Open{}) && !w.meddled {
			w.checkReach(e)
		}
		w.checkUnits(e)
		w.checkConditions(e)
	}
}

// checkReach checks that every arm answers at its host. During a rebase, the answer may come from the new arm.
func (w *fixture) checkReach(e *rollout.Experiment) {
	if len(e.Status.Assign.Services) != len(e.Spec.Services) {
		w.t.Errorf("%s has slots, and says where the arms of %d of %d Services are", e.Name, len(e.Status.Assign.Services), len(e.Spec.Services))
	}
	for _, s := range e.Status.Assign.Services {
		for _, side := range []experiment.Side{s.Control, s.Treatment} {
			if got := w.answer(side.Host); got != side.Revision && (!e.Status.Rebasing || got == "") {
				w.t.Errorf("%s: %s should be %s, and %q answers", e.Name, side.Host, side.Revision, got)
			}
		}
	}
}

// checkUnits checks that nobody changes or loses their arm before the promotion, and that slots only grow until then.
func (w *fixture) checkUnits(e *rollout.Experiment) {
	if !e.Status.Phase.Live() || e.Spec.End.Closes() || e.Status.Assign.ArmedAt.IsZero() {
		return
	}
	rules := e.Rules()
	if err := rules.Check(); err != nil {
		w.t.Errorf("%s: %v", e.Name, err)
	}
	before, now := w.open[e.Name], rules.Open
	promoting := e.Status.Phase == experiment.Promoting
	if !promoting && (now.Control < before.Control || now.Treatment < before.Treatment) || promoting && now.Control > before.Control {
		w.t.Errorf("%s, %s: the slots went from %v to %v", e.Name, e.Status.Phase, before, now)
	}
	if w.open[e.Name] = now; now == before {
		return
	}
	for id := range int64(60) {
		arm, _ := rules.Assign(id+1, fmt.Sprint("community-", id))
		unit := fmt.Sprint(e.Status.Assign.Salt, "/", id)
		switch was := w.assigned[unit]; {
		case promoting && arm == experiment.Control && was != experiment.Control:
			w.t.Errorf("%s: in the promotion unit %d went from %q to the control", e.Name, id, was)
		case !promoting && was != "" && arm != was && e.Status.Phase != experiment.Warming:
			w.t.Errorf("%s: unit %d went from %s to %q", e.Name, id, was, arm)
		}
		w.assigned[unit] = arm
	}
}

// checkConditions checks the conditions by the rules of kstatus, which reads Reconciling and Stalled before Ready.
func (w *fixture) checkConditions(e *rollout.Experiment) {
	if len(e.Status.Conditions) == 0 {
		return
	}
	is := func(kind string) bool { return meta.IsStatusConditionTrue(e.Status.Conditions, kind) }
	moving := e.Status.Phase == experiment.Warming || e.Status.Phase == experiment.Promoting || e.Status.Rebasing || e.Status.Assign.ArmedAt.IsZero()
	if is("Reconciling") && (!moving || is("Stalled")) {
		w.t.Errorf("%s is %s and Reconciling: %+v", e.Name, e.Status.Phase, e.Status.Conditions)
	}
	message, reason := e.Stalled()
	if is("Stalled") != (reason != "" && reason != "DecisionNeeded") || is("Stalled") && message == "" {
		w.t.Errorf("%s is Stalled for %q: %q", e.Name, reason, message)
	}
	if want := !is("Reconciling") && !is("Stalled") || reason == "DecisionNeeded"; is("Ready") != want {
		w.t.Errorf("%s is %s, and Ready is %t: %+v", e.Name, e.Status.Phase, is("Ready"), e.Status.Conditions)
	}
	for _, c := range e.Status.Conditions {
		if c.Status == metav1.ConditionFalse && (c.Type == "Stalled" || c.Type == "Reconciling") {
			w.t.Errorf("%s has %s=False: expected it to be absent", e.Name, c.Type)
		}
	}
}

// turn makes one turn with each of w.drivers new drivers, all at the same time.
func (w *fixture) turn() {
	w.t.Helper()
	var all sync.WaitGroup
	for range w.drivers {
		all.Go(func() { w.turnBy(&rollout.Driver{}) })
	}
	all.Wait()
}

func (w *fixture) turnBy(d *rollout.Driver) {
	h := &access{fixture: w}
	d.Cluster, d.Store, d.Readout, d.Actor, d.Connections = h, h, h, "steer", w.connections
	d.Now = func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }
	if _, err := d.Turn(w.t.Context()); err != nil && !h.dead && !w.away {
		w.t.Errorf("turn: %v", err)
	}
}

// until makes turns, and lets time pass, until the experiment is as wanted and the database has all its transitions.
func (w *fixture) until(name string, reached func(*rollout.Experiment) bool) *rollout.Experiment {
	w.t.Helper()
	for range 150 {
		w.turn()
		if e := w.experiments[name]; e != nil && reached(e) && (w.away || len(e.Status.Unrecorded) == 0) {
			return e
		}
		w.pass(5 * time.Second)
	}
	text, _ := json.MarshalIndent(w.experiments[name], "", " ")
	w.t.Fatalf("it never gets there: %s", text)
	return nil
}

func inPhase(phase experiment.Phase) func(*rollout.Experiment) bool {
	return func(e *rollout.Experiment) bool { return e.Status.Phase == phase }
}

func atStep(step int) func(*rollout.Experiment) bool {
	return func(e *rollout.Experiment) bool { return e.Status.Phase.Runs() && e.Status.Step == step }
}

func stalledFor(reason string) func(*rollout.Experiment) bool {
	return func(e *rollout.Experiment) bool { _, got := e.Stalled(); return got == reason }
}

func swept(e *rollout.Experiment) bool { return e.Status.Swept }

// recorded returns the ids of the transitions in the database.
func (w *fixture) recorded(name string) (ids []string) {
	for _, t := range w.transitions[name] {
		ids = append(ids, t.ID)
	}
	return ids
}
