package experiment

import (
	"encoding/json"
	"time"
)

// Verdict is what a readout says of an experiment at one time, as far as the experiment moves by it. A report says more.
type Verdict struct {
	// Health is why the verdict is withheld, empty where it is not. Withheld, no decision moves the experiment, and no step
	// is made; a breached guardrail still rolls it back.
	Health     string
	Guardrails Guard
	// Reason is of a breach, the guardrail and its figures; else what Guardrails still waits for.
	Reason   string
	Decision Decision
	// Entered are the randomised units that have been seen, per arm, and Reachable how many there are to be had, of both
	// arms and none: those of the audience that the layer's slots hold.
	Entered   Counts
	Reachable int64
	// Metric is the primary one for people: its name, label and unit; empty where requests are split.
	Metric string
	// Lift and Sentence are for people: +4.1% (1.0% to 7.3%), and the verdict with what it rests on.
	Lift     string
	Sentence string
	Figures  json.RawMessage // what a transition that rests on this is recorded with; nil for none
}

// Counts are of both arms.
type Counts struct {
	Control   int64 `json:"control"`
	Treatment int64 `json:"treatment"`
}

// Min is that of the smaller arm.
func (c Counts) Min() int64 { return min(c.Control, c.Treatment) }

// Guard is what the guardrails say together.
type Guard string

// What guardrails say. An experiment without any passes.
const (
	GuardPass         Guard = "pass"
	GuardBreach       Guard = "breach"
	GuardInconclusive Guard = "inconclusive" // neither is shown: it holds, and never counts as a pass
)

// Decision is what the primary metric says, if anything yet.
type Decision string

// The decisions, in the order in which the first that holds is made.
const (
	Undecided    Decision = ""
	Harm         Decision = "harm"
	Win          Decision = "win"
	NotWorthIt   Decision = "not worth it"
	Inconclusive Decision = "inconclusive" // at the planned end
)

// Start is an experiment as the database keeps it from its start on.
type Start struct {
	Name         string
	Spec         Spec // with its defaults
	Salt         string
	UID          string // of the resource
	Namespace    string // the UID of its namespace: another means another cluster, or one that was built anew
	PlannedUnits int64  // N*, of both arms together, frozen here; 0 where it ends by time alone
	At           time.Time
	Metrics      []Metric // of people's own that the spec names, frozen here
}

// Transition is one step of an experiment's life, recorded once by its id.
type Transition struct {
	ID      string
	Phase   Phase // that it came to
	Step    int   // of Ramp.Steps, from 0
	Percent int   // of the slots of each arm, from then on
	At      time.Time
	Actor   string
	Reason  string
	Figures json.RawMessage // nil for none

	Conclusion Conclusion // of Concluded and Archived; empty elsewhere
}

// Past is an experiment that has been started, as the database knows it.
type Past struct {
	Name, Salt     string
	UID, Namespace string // empty where it was started before these were kept
	PlannedUnits   int64
	Phase          Phase // that its last transition came to
	Step           int
}
