package rollout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/problem"
)

// Reconciler moves experiments. It keeps nothing between two calls: whatever has been done is seen in the cluster, so that
// it may be killed at any line and another goes on.
type Reconciler struct {
	Cluster Cluster
	Store   Store
	Readout Readout
	Now     func() time.Time
	Actor   string       // who moves what no person has asked for
	Say     func(string) // is told each change, in a line; nil tells nobody
}

const (
	// ReconcileLimit is how long one Reconcile takes at most.
	ReconcileLimit = 20 * time.Second
	// lockLife is longer, so that a lock outlives whoever reconciles and no more.
	lockLife = 30 * time.Second
	// EdgeLag is how long after a change of an experiment the last edge follows it: none is asked to serve by a tag that
	// goes before it has looked away.
	EdgeLag = 5 * time.Second
	// mostMoves is more than the life of an experiment has at once: 20 services, some moves each.
	mostMoves = 200
)

// Outcome is how Reconcile leaves an experiment.
type Outcome struct {
	Experiment *Experiment
	Waits      string // what it waits for; empty where it has come to its end
	Stuck      bool   // what it waits for is not a matter of time: somebody has to do something
}

// Moving tells whether it is on its way, and only takes its time: looking again soon is worth while.
func (o Outcome) Moving() bool {
	switch o.Experiment.Status.Phase {
	case Warming, Promoting, Concluding:
		return !o.Stuck
	}
	return false
}

// Reconcile makes every move of the named experiment that can be made now, one after the other: it reads the world,
// compares it with what is wanted, and makes the first change that is missing. Errors: ErrNotFound, ErrLocked, and what
// keeps the cluster from being read or written.
func (r *Reconciler) Reconcile(ctx context.Context, name string) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, ReconcileLimit)
	defer cancel()
	release, err := r.Cluster.Lock(ctx, name, lockLife)
	if err != nil {
		return Outcome{}, err
	}
	defer release()
	for range mostMoves {
		e, err := r.Cluster.Experiment(ctx, name)
		if err != nil {
			return Outcome{}, err
		}
		e.Spec.Default()
		m, err := r.next(ctx, e)
		switch {
		case err == nil && m.gone:
			return Outcome{Experiment: e}, nil
		case errors.Is(err, ErrConflict), err == nil && m.made:
			continue
		case err != nil:
			return Outcome{Experiment: e}, err
		}
		says := cmp.Or(m.waits, e.Status.Because)
		if !m.judged {
			m.lift = e.Status.Lift
		}
		if m.lift != e.Status.Lift || says != e.Status.Message || e.Status.ObservedGeneration != e.Generation {
			e.Status.Message, e.Status.Lift = says, m.lift
			if err := r.write(ctx, e); errors.Is(err, ErrConflict) {
				continue
			} else if err != nil {
				return Outcome{Experiment: e}, err
			}
		}
		return Outcome{Experiment: e, Waits: m.waits, Stuck: m.stuck}, nil
	}
	return Outcome{}, fmt.Errorf("%s: still something to do after %d moves: expected it to come to rest", name, mostMoves)
}

// move is what came of looking for one: it was made, or why there is none.
type move struct {
	made   bool
	gone   bool // and it was the last: there is no such experiment any more
	waits  string
	stuck  bool
	judged bool // lift is new
	lift   string
}

func made(err error) (move, error) { return move{made: err == nil}, err }

func waits(format string, args ...any) (move, error) {
	return move{waits: fmt.Sprintf(format, args...)}, nil
}

func stuck(format string, args ...any) (move, error) {
	return move{waits: fmt.Sprintf(format, args...), stuck: true}, nil
}

// next makes the next move.
func (r *Reconciler) next(ctx context.Context, e *Experiment) (move, error) {
	if len(e.Status.Unrecorded) > 0 {
		if moved, err := r.record(ctx, e); moved || err != nil {
			return made(err)
		}
	}
	if e.Status.Phase.Live() {
		switch wish := e.Spec.Run.State; {
		case !e.held() && !e.deleted(): // an earlier version has started it, or somebody has taken that away
			return r.hold(ctx, e)
		case e.Status.Phase == Concluding: // it is decided
		case e.deleted():
			return r.conclude(ctx, e, WasStopped, reason{r.Actor, "it was deleted", nil})
		case wish == experiment.Stopped:
			return r.conclude(ctx, e, WasStopped, r.wished(e, "a person has stopped it"))
		case wish == experiment.RolledBack:
			return r.conclude(ctx, e, WasRolledBack, r.wished(e, "a person has rolled it back"))
		}
	}
	switch e.Status.Phase {
	case "", Draft:
		if e.deleted() {
			return r.letGo(ctx, e)
		}
		return r.start(ctx, e)
	case Warming:
		return r.warm(ctx, e)
	case Running, Paused:
		return r.drive(ctx, e)
	case Promoting:
		return r.promote(ctx, e)
	case Concluding:
		return r.restore(ctx, e)
	case Concluded, Archived:
		if e.held() {
			return r.letGo(ctx, e)
		}
		return r.archive(ctx, e)
	}
	return stuck("status.phase is %q: expected one that this version knows", e.Status.Phase)
}

// reason is why a transition is made, and by whom.
type reason struct {
	actor, text string
	figures     []byte
}

// wished is the reason of what a person wants.
func (r *Reconciler) wished(e *Experiment, otherwise string) reason {
	why := reason{actor: e.Spec.Run.By, text: e.Spec.Run.Why}
	if why.actor == "" {
		why.actor = r.Actor
	}
	if why.text == "" {
		why.text = otherwise
	}
	return why
}

// transition writes the status that e has been given, with the record of how it came to it. It is the intent: what it
// means for the cluster is changed after it, by whoever reads it first.
func (r *Reconciler) transition(ctx context.Context, e *Experiment, id string, why reason) (move, error) {
	e.Status.Progress = e.progress()
	e.Status.Message = ""
	e.Status.Unrecorded = append(e.Status.Unrecorded, Record{
		ID: id, Phase: e.Status.Phase, Step: e.Status.Step, Percent: e.percent(), At: metav1.NewMicroTime(r.Now()),
		Actor: why.actor, Reason: why.text, Figures: string(why.figures),
	})
	if err := r.write(ctx, e); err != nil {
		return move{}, err
	}
	r.say("%s: %s (%s)", e.Name, e.Describe(), why.text)
	return made(nil)
}

func (r *Reconciler) write(ctx context.Context, e *Experiment) error {
	e.Status.ObservedGeneration = e.Generation
	return r.Cluster.UpdateStatus(ctx, e)
}

// record brings to the database what it does not have yet. While it is away nothing else waits for that: a stop must not.
func (r *Reconciler) record(ctx context.Context, e *Experiment) (moved bool, err error) {
	for _, record := range e.Status.Unrecorded {
		t := experiment.Transition{
			ID: record.ID, Phase: string(record.Phase), Step: record.Step, Percent: record.Percent, At: record.At.Time,
			Actor: record.Actor, Reason: record.Reason, Figures: []byte(record.Figures),
		}
		switch err := r.Store.Transition(ctx, e.Name, t); {
		case e.deleted() && errors.Is(err, problem.NotFound): // it is another database: nobody waits for this one's
		case err != nil:
			r.say("%s: the database does not have the transition %s yet: %v", e.Name, record.ID, err)
			return false, nil
		}
	}
	e.Status.Unrecorded = nil
	return true, r.write(ctx, e)
}

func (r *Reconciler) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(fmt.Sprintf(format, args...))
	}
}

// percent is of all slots, in each arm, that are open now.
func (e *Experiment) percent() int {
	if e.Status.Phase == Promoting {
		return 100
	}
	return e.Status.Open.Treatment * 100 / experiment.Slots
}

// progress is the step for people.
func (e *Experiment) progress() string {
	switch steps := e.Spec.Ramp.Steps; e.Status.Phase {
	case Running, Paused:
		return fmt.Sprintf("%d/%d %d%%", e.Status.Step+1, len(steps), steps[e.Status.Step])
	case Promoting:
		return "100%"
	}
	return ""
}

// Describe says where an experiment stands, in a few words.
func (e *Experiment) Describe() string {
	switch e.Status.Phase {
	case Running, Paused:
		return string(e.Status.Phase) + ", step " + e.progress()
	case Concluding, Concluded:
		if e.Status.Conclusion == "" { // whoever asks knows no more
			break
		}
		return string(e.Status.Phase) + ", " + string(e.Status.Conclusion)
	case "":
		return string(Draft)
	}
	return string(e.Status.Phase)
}

// unique is a text of 32 digits that no other experiment has, this one always.
func (e *Experiment) unique(of string) string {
	sum := sha256.Sum256([]byte(of + "/" + string(e.UID)))
	return hex.EncodeToString(sum[:16])
}
