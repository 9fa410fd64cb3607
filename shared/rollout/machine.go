package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

const (
	// drain is how long the arms stay, at least, after the last slot was closed. Edges follow within 2 s; the rest is for requests
	// under way.
	drain = 30 * time.Second
	// stage is how long each stage of a promotion lasts.
	stage = time.Minute
)

// View is everything that the next move of one experiment depends on.
type View struct {
	Now        time.Time
	Actor      string // recorded as the actor of moves that no person asked for
	Namespace  Namespace
	Experiment *Experiment

	Others   []Experiment        // all other experiments
	Services map[string]*Service // of the spec; a Service that does not exist is left out
	Arms     map[string]*Arms
	Past     *experiment.Past    // what the database knows about an experiment of this name
	Tripped  string              // why the edges have blamed the treatment since its arms answered; empty if they have not
	Own      []experiment.Metric // the event metrics in the cluster; read only for a draft that starts

	// Connections is how many connections the database has for functions, 0 if this is not known. Pools has, for each Service
	// of the namespace, how many connections its pods may open at max-scale. Unlimited names the Services that have a
	// database and no max-scale.
	Connections int
	Pools       map[string]int
	Unlimited   []string

	// Set by the driver after a move has asked for it.
	Planned *Planned
	Answers map[string]Answer // by host
	Judged  *Judged
	Blocked error // why an arm, or the route to the arms, could not be made
}

// Planned, Answer and Judged are the results of the moves Plan, Ask and Judge.
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
		Judgement experiment.Judgement
		Err       error
	}
)

// Move is what comes next: to read more, to write once, or to rest.
type Move interface{ move() }

type (
	// Plan and Judge ask the readout, Ask the hosts of arms.
	Plan  struct{}
	Judge struct{}
	Ask   struct{ Hosts []string }

	// Begin stores the start in the database. Then the driver reads it back, before the status is written.
	Begin struct{ Start experiment.Start }
	// Write writes the status.
	Write struct {
		Status Status
		Event  *Event // only if it is a transition
	}
	// Make makes an arm. Put makes the route to both arms. Remove deletes the route or, if Arms is set, the arms. Give writes the treatment
	// into a Service.
	Make   struct{ Arm Arm }
	Put    struct{ Route Route }
	Remove struct {
		Service string
		Arms    bool // otherwise the route
	}
	Give struct {
		Service *Service
		Env     map[string]string
		Image   string
	}
	// Archive deletes the rows of single users, and then writes the status.
	Archive struct{ Write Write }

	// Rest means that there is nothing to do now.
	Rest struct {
		Waits  string // what the experiment waits for; empty if its life is over
		Reason string // why a person has to act, in one word; empty if nobody has to
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

// Why an experiment is stalled.
const (
	reasonRefused   = "Refused" // it must not start in its present form
	reasonPlan      = "PlanFailed"
	reasonTaken     = "NameTaken" // another object has the name of one of its objects
	reasonNameUsed  = "NameUsed"  // an experiment of that name has run before
	reasonHealth    = "Unhealthy" // a health check is red
	reasonDecision  = "DecisionNeeded"
	reasonPromotion = "PromotionRefused"
	reasonReverted  = "Reverted" // somebody has removed the treatment from a Service
	reasonManaged   = "ServiceManaged"
	reasonUnknown   = "UnknownPhase"
)

func waits(format string, args ...any) Rest { return Rest{Waits: fmt.Sprintf(format, args...)} }

func stalled(reason, format string, args ...any) Rest {
	return Rest{Waits: fmt.Sprintf(format, args...), Reason: reason}
}

// Next returns the next move. It depends only on the view, and changes nothing.
func Next(v *View) Move {
	e := v.Experiment
	if v.Namespace.Terminating || e.deleted() {
		return Rest{} // Kubernetes deletes what the experiment owns
	}
	phase := e.Status.Phase
	if phase.Live() {
		if m := v.nextInAnyPhase(); m != nil {
			return m
		}
	}
	switch phase {
	case "", experiment.Draft:
		return v.nextDraft()
	case experiment.Warming:
		return v.nextWarming()
	case experiment.Running, experiment.Paused:
		return v.nextRunning()
	case experiment.Promoting:
		return v.nextPromoting()
	case experiment.Concluded, experiment.Archived:
		return v.nextConcluded()
	}
	return stalled(reasonUnknown, "status.phase is %q: expected one that this version knows", phase)
}

// nextInAnyPhase returns the move that a live experiment makes in any phase, before all others: it ends, or closes the slots of arms
// that somebody has deleted. It returns nil if there is no reason for either.
func (v *View) nextInAnyPhase() Move {
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
		return v.conclude(experiment.WasRolledBack, v.byDriver(v.Tripped))
	}
	for i := range v.Others {
		if o := &v.Others[i]; e.yieldsTo(o) {
			return v.conclude(experiment.WasStopped, v.byDriver("the experiment "+o.Name+" started a moment earlier, with a Service or slots of this one"))
		}
	}
	for _, base := range e.Status.Bases {
		switch s := v.Services[base.Name]; {
		case s == nil:
			return v.conclude(experiment.WasStopped, v.byDriver("its Service "+base.Name+" is gone"))
		case s.UID != base.UID:
			return v.conclude(experiment.WasStopped, v.byDriver("its Service "+base.Name+" was replaced by another of that name"))
		}
	}
	return nil
}

// why is the reason for a transition, and who caused it.
type why struct {
	actor, text string
	figures     []byte
}

// byDriver returns a reason that no person has given.
func (v *View) byDriver(text string) why { return why{actor: v.Actor, text: text} }

// wished returns the reason for what a person wishes: the person's own words, or the text in otherwise if the person gave
// none.
func (v *View) wished(otherwise string) why {
	wishes := v.Experiment.Spec.Wishes
	return why{actor: cmp.Or(wishes.By, v.Actor), text: cmp.Or(wishes.Why, otherwise)}
}

// transition returns the move that writes a new status together with the record of its reason. The status is the intent: any
// driver that reads the status later makes the changes in the cluster that the status calls for.
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
	event := &Event{Reason: string(s.Phase), Message: e.Describe() + ": " + because.text}
	if s.Phase == experiment.Concluded {
		event.Reason = strings.ReplaceAll(capital(string(s.Conclusion)), " b", "B") // RolledBack
		event.Warning = s.Conclusion == experiment.WasRolledBack
	}
	return Write{Status: s, Event: event}
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

// status returns a copy of the status, to be changed and written.
func (v *View) status() Status { return *v.Experiment.Status.DeepCopy() }

// conclude closes every slot, so that nobody is assigned from now on. The arms are deleted later.
func (v *View) conclude(as experiment.Conclusion, because why) Move {
	s := v.status()
	s.Phase, s.Conclusion = experiment.Concluded, as
	s.Because = string(as) + ": " + because.text
	if treated := v.treatedServices(); len(treated) > 0 && as != experiment.WasPromoted {
		s.Because += fmt.Sprintf(" (the treatment was already written into %s, and stays there until a deployment removes it)", strings.Join(treated, ", "))
	}
	s.Assign.Open, s.ClosedAt = experiment.Open{}, metav1.NewTime(v.Now)
	return v.transition(s, "concluded", because)
}

// treatedServices returns the names of the Services that have got the treatment in the promotion.
func (v *View) treatedServices() []string {
	return slices.Sorted(maps.Keys(v.Experiment.Status.Treated))
}

// nextConcluded returns the next move of an experiment that has ended. It waits for requests under way, deletes the routes and then the
// arms, and archives the experiment if a person wishes it.
func (v *View) nextConcluded() Move {
	e := v.Experiment
	if !e.Status.Swept {
		return v.sweep()
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

// sweep deletes all routes and then all arms, once no request can be under way in them.
func (v *View) sweep() Move {
	e := v.Experiment
	if deletion := e.Status.ClosedAt.Add(v.drain()); v.Now.Before(deletion) {
		r := waits("requests under way in the arms, which are deleted at %s", deletion.UTC().Format("15:04:05"))
		r.Until = deletion
		return r
	}
	for _, service := range e.Spec.Services {
		if arms := v.Arms[service]; arms != nil && arms.Route != nil {
			return Remove{Service: service}
		}
	}
	for _, service := range e.Spec.Services {
		if arms := v.Arms[service]; arms != nil && (arms.Control != nil || arms.Treatment != nil) {
			return Remove{Service: service, Arms: true}
		}
	}
	s := v.status()
	s.Swept = true
	return Write{Status: s}
}

// drain returns how long the arms stay after the last slot was closed: as long as a request to any of the Services may take, if that is
// longer than the constant.
func (v *View) drain() time.Duration {
	longest := drain
	for _, s := range v.Services {
		longest = max(longest, s.Timeout)
	}
	return longest
}

// progress describes the step for people.
func (e *Experiment) progress() string {
	switch steps := e.Spec.Ramp.Steps; e.Status.Phase {
	case experiment.Running, experiment.Paused:
		return fmt.Sprintf("%d/%d %d%%", e.Status.Step+1, len(steps), steps[min(e.Status.Step, len(steps)-1)])
	case experiment.Promoting:
		return fmt.Sprintf("%d%%", e.Status.Assign.Open.Treatment*100/experiment.Slots)
	}
	return ""
}

// Describe describes the phase of an experiment in a few words.
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

// uniqueText returns 32 hexadecimal digits that no other experiment has. The same purpose always gives this experiment the same digits.
func (e *Experiment) uniqueText(purpose string) string {
	sum := sha256.Sum256([]byte(purpose + "/" + string(e.UID)))
	return hex.EncodeToString(sum[:16])
}
