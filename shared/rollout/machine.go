package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

const (
	// drain is how long the arms stay after the last slot was closed, at least: edges follow within 2 s, and requests that are
	// under way come to their end.
	drain = 30 * time.Second
	// stage is how long each stage of a promotion lasts.
	stage = time.Minute
)

// View is what was read of the world for one experiment, and all that the next move depends on.
type View struct {
	Now        time.Time
	Actor      string // who moves what no person has asked for
	Namespace  Namespace
	Experiment *Experiment

	Others   []Experiment        // all but this one
	Services map[string]*Service // of the spec; one that is not there is left out
	Arms     map[string]*Arms
	Past     *experiment.Past    // what the database has of that name
	Tripped  string              // why the edges have suspended it for good, since its arms are there
	Own      []experiment.Metric // of people's own, that there are: read of a draft that starts

	// Connections is how many the database has for functions, 0 where nobody has said so, and Pools how many the pods of each
	// Service of the namespace may open, at max-scale. Unlimited are the Services that have a database and no max-scale.
	Connections int
	Pools       map[string]int
	Unlimited   []string

	// What a move has asked for, and its driver has read since.
	Planned *Planned
	Answers map[string]Answer // by host
	Judged  *Judged
	Blocked error // why an arm, or the way to it, could not be made
}

// Planned, Answer and Judged are what was read on a move's demand.
type (
	Planned struct {
		Units int64
		Err   error
	}
	Answer struct {
		Revision string
		Err      error
	}
	Judged struct {
		Verdict experiment.Verdict
		Err     error
	}
)

// Move is what comes next: to read more of the world, to change it by one write, or to rest.
type Move interface{ move() }

type (
	// Plan and Judge ask the readout, Ask the hosts of arms.
	Plan  struct{}
	Judge struct{}
	Ask   struct{ Hosts []string }

	// Begin keeps in the database what is started; what it has kept is read again before the status is written.
	Begin struct{ Start experiment.Start }
	// Write writes the status.
	Write struct {
		Status Status
		Event  *Event // where it is a transition
	}
	// Make makes an arm, Put the way to both, Remove takes way and then arms away, Give writes a Service.
	Make   struct{ Arm Arm }
	Put    struct{ Route Route }
	Remove struct {
		Service string
		Arms    bool // else the way
	}
	Give struct {
		Service *Service
		Env     map[string]string
		Image   string
	}
	// Archive sweeps, and then writes the status.
	Archive struct{ Write Write }

	// Rest is no move.
	Rest struct {
		Waits  string // what for; empty where it has come to its end
		Reason string // why somebody has to do something, in one word; empty where time will do
		Until  time.Time
	}
)

func (Plan) move()    {}
func (Judge) move()   {}
func (Ask) move()     {}
func (Begin) move()   {}
func (Write) move()   {}
func (Make) move()    {}
func (Put) move()     {}
func (Remove) move()  {}
func (Give) move()    {}
func (Archive) move() {}
func (Rest) move()    {}

// What an experiment is stalled for.
const (
	reasonRefused   = "Refused" // it may not start as it is
	reasonPlan      = "PlanFailed"
	reasonTaken     = "NameTaken" // an object of somebody else has the name of one of its own
	reasonNameUsed  = "NameUsed"  // an experiment of that name has been before
	reasonHealth    = "Unhealthy" // a health check is red
	reasonDecision  = "DecisionNeeded"
	reasonPromotion = "PromotionRefused"
	reasonReverted  = "Reverted" // somebody has taken the treatment from a Service again
	reasonManaged   = "ServiceManaged"
	reasonUnknown   = "UnknownPhase"
)

func waits(format string, args ...any) Rest { return Rest{Waits: fmt.Sprintf(format, args...)} }

func stalled(reason, format string, args ...any) Rest {
	return Rest{Waits: fmt.Sprintf(format, args...), Reason: reason}
}

// Next says which move comes next. It depends on nothing but the view, and changes nothing.
func Next(v *View) Move {
	e := v.Experiment
	if v.Namespace.Terminating || e.deleted() {
		return Rest{} // what it owns goes with it
	}
	phase := e.Status.Phase
	if phase.Live() {
		if m := v.ended(); m != nil {
			return m
		}
	}
	switch phase {
	case "", experiment.Draft:
		return v.draft()
	case experiment.Warming:
		return v.warm()
	case experiment.Running, experiment.Paused:
		return v.run()
	case experiment.Promoting:
		return v.promote()
	case experiment.Concluded, experiment.Archived:
		return v.concluded()
	}
	return stalled(reasonUnknown, "status.phase is %q: expected one that this version knows", phase)
}

// ended is of what ends a live experiment at once, whatever else there is; nil where nothing does.
func (v *View) ended() Move {
	e := v.Experiment
	switch e.Spec.End {
	case experiment.Stopped:
		return v.conclude(experiment.WasStopped, v.wished("a person has stopped it"))
	case experiment.RolledBack:
		return v.conclude(experiment.WasRolledBack, v.wished("a person has rolled it back"))
	}
	if m := v.disarm(); m != nil {
		return m
	}
	if v.Tripped != "" && e.armed() {
		return v.conclude(experiment.WasRolledBack, why{actor: v.Actor, text: v.Tripped})
	}
	for i := range v.Others {
		if o := &v.Others[i]; e.yields(o) {
			return v.conclude(experiment.WasStopped, why{v.Actor, "the experiment " + o.Name + " has started a moment before, and has what this one claims", nil})
		}
	}
	for _, base := range e.Status.Bases {
		switch s := v.Services[base.Name]; {
		case s == nil:
			return v.conclude(experiment.WasStopped, why{actor: v.Actor, text: "its Service " + base.Name + " is gone"})
		case s.UID != base.UID:
			return v.conclude(experiment.WasStopped, why{actor: v.Actor, text: "its Service " + base.Name + " was replaced by another of that name"})
		}
	}
	return nil
}

// why is the reason of a transition, and whose it is.
type why struct {
	actor, text string
	figures     []byte
}

// wished is the reason of what a person wants.
func (v *View) wished(otherwise string) why {
	wishes := v.Experiment.Spec.Wishes
	return why{actor: cmp.Or(wishes.By, v.Actor), text: cmp.Or(wishes.Why, otherwise)}
}

// transition is the write of a status, with the record of how it came to it. It is the intent: what it means for the cluster
// is changed after it, by whoever reads it first.
func (v *View) transition(s Status, id string, because why) Write {
	e := v.Experiment.DeepCopy()
	e.Status = s
	s.Progress = e.progress()
	s.Message = ""
	if s.Adopted && s.Phase.Live() { // the other cluster may have recorded a transition of that name
		id += "-" + v.Namespace.UID
	}
	s.Unrecorded = append(slices.Clone(s.Unrecorded), Record{
		ID: id, Phase: s.Phase, Step: s.Step, Percent: s.Assign.Open.Treatment * 100 / experiment.Slots, At: metav1.NewMicroTime(v.Now),
		Actor: because.actor, Reason: because.text, Figures: string(because.figures),
	})
	e.Status = s
	event := &Event{Reason: string(s.Phase), Message: e.Describe() + ": " + because.text, Warning: s.Conclusion == experiment.WasRolledBack}
	if s.Conclusion != "" {
		event.Reason = strings.ReplaceAll(capital(string(s.Conclusion)), " b", "B") // RolledBack
	}
	return Write{Status: s, Event: event}
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

func (v *View) status() Status { return *v.Experiment.Status.DeepCopy() }

// conclude closes every slot: from now on nobody is assigned. What was made goes after it.
func (v *View) conclude(as experiment.Conclusion, because why) Move {
	s := v.status()
	s.Phase, s.Conclusion = experiment.Concluded, as
	s.Because = string(as) + ": " + because.text
	if given := v.given(); len(given) > 0 && as != experiment.WasPromoted {
		s.Because += fmt.Sprintf(" (%s had been given the treatment, and has it: only a deployment takes it back)", strings.Join(given, ", "))
	}
	s.Assign.Open, s.ClosedAt = experiment.Open{}, metav1.NewTime(v.Now)
	return v.transition(s, "concluded", because)
}

func (v *View) given() []string {
	var names []string
	for name := range v.Experiment.Status.Given {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// concluded is of an experiment that has ended: its arms go, first the way to them, once nobody is under way there.
func (v *View) concluded() Move {
	e := v.Experiment
	if !e.Status.Swept {
		if gone := e.Status.ClosedAt.Add(v.drain()); v.Now.Before(gone) {
			r := waits("requests under way, before the arms go at %s", gone.UTC().Format("15:04:05"))
			r.Until = gone
			return r
		}
		for _, arms := range []bool{false, true} {
			for _, service := range e.Spec.Services {
				there := v.Arms[service]
				if there != nil && (!arms && there.Route != nil || arms && (there.Control != nil || there.Treatment != nil)) {
					return Remove{Service: service, Arms: arms}
				}
			}
		}
		s := v.status()
		s.Swept = true
		return Write{Status: s}
	}
	if e.Status.Conclusion == "" {
		return stalled(reasonNameUsed, "%s", e.Status.Because)
	}
	if e.Spec.Archive && e.Status.Phase == experiment.Concluded {
		s := v.status()
		s.Phase = experiment.Archived
		return Archive{v.transition(s, "archived", v.wished("a person has archived it"))}
	}
	return Rest{}
}

func (v *View) drain() time.Duration {
	longest := drain
	for _, s := range v.Services {
		longest = max(longest, s.Timeout)
	}
	return longest
}

// progress is the step for people.
func (e *Experiment) progress() string {
	switch steps := e.Spec.Ramp.Steps; e.Status.Phase {
	case experiment.Running, experiment.Paused:
		return fmt.Sprintf("%d/%d %d%%", e.Status.Step+1, len(steps), steps[min(e.Status.Step, len(steps)-1)])
	case experiment.Promoting:
		return fmt.Sprintf("%d%%", e.Status.Assign.Open.Treatment*100/experiment.Slots)
	}
	return ""
}

// Describe says where an experiment stands, in a few words.
func (e *Experiment) Describe() string {
	switch s := e.Status; {
	case s.Phase == "":
		return string(experiment.Draft)
	case s.Phase.Runs():
		return string(s.Phase) + ", step " + e.progress()
	case s.Phase == experiment.Concluded && s.Conclusion != "":
		return string(s.Phase) + ", " + string(s.Conclusion)
	}
	return string(e.Status.Phase)
}

// unique is a text of 32 digits that no other experiment has, this one always.
func (e *Experiment) unique(of string) string {
	sum := sha256.Sum256([]byte(of + "/" + string(e.UID)))
	return hex.EncodeToString(sum[:16])
}
