package experiment

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Phase is a phase of an experiment's life. Only this file defines what the phases mean: controller, readout, deployment and pages
// call its methods.
//
//	Draft -> Warming -> Running (or Paused) -> Promoting -> Concluded -> Archived
//
// Warming, Running and Paused may also go directly to Concluded.
type Phase string

// The phases.
const (
	Draft     Phase = "Draft"
	Warming   Phase = "Warming"   // the arms start, and nobody is assigned yet
	Running   Phase = "Running"   // units are assigned, as many as the step says
	Paused    Phase = "Paused"    // like Running, but without further steps or a promotion: everyone keeps their arm
	Promoting Phase = "Promoting" // everyone gets the treatment, in stages
	Concluded Phase = "Concluded"
	Archived  Phase = "Archived" // Concluded, and the rows of single users are gone
)

// Phases has all phases, in the order of a life.
var Phases = []Phase{Draft, Warming, Running, Paused, Promoting, Concluded, Archived}

// Live reports whether the experiment's Services have arms, or are getting them.
func (p Phase) Live() bool {
	return p == Warming || p == Running || p == Paused || p == Promoting
}

// Runs reports whether units are assigned in order to compare the arms.
func (p Phase) Runs() bool { return p == Running || p == Paused }

// Over reports whether the comparison of the arms is over, because everyone or nobody gets the treatment. Rows that were written
// before arms had their own Configurations may also have the phase Concluding, which came before Concluded.
func (p Phase) Over() bool {
	return p == Promoting || p == Concluded || p == Archived || p == "Concluding"
}

// Conclusion is how an experiment ended.
type Conclusion string

// The conclusions.
const (
	WasPromoted   Conclusion = "promoted"
	WasRolledBack Conclusion = "rolled back"
	WasStopped    Conclusion = "stopped"
)

// End is the end that a person asks for.
//
// +kubebuilder:validation:Enum=Stopped;RolledBack;Promoted
type End string

// The ends that a person can ask for.
const (
	Stopped    End = "Stopped"    // everyone is untouched again, with no verdict
	RolledBack End = "RolledBack" // the same, with the record that the treatment lost
	Promoted   End = "Promoted"   // the treatment for everyone
)

// Closes reports whether the end closes every slot immediately. The edges obey such an end without waiting for steer.
func (e End) Closes() bool { return e == Stopped || e == RolledBack }

// Wishes are what people ask of an experiment. A file in Git may have the start. People write all other wishes with `kn experiment`
// or kubectl. Wishes only go forward, so that applying a file again undoes none.
//
// +kubebuilder:object:generate=true
type Wishes struct {
	// Start starts a draft. A file in Git may have it.
	// +optional
	Start bool `json:"start,omitempty"`
	// StartAt is when a draft starts by itself, for example 2026-12-01T09:00:00Z. A file in Git may have it.
	// +optional
	// +kubebuilder:validation:Format=date-time
	StartAt string `json:"startAt,omitempty"`
	// Paused stops the ramp while it is true: no step and no promotion begins, even if a person asks for one, and everyone keeps their
	// arm. Guardrails still roll back, and a promotion that has begun continues. False by default.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// Step asks for a step of the ramp, counted from 0. The ramp goes to this step without waiting for the hold, and never back.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=19
	Step int `json:"step,omitempty"`
	// Approved is the highest step that a person has approved, if ramp.approve is manual.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=19
	Approved int `json:"approved,omitempty"`
	// Rebase asks steer to make both arms again, as copies of the Services as they are now.
	// +optional
	Rebase *Rebase `json:"rebase,omitempty"`
	// End ends the experiment. It cannot be taken back.
	// +optional
	End End `json:"end,omitempty"`
	// Anyway allows a promotion even if a guardrail is breached or a health check is red.
	// +optional
	Anyway bool `json:"anyway,omitempty"`
	// Archive deletes the rows of single users, once the experiment has ended.
	// +optional
	Archive bool `json:"archive,omitempty"`
	// By is who made the last wish, for the record; empty by default.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	By string `json:"by,omitempty"`
	// Why is the reason for the last wish, for the record; empty by default.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`
}

// Rebase is the wish to make both arms again, as copies of the Services as they are now.
//
// +kubebuilder:object:generate=true
type Rebase struct {
	// Number counts the rebases, from 1. A higher number asks for one more.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Number int `json:"number"`
	// Image is the treatment's image from this rebase on, by Service; it replaces treatment.image.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=20
	Image map[string]Image `json:"image,omitempty"`
}

// Begins reports whether the experiment should have started by now, and the time of StartAt. at is zero if Start is set or StartAt is
// not a time.
func (w *Wishes) Begins(now time.Time) (wanted bool, at time.Time) {
	if w.Start {
		return true, time.Time{}
	}
	at, err := time.Parse(time.RFC3339, w.StartAt)
	return err == nil && !now.Before(at), at
}

func (w *Wishes) check(m *mistakes, services []string, steps int) {
	if w.StartAt != "" {
		_, err := time.Parse(time.RFC3339, w.StartAt)
		m.expect(err == nil, "startAt", "%q: expected a time such as 2026-12-01T09:00:00Z", w.StartAt)
	}
	m.expect(w.Step >= 0 && w.Step < max(1, steps), "step", "%d: expected 0 to %d, a step of ramp.steps", w.Step, steps-1)
	m.expect(w.Approved >= 0 && w.Approved < 20, "approved", "%d: expected 0 to 19", w.Approved)
	m.expect(slices.Contains([]End{"", Stopped, RolledBack, Promoted}, w.End), "end", "%q: expected Stopped, RolledBack, Promoted or nothing", w.End)
	if w.Rebase != nil {
		m.expect(w.Rebase.Number >= 1 && w.Rebase.Number <= 1000, "rebase.number", "%d: expected 1 to 1000", w.Rebase.Number)
		checkImages(m, "rebase.image", w.Rebase.Image, services)
	}
	m.expect(len(w.By) <= 256, "by", "%d bytes: expected 256 at most", len(w.By))
	m.expect(len(w.Why) <= 1024, "why", "%d bytes: expected 1024 at most", len(w.Why))
}

// CheckChange returns why the spec of an experiment in a phase must not change; nil if it may. Once the experiment has started, only
// wishes may change. An end cannot be removed or changed, except that a promotion can be stopped until it is done. The rules of the
// resource's definition say the same; a test compares them.
func CheckChange(phase Phase, from, to Spec) error {
	var m mistakes
	if phase != "" && phase != Draft {
		a, b := from, to
		a.Wishes, b.Wishes = Wishes{}, Wishes{}
		m.expect(same(a, b), "spec", "once the experiment has started, only wishes may change")
	}
	withdrawn := from.End == Promoted && to.End.Closes() && phase != Concluded && phase != Archived // the kill switch always works
	m.expect(from.End == "" || to.End == from.End || withdrawn, "spec.end", "%q after %q: an end cannot be changed or taken back", to.End, from.End)
	m.expect(!from.Archive || to.Archive, "spec.archive", "it cannot be taken back, because deleted rows do not come back")
	return errors.Join(m...)
}

// Conflict returns why two experiments cannot both be live; nil if they can.
func (r *Rules) Conflict(other *Rules) error {
	var all []error
	for _, service := range r.Services {
		if slices.Contains(other.Services, service) {
			all = append(all, fmt.Errorf("services: %s is in the experiment %s: expected one at a time", service, other.Name))
		}
	}
	if r.Layer.Name == "" || r.Layer.Name != other.Layer.Name || r.Unit == Request || other.Unit == Request {
		return errors.Join(all...)
	}
	if ours, theirs := r.Identity.describeUnits(), other.Identity.describeUnits(); ours != theirs {
		all = append(all, fmt.Errorf("layer: the units of %s are %s here, and %s in the experiment %s: expected one kind of unit, or another layer", r.Layer.Name, ours, theirs, other.Name))
	}
	if r.Unit != other.Unit {
		all = append(all, fmt.Errorf("layer: %s has the unit %s here, and %s in the experiment %s: expected one kind of unit", r.Layer.Name, r.Unit, other.Unit, other.Name))
	}
	if r.Layer.From < other.Layer.To && other.Layer.From < r.Layer.To {
		all = append(all, fmt.Errorf("layer.slots: %d to %d of %s overlap those of the experiment %s, %d to %d: expected others",
			r.Layer.From, r.Layer.To, r.Layer.Name, other.Name, other.Layer.From, other.Layer.To))
	}
	return errors.Join(all...)
}

// Check returns what is wrong with rules by themselves; nil if nothing is.
func (r *Rules) Check() error {
	var m mistakes
	m.expect(isLabel(r.Name, maxName), "name", "%q: expected at most %d small letters, digits and -", r.Name, maxName)
	m.oneOf("unit", string(r.Unit), string(Community), string(User), string(Request))
	r.Identity.check(&m, r.Unit)
	m.expect(r.Layer.From >= 0 && r.Layer.From < r.Layer.To && r.Layer.To <= Slots, "layer.slots", "%d to %d: expected a range within 0 to %d", r.Layer.From, r.Layer.To, Slots)
	m.expect(r.Open.Control >= 0 && r.Open.Treatment >= 0 && r.Open.Control+r.Open.Treatment <= Slots, "open",
		"%d slots of control and %d of treatment: expected %d together at most", r.Open.Control, r.Open.Treatment, Slots)
	for i, open := range r.Baseline {
		m.expect(open > 0 && open <= Slots/2 && (i == 0 || open > r.Baseline[i-1]), "baseline", "%v: expected rising numbers of slots, at most %d", r.Baseline, Slots/2)
	}
	m.expect(r.Salt != "" || r.List != nil || r.Unit == Request, "salt", "missing: expected one, because slots are found by it")
	for i, bound := range r.Bounds {
		m.expect(bound > 0 && (i == 0 || bound > r.Bounds[i-1]), "bounds", "%v: expected rising durations", r.Bounds)
	}
	return errors.Join(m...)
}
