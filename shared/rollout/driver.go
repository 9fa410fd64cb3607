package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"warble/shared/experiment"
	"warble/shared/problem"
)

// Driver moves all the experiments of a namespace. It keeps nothing between two turns that the next could not do without:
// whatever has been done is seen in the cluster, so that it may be killed at any line and another goes on, and two at once
// make each other read again.
type Driver struct {
	Cluster Cluster
	Store   Store
	Readout Readout
	Now     func() time.Time
	Actor   string       // who moves what no person has asked for
	Say     func(string) // is told each change, in a line; nil tells nobody

	// Connections is how many the database has for the functions; 0 where nobody has said so.
	Connections int

	mu       sync.Mutex
	served   map[string]time.Time // when each experiment was last looked at to its end
	starting sync.Mutex           // of two that start at the same moment each would find its Services free
}

const (
	// lookLimit is how long one experiment is looked at, at most, in one turn.
	lookLimit = 20 * time.Second
	// atOnce is how many experiments are looked at side by side.
	atOnce = 4
	// mostMoves is more than the life of an experiment has at once: 20 services, some moves each.
	mostMoves = 300
	// mostConflicts is more than two drivers have with each other; something that is being deleted has them until it is gone.
	mostConflicts = 20
	// pause is between two looks at what only takes its time, such as a revision that starts, and what comes within nearby is
	// waited for so.
	pause  = time.Second
	nearby = 10 * time.Second
)

// askLimit is longer than a pod takes to start from zero. Tests set it.
var askLimit = 15 * time.Second

// Run turns again and again while an experiment waits for nothing but time, until ctx ends. After a turn in which none does
// it returns, and so it does where asked, which may be nil, says that somebody wants another turn: that one begins anew.
func (d *Driver) Run(ctx context.Context, asked func() bool) error {
	for {
		moving, err := d.Turn(ctx)
		if err != nil || !moving || asked != nil && asked() {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // whoever calls the next time goes on
		case <-time.After(pause):
		}
	}
}

// Turn looks at every experiment once, and makes every move of it that can be made now. Those that a person wants to end come
// first, then those that have waited longest. One that cannot be moved does not keep the others. moving tells whether one of
// them waits for nothing but some seconds.
func (d *Driver) Turn(ctx context.Context) (moving bool, err error) {
	namespace, err := d.Cluster.Namespace(ctx)
	if err != nil || namespace.Terminating {
		return false, err
	}
	experiments, err := d.Cluster.Experiments(ctx)
	if err != nil {
		return false, err
	}
	if err := d.bury(ctx, namespace, experiments); err != nil {
		d.say("experiments that are gone are not recorded yet: %v", err)
	}
	if err := d.Learn(ctx); err != nil {
		d.say("metrics are as they were: %v", err)
	}
	d.order(experiments)
	var (
		mu     sync.Mutex
		failed []error
		all    sync.WaitGroup
		slots  = make(chan struct{}, atOnce)
	)
	for i := range experiments {
		name := experiments[i].Name
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			soon, err := d.look(ctx, namespace, name)
			if ctx.Err() == nil { // one that takes all of its time has had its look, too
				d.mu.Lock()
				d.served[name] = time.Now()
				d.mu.Unlock()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !errors.Is(err, ErrNotFound) {
				failed = append(failed, fmt.Errorf("%s: %w", name, err))
			}
			moving = moving || soon
		})
	}
	all.Wait()
	return moving, errors.Join(failed...)
}

// Learn reads the metrics of people's own from the cluster, and keeps them in the database, by which events are taken.
func (d *Driver) Learn(ctx context.Context) error {
	own, err := Own(ctx, d.Cluster, d.say)
	if err != nil {
		return err
	}
	return d.Store.KeepMetrics(ctx, own)
}

// order puts ends first, then those that were looked at longest ago.
func (d *Driver) order(experiments []Experiment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.served == nil {
		d.served = make(map[string]time.Time)
	}
	ends := func(e *Experiment) int {
		if e.Status.Phase.Live() && (e.Spec.End.Closes()) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(experiments, func(a, b Experiment) int {
		return cmp.Or(cmp.Compare(ends(&a), ends(&b)), d.served[a.Name].Compare(d.served[b.Name]), cmp.Compare(a.Name, b.Name))
	})
}

// bury records the end of experiments that somebody has deleted while they were live: what they owned went with them. Those
// of another cluster, or of this one before it was built anew, are left as they are.
func (d *Driver) bury(ctx context.Context, namespace Namespace, there []Experiment) error {
	live, err := d.Store.LiveExperiments(ctx, namespace.UID)
	if err != nil {
		return err
	}
	for _, past := range live {
		if slices.ContainsFunc(there, func(e Experiment) bool { return e.Name == past.Name && string(e.UID) == past.UID }) {
			continue
		}
		if _, err := d.Cluster.Experiment(ctx, past.Name); err == nil && !slices.ContainsFunc(there, func(e Experiment) bool { return e.Name == past.Name }) {
			continue // it was made after the list was read
		}
		err := d.Store.Transition(ctx, past.Name, experiment.Transition{
			ID: "deleted", Phase: experiment.Concluded, Step: past.Step, At: d.Now(), Actor: d.Actor, Reason: "it was deleted",
			Conclusion: experiment.WasStopped,
		})
		if err != nil {
			return err
		}
		d.say("%s: is gone, as it was deleted", past.Name)
	}
	return nil
}

// look makes every move of the named experiment that can be made now, one after the other: it reads the world, asks Next,
// and makes that move. soon tells that it rests for nothing but some seconds. Errors: ErrNotFound, and what keeps the cluster
// from being read or written.
func (d *Driver) look(ctx context.Context, namespace Namespace, name string) (soon bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	away := false // the database: nothing else waits for it, for a stop must not
	conflicts := 0
	for range mostMoves {
		e, err := d.Cluster.Experiment(ctx, name)
		if err != nil {
			return false, err
		}
		e.Spec.Default()
		var rest *Rest
		if len(e.Status.Unrecorded) > 0 && !away {
			away, err = d.record(ctx, e)
		} else {
			rest, err = d.move(ctx, namespace, e)
		}
		switch {
		case errors.Is(err, ErrConflict):
			if conflicts++; conflicts > mostConflicts {
				return true, nil
			}
		case err != nil:
			return false, err
		case rest != nil:
			return e.Moving() && rest.Until.Before(d.Now().Add(nearby)), nil
		}
	}
	return false, fmt.Errorf("still something to do after %d moves: expected it to come to rest", mostMoves)
}

// move makes the next move; where there is none, it returns what the experiment rests on.
func (d *Driver) move(ctx context.Context, namespace Namespace, e *Experiment) (*Rest, error) {
	if e.Status.Phase == "" || e.Status.Phase == experiment.Draft {
		d.starting.Lock()
		defer d.starting.Unlock()
	}
	v, err := d.read(ctx, namespace, e)
	if err != nil {
		return nil, err
	}
	for {
		switch m := Next(v).(type) {
		case Plan:
			v.Planned = &Planned{Err: errNoReadout}
			if d.Readout != nil {
				v.Planned.Units, v.Planned.Err = d.Readout.Plan(ctx, e.Spec, v.Own)
			}
		case Judge:
			v.Judged = &Judged{Err: errNoReadout}
			if d.Readout != nil {
				v.Judged.Verdict, v.Judged.Err = d.Readout.Judge(ctx, e.Name, d.Now())
			}
		case Ask:
			v.Answers = d.ask(ctx, m.Hosts)
		case Begin:
			if err := d.Store.StartExperiment(ctx, m.Start); err != nil {
				return nil, fmt.Errorf("not started: %w", err)
			}
			if v.Past, err = d.Store.StartedBefore(ctx, e.Name); err != nil {
				return nil, fmt.Errorf("the database: %w", err)
			}
			if v.Past == nil || v.Past.UID != string(e.UID) {
				return nil, ErrConflict // somebody has taken it away, or over, since
			}
		case Rest:
			return &m, d.rest(ctx, v, m)
		default:
			err := d.make(ctx, v, m)
			if what := madeBy(m); what != "" && err != nil && !errors.Is(err, ErrConflict) && ctx.Err() == nil {
				v.Blocked = fmt.Errorf("%s, which cannot be made: %w", what, err)
				continue // the readout is followed nonetheless
			}
			return nil, err
		}
	}
}

// madeBy names the arm or the way that a move makes; "" if it makes none.
func madeBy(m Move) string {
	switch m := m.(type) {
	case Make:
		return fmt.Sprintf("the %s of %s", m.Arm.Arm, m.Arm.Service)
	case Put:
		return "the way to the arms of " + m.Route.Service
	}
	return ""
}

var errNoReadout = errors.New("there is none: expected DATABASE_URL")

// read reads as much of the world as the phase takes.
func (d *Driver) read(ctx context.Context, namespace Namespace, e *Experiment) (*View, error) {
	v := &View{Now: d.Now(), Actor: d.Actor, Namespace: namespace, Experiment: e}
	phase := cmp.Or(e.Status.Phase, experiment.Draft)
	var err error
	if phase == experiment.Draft {
		if v.Past, err = d.Store.StartedBefore(ctx, e.Name); err != nil {
			return nil, fmt.Errorf("the database: %w", err)
		}
		wanted, _ := e.Spec.Begins(v.Now)
		if !wanted && v.Past == nil || e.deleted() {
			return v, nil
		}
	}
	if phase == experiment.Draft || phase.Live() {
		if v.Others, err = d.others(ctx, e); err != nil {
			return nil, err
		}
	}
	if phase == experiment.Archived || phase == experiment.Concluded && e.Status.Swept {
		return v, nil
	}
	if err := d.services(ctx, v); err != nil {
		return nil, err
	}
	if phase == experiment.Draft {
		v.Own, err = Own(ctx, d.Cluster, d.say)
		return v, err
	}
	if v.Arms, err = d.Cluster.Arms(ctx, e); err != nil {
		return nil, err
	}
	if phase.Live() && phase != experiment.Warming {
		if v.Tripped, err = d.Store.Suspension(ctx, e.Name, e.Status.Assign.ArmedAt.Time); err != nil {
			d.say("%s: whether the edges have suspended it is not known: %v", e.Name, err)
		}
	}
	return v, nil
}

func (d *Driver) others(ctx context.Context, e *Experiment) (others []Experiment, err error) {
	all, err := d.Cluster.Experiments(ctx)
	for i := range all {
		if all[i].Name != e.Name {
			all[i].Spec.Default()
			others = append(others, all[i])
		}
	}
	return others, err
}

// services reads those of an experiment, and how many connections all of the namespace may open, as far as they say.
func (d *Driver) services(ctx context.Context, v *View) error {
	all, err := d.Cluster.Services(ctx, v.Experiment.Spec.Services)
	v.Services, v.Connections, v.Pools = make(map[string]*Service), d.Connections, make(map[string]int)
	for _, s := range all {
		v.Pools[s.Name] = s.MostPods * s.Pool
		if s.MostPods == 0 && s.Pool > 0 {
			v.Unlimited = append(v.Unlimited, s.Name)
		}
		if slices.Contains(v.Experiment.Spec.Services, s.Name) {
			v.Services[s.Name] = s
		}
	}
	return err
}

// Admission reads what a start takes of the world, and says all that is against one. It changes nothing.
func (d *Driver) Admission(ctx context.Context, e *Experiment) ([]Base, error) {
	v := &View{Now: d.Now(), Actor: d.Actor, Experiment: e}
	var err error
	if v.Others, err = d.others(ctx, e); err != nil {
		return nil, err
	}
	if err := d.services(ctx, v); err != nil {
		return nil, err
	}
	bases, err := v.Admit()
	if err != nil {
		return nil, &RefusedError{err}
	}
	return bases, nil
}

// RefusedError is all that is against starting an experiment, one a line.
type RefusedError struct{ Mistakes error }

func (e *RefusedError) Error() string { return "refused: " + e.Mistakes.Error() }
func (e *RefusedError) Unwrap() error { return e.Mistakes }

// ask asks all hosts at once.
func (d *Driver) ask(ctx context.Context, hosts []string) map[string]Answer {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	answers := make(map[string]Answer)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, host := range hosts {
		all.Go(func() {
			revision, err := d.Cluster.Answers(ctx, host)
			mu.Lock()
			defer mu.Unlock()
			answers[host] = Answer{revision, err}
		})
	}
	all.Wait()
	return answers
}

// make makes a move that changes something.
func (d *Driver) make(ctx context.Context, v *View, m Move) error {
	e, c := v.Experiment, d.Cluster
	switch m := m.(type) {
	case Write:
		return d.write(ctx, v, m)
	case Make:
		d.say("%s: makes the %s of %s", e.Name, m.Arm.Arm, m.Arm.Service)
		return c.MakeArm(ctx, e, m.Arm)
	case Put:
		d.say("%s: the way to the arms of %s leads to %s and %s", e.Name, m.Route.Service, m.Route.Control, m.Route.Treatment)
		return c.PutRoute(ctx, e, m.Route)
	case Remove:
		if m.Arms {
			d.say("%s: the arms of %s go", e.Name, m.Service)
			return c.RemoveArms(ctx, e, m.Service)
		}
		return c.RemoveRoute(ctx, e, m.Service)
	case Give:
		d.say("%s: %s is given the treatment", e.Name, m.Service.Name)
		return c.GiveService(ctx, m.Service, m.Env, m.Image)
	case Archive:
		if err := d.Store.ArchiveExperiment(ctx, e.Name, v.Now); err != nil {
			return err
		}
		return d.write(ctx, v, m.Write)
	}
	return fmt.Errorf("no such move: %T", m)
}

func (d *Driver) write(ctx context.Context, v *View, w Write) error {
	e := v.Experiment
	e.Status = w.Status
	e.Status.ObservedGeneration = e.Generation
	v.condition(&e.Status, Rest{})
	if err := d.Cluster.UpdateStatus(ctx, e); err != nil || w.Event == nil {
		return err
	}
	d.say("%s: %s", e.Name, w.Event.Message)
	if err := d.Cluster.Tell(ctx, e, *w.Event); err != nil {
		d.say("%s: no Event says so: %v", e.Name, err)
	}
	return nil
}

// rest writes what the experiment waits for, where that is new.
func (d *Driver) rest(ctx context.Context, v *View, r Rest) error {
	e := v.Experiment
	if e.deleted() || v.Namespace.Terminating {
		return nil
	}
	next := e.DeepCopy()
	next.Status.Message = cmp.Or(r.Waits, e.Status.Because)
	if v.Judged != nil && v.Judged.Err == nil {
		next.Status.Lift = v.Judged.Verdict.Lift
	}
	next.Status.ObservedGeneration = e.Generation
	v.condition(&next.Status, r)
	if reflect.DeepEqual(next.Status, e.Status) {
		return nil
	}
	if err := d.Cluster.UpdateStatus(ctx, next); err != nil {
		return err
	}
	if was, _ := e.Stalled(); r.Reason != "" && was == "" {
		if err := d.Cluster.Tell(ctx, e, Event{Reason: r.Reason, Message: r.Waits, Warning: true}); err != nil {
			d.say("%s: no Event says so: %v", e.Name, err)
		}
	}
	e.Status = next.Status
	return nil
}

// record brings to the database what it does not have yet, unless that is away.
func (d *Driver) record(ctx context.Context, e *Experiment) (away bool, err error) {
	for _, r := range e.Status.Unrecorded {
		err := d.Store.Transition(ctx, e.Name, experiment.Transition{
			ID: r.ID, Phase: r.Phase, Step: r.Step, Percent: r.Percent, At: r.At.Time, Actor: r.Actor, Reason: r.Reason, Figures: []byte(r.Figures),
			Conclusion: e.concluded(r),
		})
		if errors.Is(err, problem.NotFound) { // it is another database: nobody waits for this one's
			continue
		}
		if err != nil {
			d.say("%s: the database does not have the transition %s yet: %v", e.Name, r.ID, err)
			return true, nil
		}
	}
	e.Status.Unrecorded = nil
	return false, d.Cluster.UpdateStatus(ctx, e)
}

// concluded is the conclusion that a record came to.
func (e *Experiment) concluded(r Record) experiment.Conclusion {
	if r.Phase == experiment.Concluded || r.Phase == experiment.Archived {
		return e.Status.Conclusion
	}
	return ""
}

func (d *Driver) say(format string, args ...any) {
	if d.Say != nil {
		d.Say(fmt.Sprintf(format, args...))
	}
}
