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

// Driver moves all experiments of a namespace. Everything that it does is visible in the cluster or the database, and it needs
// nothing that it keeps in memory between two turns. So it may be killed at any line, and another driver continues. If two drivers
// run at the same time, version conflicts make them read again.
type Driver struct {
	Cluster Cluster
	Store   Store
	Readout Readout
	Now     func() time.Time
	Actor   string       // recorded as the actor of moves that no person asked for
	Say     func(string) // called with a line for each change; may be nil

	// Connections is how many connections the database has for functions; 0 if this is not known.
	Connections int

	mu         sync.Mutex
	lastServed map[string]time.Time // when each experiment last had its part of a turn
	starting   sync.Mutex           // so that two experiments that start at the same moment see each other
}

const (
	// moveLimit is how long the moves of one experiment may take in one turn.
	moveLimit = 20 * time.Second
	// parallel is how many experiments a turn moves at the same time.
	parallel = 4
	// mostMoves is more moves than an experiment can need in one turn, which is a few moves for each of 20 Services.
	mostMoves = 300
	// mostConflicts is more conflicts than two drivers cause each other. An object that is being deleted conflicts until it is gone.
	mostConflicts = 20
	// pause is the time between two turns while an experiment waits for something that only needs time, such as a revision that
	// starts. nearby is the longest such time: if the experiment rests for longer, Run does not wait.
	pause  = time.Second
	nearby = 10 * time.Second
)

// askLimit is how long hosts may take to answer: longer than a pod takes to start from zero. Tests set it.
var askLimit = 15 * time.Second

// Run makes turns while an experiment waits for something that only needs a few seconds, until ctx ends. It returns after a turn in
// which none does. It also returns if asked, which may be nil, reports that somebody wants another turn; the caller then calls Run
// again.
func (d *Driver) Run(ctx context.Context, asked func() bool) error {
	for {
		moving, err := d.Turn(ctx)
		if err != nil || !moving || asked != nil && asked() {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the next call continues
		case <-time.After(pause):
		}
	}
}

// Turn makes every move of every experiment that can be made now. Experiments that a person wants to end come first, and then those
// whose last turn is longest ago. An experiment that cannot be moved does not keep the others waiting. moving reports whether
// any experiment waits for something that only needs a few seconds.
func (d *Driver) Turn(ctx context.Context) (moving bool, err error) {
	namespace, err := d.Cluster.Namespace(ctx)
	if err != nil || namespace.Terminating {
		return false, err
	}
	experiments, err := d.Cluster.Experiments(ctx)
	if err != nil {
		return false, err
	}
	if err := d.recordDeletions(ctx, namespace, experiments); err != nil {
		d.say("could not record which experiments were deleted: %v", err)
	}
	if err := d.SyncMetrics(ctx); err != nil {
		d.say("could not update the metrics: %v", err)
	}
	d.order(experiments)
	var (
		mu      sync.Mutex
		failed  []error
		all     sync.WaitGroup
		running = make(chan struct{}, parallel)
	)
	for i := range experiments {
		name := experiments[i].Name
		running <- struct{}{}
		all.Go(func() {
			defer func() { <-running }()
			soon, err := d.advance(ctx, namespace, name)
			if ctx.Err() == nil { // an experiment that used up its own time limit has had its part too
				d.served(name)
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

// SyncMetrics copies the metrics that people have defined from the cluster to the database. The database stores only the
// events of these metrics.
func (d *Driver) SyncMetrics(ctx context.Context) error {
	own, err := OwnMetrics(ctx, d.Cluster, d.say)
	if err != nil {
		return err
	}
	return d.Store.KeepMetrics(ctx, own)
}

// order puts experiments first that a person wants to end, and then those whose last turn is longest ago.
func (d *Driver) order(experiments []Experiment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	endsFirst := func(e *Experiment) int {
		if e.Status.Phase.Live() && e.Spec.End.Closes() {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(experiments, func(a, b Experiment) int {
		return cmp.Or(cmp.Compare(endsFirst(&a), endsFirst(&b)), d.lastServed[a.Name].Compare(d.lastServed[b.Name]), cmp.Compare(a.Name, b.Name))
	})
}

// served notes that an experiment has had its part of a turn.
func (d *Driver) served(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lastServed == nil {
		d.lastServed = make(map[string]time.Time)
	}
	d.lastServed[name] = time.Now()
}

// recordDeletions records the end of experiments that somebody has deleted while they were live. Their arms were deleted with them.
// Experiments of another cluster, or of this one before it was rebuilt, stay as they are. listed are the experiments in the cluster.
func (d *Driver) recordDeletions(ctx context.Context, namespace Namespace, listed []Experiment) error {
	live, err := d.Store.LiveExperiments(ctx, namespace.UID)
	if err != nil {
		return err
	}
	for _, past := range live {
		at := slices.IndexFunc(listed, func(e Experiment) bool { return e.Name == past.Name })
		if at >= 0 && string(listed[at].UID) == past.UID {
			continue
		}
		if _, err := d.Cluster.Experiment(ctx, past.Name); err == nil && at < 0 {
			continue // it was made after the list was read
		}
		err := d.Store.Transition(ctx, past.Name, experiment.Transition{
			ID: "deleted", Phase: experiment.Concluded, Step: past.Step, At: d.Now(), Actor: d.Actor, Reason: "it was deleted",
			Conclusion: experiment.WasStopped,
		})
		if err != nil {
			return err
		}
		d.say("%s: it was deleted", past.Name)
	}
	return nil
}

// advance makes every move of an experiment that can be made now, one after the other. soon reports whether the experiment then waits for
// something that only needs a few seconds. Errors: ErrNotFound, and errors of reading and writing the cluster.
func (d *Driver) advance(ctx context.Context, namespace Namespace, name string) (soon bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	databaseAway := false // if so, moves no longer wait until the transitions are recorded, because a stop must not wait
	conflicts := 0
	for range mostMoves {
		e, err := d.Cluster.Experiment(ctx, name)
		if err != nil {
			return false, err
		}
		e.Spec.Default()
		var rest *Rest
		if len(e.Status.Unrecorded) > 0 && !databaseAway {
			databaseAway, err = d.record(ctx, e)
		} else {
			rest, err = d.move(ctx, namespace, e)
		}
		switch {
		case errors.Is(err, ErrConflict): // read again
			if conflicts++; conflicts > mostConflicts {
				return true, nil
			}
		case err != nil:
			return false, err
		case rest != nil:
			return e.Moving() && rest.Until.Before(d.Now().Add(nearby)), nil
		}
	}
	return false, fmt.Errorf("not at rest after %d moves", mostMoves)
}

// move reads the view and makes one move that changes something, and the moves before it that only read. If there is nothing to change, it
// returns what the experiment waits for. Otherwise the Rest is nil, and the caller has to read the experiment again.
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
			v.Planned = d.plan(ctx, v)
		case Judge:
			v.Judged = d.judge(ctx, v)
		case Ask:
			v.Answers = d.ask(ctx, m.Hosts)
		case Begin:
			if err := d.begin(ctx, v, m.Start); err != nil {
				return nil, err
			}
		case Rest:
			return &m, d.writeRest(ctx, v, m)
		default:
			err := d.write(ctx, v, m)
			what := madeBy(m)
			if err == nil || what == "" || errors.Is(err, ErrConflict) || ctx.Err() != nil {
				return nil, err
			}
			// The next move is chosen once more, knowing this: the readout's judgement is followed even if an arm cannot be made.
			v.Blocked = fmt.Errorf("%s, which cannot be made: %w", what, err)
		}
	}
}

var errNoReadout = errors.New("there is no database to read: expected DATABASE_URL")

func (d *Driver) plan(ctx context.Context, v *View) *Planned {
	if d.Readout == nil {
		return &Planned{Err: errNoReadout}
	}
	units, err := d.Readout.Plan(ctx, v.Experiment.Spec, v.Own)
	return &Planned{units, err}
}

func (d *Driver) judge(ctx context.Context, v *View) *Judged {
	if d.Readout == nil {
		return &Judged{Err: errNoReadout}
	}
	judgement, err := d.Readout.Judge(ctx, v.Experiment.Name, d.Now())
	return &Judged{judgement, err}
}

// begin stores a start in the database and reads it back into the view. Errors: ErrConflict if another experiment has taken its
// place since.
func (d *Driver) begin(ctx context.Context, v *View, start experiment.Start) error {
	if err := d.Store.StartExperiment(ctx, start); err != nil {
		return fmt.Errorf("not started: %w", err)
	}
	var err error
	if v.Past, err = d.Store.StartedBefore(ctx, v.Experiment.Name); err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	if v.Past == nil || v.Past.UID != string(v.Experiment.UID) {
		return ErrConflict
	}
	return nil
}

// madeBy names the arm or the route that a move makes; "" if it makes none.
func madeBy(m Move) string {
	switch m := m.(type) {
	case Make:
		return fmt.Sprintf("the %s of %s", m.Arm.Arm, m.Arm.Service)
	case Put:
		return "the route to the arms of " + m.Route.Service
	}
	return ""
}

// read reads what the experiment's phase needs into a view.
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
		if v.Others, err = d.otherExperiments(ctx, e); err != nil {
			return nil, err
		}
	}
	if phase == experiment.Archived || phase == experiment.Concluded && e.Status.Swept {
		return v, nil
	}
	if err := d.readServices(ctx, v); err != nil {
		return nil, err
	}
	if phase == experiment.Draft {
		v.Own, err = OwnMetrics(ctx, d.Cluster, d.say)
		return v, err
	}
	if v.Arms, err = d.Cluster.Arms(ctx, e); err != nil {
		return nil, err
	}
	if phase.Live() && phase != experiment.Warming {
		if v.Tripped, err = d.Store.Suspension(ctx, e.Name, e.Status.Assign.ArmedAt.Time); err != nil {
			d.say("%s: could not read whether the edges have suspended it: %v", e.Name, err)
		}
	}
	return v, nil
}

func (d *Driver) otherExperiments(ctx context.Context, e *Experiment) (others []Experiment, err error) {
	all, err := d.Cluster.Experiments(ctx)
	for i := range all {
		if all[i].Name != e.Name {
			all[i].Spec.Default()
			others = append(others, all[i])
		}
	}
	return others, err
}

// readServices reads the Services of an experiment, and how many connections each Service of the namespace may open.
func (d *Driver) readServices(ctx context.Context, v *View) error {
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

// Admission returns the revisions of the Services from which the arms of e would be made if it started now. It changes nothing. Errors:
// *RefusedError, which lists everything that speaks against the start, and errors of reading the cluster.
func (d *Driver) Admission(ctx context.Context, e *Experiment) ([]Base, error) {
	v := &View{Now: d.Now(), Actor: d.Actor, Experiment: e}
	var err error
	if v.Others, err = d.otherExperiments(ctx, e); err != nil {
		return nil, err
	}
	if err := d.readServices(ctx, v); err != nil {
		return nil, err
	}
	bases, err := v.Admit()
	if err != nil {
		return nil, &RefusedError{err}
	}
	return bases, nil
}

// RefusedError has everything that speaks against starting an experiment, one problem a line.
type RefusedError struct{ Mistakes error }

func (e *RefusedError) Error() string { return "refused: " + e.Mistakes.Error() }
func (e *RefusedError) Unwrap() error { return e.Mistakes }

// ask sends a request to all hosts at the same time, and returns their answers by host.
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

// write makes a move that changes something.
func (d *Driver) write(ctx context.Context, v *View, m Move) error {
	e, c := v.Experiment, d.Cluster
	switch m := m.(type) {
	case Write:
		return d.writeStatus(ctx, v, m)
	case Make:
		d.say("%s: makes the %s of %s", e.Name, m.Arm.Arm, m.Arm.Service)
		return c.MakeArm(ctx, e, m.Arm)
	case Put:
		d.say("%s: the route to the arms of %s leads to %s and %s", e.Name, m.Route.Service, m.Route.Control, m.Route.Treatment)
		return c.PutRoute(ctx, e, m.Route)
	case Remove:
		if m.Arms {
			d.say("%s: deletes the arms of %s", e.Name, m.Service)
			return c.RemoveArms(ctx, e, m.Service)
		}
		return c.RemoveRoute(ctx, e, m.Service)
	case Give:
		d.say("%s: writes the treatment into %s", e.Name, m.Service.Name)
		return c.GiveTreatment(ctx, m.Service, m.Env, m.Image)
	case Archive:
		if err := d.Store.ArchiveExperiment(ctx, e.Name, v.Now); err != nil {
			return err
		}
		return d.writeStatus(ctx, v, m.Write)
	}
	return fmt.Errorf("no such move: %T", m)
}

func (d *Driver) writeStatus(ctx context.Context, v *View, w Write) error {
	e := v.Experiment
	e.Status = w.Status
	e.Status.ObservedGeneration = e.Generation
	v.setConditions(&e.Status, Rest{})
	if err := d.Cluster.UpdateStatus(ctx, e); err != nil || w.Event == nil {
		return err
	}
	d.say("%s: %s", e.Name, w.Event.Message)
	if err := d.Cluster.RecordEvent(ctx, e, *w.Event); err != nil {
		d.say("%s: could not record the Event: %v", e.Name, err)
	}
	return nil
}

// writeRest writes what the experiment waits for, unless the status says so already.
func (d *Driver) writeRest(ctx context.Context, v *View, r Rest) error {
	e := v.Experiment
	if e.deleted() || v.Namespace.Terminating {
		return nil
	}
	next := e.DeepCopy()
	next.Status.Message = cmp.Or(r.Waits, e.Status.Because)
	if v.Judged != nil && v.Judged.Err == nil {
		next.Status.Lift = v.Judged.Judgement.Lift
	}
	next.Status.ObservedGeneration = e.Generation
	v.setConditions(&next.Status, r)
	if reflect.DeepEqual(next.Status, e.Status) {
		return nil
	}
	if err := d.Cluster.UpdateStatus(ctx, next); err != nil {
		return err
	}
	if was, _ := e.Stalled(); r.Reason != "" && was == "" {
		if err := d.Cluster.RecordEvent(ctx, e, Event{Reason: r.Reason, Message: r.Waits, Warning: true}); err != nil {
			d.say("%s: could not record the Event: %v", e.Name, err)
		}
	}
	e.Status = next.Status
	return nil
}

// record sends to the database the transitions that it does not have yet. away reports that the database cannot be reached.
func (d *Driver) record(ctx context.Context, e *Experiment) (away bool, err error) {
	for _, r := range e.Status.Unrecorded {
		err := d.Store.Transition(ctx, e.Name, experiment.Transition{
			ID: r.ID, Phase: r.Phase, Step: r.Step, Percent: r.Percent, At: r.At.Time, Actor: r.Actor, Reason: r.Reason, Figures: []byte(r.Figures),
			Conclusion: e.conclusionOf(r),
		})
		if errors.Is(err, problem.NotFound) { // another database, which does not have the experiment: nothing waits for it
			continue
		}
		if err != nil {
			d.say("%s: could not record the transition %s yet: %v", e.Name, r.ID, err)
			return true, nil
		}
	}
	e.Status.Unrecorded = nil
	return false, d.Cluster.UpdateStatus(ctx, e)
}

// conclusionOf returns the conclusion of a recorded transition; empty if the transition has none.
func (e *Experiment) conclusionOf(r Record) experiment.Conclusion {
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
