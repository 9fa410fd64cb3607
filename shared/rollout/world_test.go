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
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// world is a cluster, a database and a readout in memory, with versions, conflicts, revisions that take their time, and
// rules that must hold after every write.
type world struct {
	t           *testing.T
	now         time.Time
	experiments map[string]*rollout.Experiment
	gone        map[string]*rollout.Experiment // those that were deleted, as they were last
	services    map[string]*service
	revisions   map[string]*revision
	version     int
	locked      map[string]time.Time

	started     map[string]experiment.Start
	transitions []string  // id (actor): reason
	recorded    time.Time // when the last of them was made
	databaseErr error

	verdict    experiment.Verdict
	verdictErr error

	broken  func(revision string) string // why it never gets ready
	deaf    bool                         // tags do not answer
	slow    bool                         // traffic does not follow
	lenient bool                         // nothing is checked
	meddle  func(*world)                 // is called before each write of a Service, by somebody else

	writes  int
	dieAt   int  // the write at which whoever reconciles is killed, from 1
	written bool // whether that write has come through
	dead    bool
}

type service struct {
	rollout.Service
	version, made int
	newest        string
	observed      bool // the controller has seen the last write
}

type revision struct {
	rollout.Template
	ready bool
}

// killed is what a reconciler panics with.
type killed struct{}

func newWorld(t *testing.T, names ...string) *world {
	w := &world{
		t: t, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		experiments: make(map[string]*rollout.Experiment), gone: make(map[string]*rollout.Experiment), services: make(map[string]*service), revisions: make(map[string]*revision),
		locked: make(map[string]time.Time), started: make(map[string]experiment.Start),
		verdict: experiment.Verdict{Guardrails: experiment.GuardPass, Entered: experiment.Counts{Control: 1000, Treatment: 1000}, Reachable: 10_000},
	}
	for _, name := range names {
		s := &service{Service: rollout.Service{
			Name:     name,
			Template: rollout.Template{Image: "registry.test/" + name, Env: map[string]string{"FEATURES": ""}, Elsewhere: []string{"DATABASE_URL"}},
			Traffic:  []rollout.Target{{Latest: true, Percent: 100}},
		}}
		w.services[name] = s
		w.make(s)
		w.tick(0)
	}
	return w
}

func (w *world) make(s *service) {
	s.made++
	s.newest = s.Template.Revision
	if s.newest == "" {
		s.newest = fmt.Sprintf("%s-%05d", s.Name, s.made)
	}
	w.revisions[s.newest] = &revision{Template: s.Template}
}

// tick lets time pass, in which what was made gets ready.
func (w *world) tick(d time.Duration) {
	w.now = w.now.Add(d)
	for _, s := range w.services {
		s.observed = true
		if w.broken == nil || w.broken(s.newest) == "" {
			s.Ready = s.newest
		}
	}
	for name, r := range w.revisions {
		r.ready = w.broken == nil || w.broken(name) == ""
	}
}

// write is before each one: whoever it is killed at does nothing any more.
func (w *world) write(do func() error) error {
	if w.dead {
		w.t.Error("a dead reconciler writes")
	}
	w.writes++
	if w.writes == w.dieAt {
		w.dead = true
		if w.written {
			_ = do() // nobody hears what came of it
		}
		panic(killed{})
	}
	err := do()
	w.check()
	return err
}

func (w *world) Experiments(context.Context) (all []rollout.Experiment, _ error) {
	for _, name := range slices.Sorted(maps.Keys(w.experiments)) {
		all = append(all, *w.experiments[name].DeepCopy())
	}
	return all, nil
}

func (w *world) Experiment(_ context.Context, name string) (*rollout.Experiment, error) {
	if e := w.experiments[name]; e != nil {
		return e.DeepCopy(), nil
	}
	return nil, rollout.ErrNotFound
}

func (w *world) UpdateStatus(_ context.Context, e *rollout.Experiment) error {
	return w.write(func() error {
		present := w.experiments[e.Name]
		if e.ResourceVersion != present.ResourceVersion {
			return rollout.ErrConflict
		}
		present.Status = kept(w.t, e.Status)
		w.touch(present)
		return nil
	})
}

// kept is a status as the API server keeps it, which has fewer digits of some times.
func kept(t *testing.T, s rollout.Status) (kept rollout.Status) {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		t.Errorf("status: %v", err)
	}
	return kept
}

func (w *world) UpdateFinalizers(_ context.Context, e *rollout.Experiment) error {
	return w.write(func() error {
		present := w.experiments[e.Name]
		if e.ResourceVersion != present.ResourceVersion {
			return rollout.ErrConflict
		}
		if present.DeletionTimestamp != nil && len(e.Finalizers) > len(present.Finalizers) {
			w.t.Errorf("%s is deleted, and gets the finalizers %v: an API server refuses that", e.Name, e.Finalizers)
		}
		present.Finalizers = slices.Clone(e.Finalizers)
		w.touch(present)
		w.sweep(present)
		return nil
	})
}

// remove is what kubectl delete does.
func (w *world) remove(name string) {
	e, now := w.experiments[name], metav1.NewTime(w.now)
	e.DeletionTimestamp = &now
	e.Generation++
	w.touch(e)
	w.sweep(e)
}

func (w *world) sweep(e *rollout.Experiment) {
	if e.DeletionTimestamp != nil && len(e.Finalizers) == 0 {
		w.gone[e.Name] = e
		delete(w.experiments, e.Name)
	}
}

// last is an experiment as it is, or was.
func (w *world) last(name string) *rollout.Experiment {
	if e := w.gone[name]; e != nil {
		return e
	}
	return w.experiments[name]
}

func (w *world) touch(e *rollout.Experiment) {
	w.version++
	e.ResourceVersion = strconv.Itoa(w.version)
}

func (w *world) Service(_ context.Context, name string) (*rollout.Service, error) {
	s := w.services[name]
	if s == nil {
		return nil, rollout.ErrNotFound
	}
	seen := s.Service
	seen.Template.Env, seen.Traffic = maps.Clone(s.Template.Env), slices.Clone(s.Traffic)
	seen.Current, seen.Routed, seen.Object = s.observed && s.Ready == s.newest, s.observed && !w.slow, s.version
	return &seen, nil
}

func (w *world) UpdateService(_ context.Context, s *rollout.Service) error {
	if w.meddle != nil {
		w.meddle(w)
	}
	return w.write(func() error {
		present := w.services[s.Name]
		if s.Object != present.version {
			return rollout.ErrConflict
		}
		if sum := percent(s.Traffic); sum != 100 {
			w.t.Errorf("%s: %v: %d percent in all", s.Name, s.Traffic, sum)
		}
		changed := fmt.Sprint(s.Template) != fmt.Sprint(present.Template)
		present.Template, present.Traffic = s.Template, s.Traffic
		present.version++
		present.observed = false
		if changed {
			w.make(present)
		}
		return nil
	})
}

func percent(targets []rollout.Target) (sum int64) {
	for _, t := range targets {
		sum += t.Percent
	}
	return sum
}

func (w *world) Revision(_ context.Context, name string) (rollout.Revision, error) {
	r := w.revisions[name]
	if r == nil {
		return rollout.Revision{}, rollout.ErrNotFound
	}
	if w.broken != nil {
		return rollout.Revision{Ready: r.ready, Failed: w.broken(name)}, nil
	}
	return rollout.Revision{Ready: r.ready}, nil
}

func (w *world) Answers(_ context.Context, name, tag string) (string, error) {
	for _, t := range w.services[name].Traffic {
		if t.Tag == tag && !w.deaf {
			return t.Revision, nil
		}
	}
	return "", errors.New("no such host")
}

func (w *world) Lock(_ context.Context, name string, life time.Duration) (func(), error) {
	if w.now.Before(w.locked[name]) {
		return nil, rollout.ErrLocked
	}
	w.locked[name] = w.now.Add(life)
	return func() {
		if !w.dead {
			delete(w.locked, name)
		}
	}, nil
}

func (w *world) StartExperiment(_ context.Context, s experiment.Start) error {
	if w.databaseErr != nil {
		return w.databaseErr
	}
	return w.write(func() error {
		if before, ok := w.started[s.Name]; ok && before.Salt != s.Salt {
			return errors.New("another was started before")
		} else if !ok {
			w.started[s.Name] = s
		}
		return nil
	})
}

func (w *world) Transition(_ context.Context, name string, t experiment.Transition) error {
	if w.databaseErr != nil {
		return w.databaseErr
	}
	return w.write(func() error {
		if _, ok := w.started[name]; !ok {
			return fmt.Errorf("%s was never started", name)
		}
		line := fmt.Sprintf("%s: %s %d%% by %s: %s", t.ID, t.Phase, t.Percent, t.Actor, t.Reason)
		if !slices.ContainsFunc(w.transitions, func(l string) bool { return strings.HasPrefix(l, t.ID+":") }) {
			w.transitions, w.recorded = append(w.transitions, line), t.At
		}
		return nil
	})
}

func (w *world) ArchiveExperiment(context.Context, string, time.Time) error {
	return w.write(func() error { return nil })
}

func (w *world) Plan(context.Context, experiment.Spec) (int64, error) { return 5000, nil }

func (w *world) Judge(context.Context, string, time.Time) (experiment.Verdict, error) {
	return w.verdict, w.verdictErr
}

// serves is where an untouched request to a Service may go.
func (w *world) serves(name string) (revisions []string) {
	for _, t := range w.services[name].Traffic {
		switch {
		case t.Percent == 0:
		case t.Latest:
			revisions = append(revisions, w.services[name].Ready)
		default:
			revisions = append(revisions, t.Revision)
		}
	}
	return revisions
}

// check holds after every write, whoever made it: whoever is assigned can be served by an arm of every Service, and
// whoever is not never gets into one, but the winner.
func (w *world) check() {
	w.t.Helper()
	if w.lenient {
		return
	}
	for _, e := range w.experiments {
		if e.Status.Phase.Live() && !slices.Contains(e.Finalizers, rollout.Finalizer) {
			w.t.Errorf("%s is %s, and a deletion would leave what it has made", e.Name, e.Status.Phase)
		}
		if e.Spec.Unit == experiment.Request {
			continue
		}
		for _, s := range e.Status.Services {
			present := w.services[s.Name]
			if e.Rules().Open != (experiment.Open{}) || w.now.Before(e.Status.ClosedAt.Add(rollout.EdgeLag)) {
				for arm, to := range map[experiment.Arm]string{experiment.Control: s.Control, experiment.Treatment: s.Treatment} {
					found := slices.ContainsFunc(present.Traffic, func(t rollout.Target) bool {
						return t.Tag == experiment.Tag(e.Name, arm) && (t.Revision == to || len(e.Status.Next) > 0 && w.revisions[t.Revision].ready)
					})
					if !found && !e.Status.StepAt.IsZero() {
						w.t.Errorf("%s: an assigned user's request finds no %s: %v", s.Name, arm, present.Traffic)
					}
				}
			}
			for _, to := range w.serves(s.Name) {
				won := e.Status.Phase == rollout.Promoting || e.Status.Conclusion == rollout.WasPromoted
				if to == s.Control || to == s.Treatment && !won {
					w.t.Errorf("%s: in phase %s anybody may get to %s: %v", s.Name, e.Status.Phase, to, present.Traffic)
				}
			}
		}
	}
}

// draft is an experiment that somebody has made.
func (w *world) draft(text string) *rollout.Experiment {
	w.t.Helper()
	e, err := check(text)
	if err != nil {
		w.t.Fatal(err)
	}
	e.UID, e.Generation, e.CreationTimestamp = types.UID("uid of "+e.Name), 1, metav1.NewTime(w.now)
	w.experiments[e.Name] = &e
	w.touch(&e)
	return &e
}

// want is what a person writes.
func (w *world) want(name string, run experiment.Run) {
	e := w.experiments[name]
	e.Spec.Run = run
	e.Generation++
	w.touch(e)
}

// reconcile is by a process that comes fresh, and may be killed.
func (w *world) reconcile(name string) (outcome rollout.Outcome, died bool) {
	w.t.Helper()
	defer func() {
		if reason := recover(); reason == (killed{}) {
			died = true
		} else if reason != nil {
			panic(reason)
		}
	}()
	w.dead = false
	r := rollout.Reconciler{Cluster: w, Store: w, Readout: w, Now: func() time.Time { return w.now }, Actor: "steer"}
	outcome, err := r.Reconcile(w.t.Context(), name)
	if err != nil && !errors.Is(err, rollout.ErrLocked) && (w.gone[name] == nil || !errors.Is(err, rollout.ErrNotFound)) {
		w.t.Errorf("reconcile: %v", err)
	}
	return outcome, false
}

// until reconciles, and lets time pass, until the experiment is as it is wanted.
func (w *world) until(name string, reached func(*rollout.Experiment) bool) rollout.Outcome {
	w.t.Helper()
	var outcome rollout.Outcome
	for range 40 {
		var died bool
		if outcome, died = w.reconcile(name); !died && reached(w.last(name)) && len(w.last(name).Status.Unrecorded) == 0 {
			return outcome
		}
		w.tick(10 * time.Second)
	}
	w.t.Fatalf("%s is %+v, and waits for %s", name, w.last(name).Status, outcome.Waits)
	return outcome
}

func phase(p rollout.Phase) func(*rollout.Experiment) bool {
	return func(e *rollout.Experiment) bool { return e.Status.Phase == p }
}

func atStep(step int) func(*rollout.Experiment) bool {
	return func(e *rollout.Experiment) bool { return e.Status.Phase == rollout.Running && e.Status.Step == step }
}
