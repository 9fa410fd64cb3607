package experiment

import (
	"encoding/json"
	"time"
)

// Judgement has the results of a readout at one time that can move the experiment. A report shows more.
type Judgement struct {
	// Health is why the verdict is withheld; empty if it is not. While it is withheld, no Decision moves the experiment and no step
	// is made. A breached guardrail still rolls the experiment back.
	Health     string
	Guardrails Guard
	// Reason names the breached guardrail with its figures. Without a breach, it says what Guardrails still wait for.
	Reason   string
	Decision Decision
	// Entered counts the randomised units that have been seen, by arm. Reachable is how many units could enter, with or without an
	// arm: those of the audience in the layer's slots.
	Entered   Counts
	Reachable int64
	// Metric is the primary metric's name, label and unit, for people; empty if requests are the unit.
	Metric string
	// Lift and Sentence are for people: for example +4.1% (1.0% to 7.3%), and the verdict with its reasons.
	Lift     string
	Sentence string
	Figures  json.RawMessage // stored with a transition that this judgement causes; nil if there are none
}

// Counts has a count for each arm.
type Counts struct {
	Control   int64 `json:"control"`
	Treatment int64 `json:"treatment"`
}

// Min returns the count of the smaller arm.
func (c Counts) Min() int64 { return min(c.Control, c.Treatment) }

// Guard is the combined result of the guardrails.
type Guard string

// The results of guardrails. An experiment without guardrails passes.
const (
	GuardPass         Guard = "pass"
	GuardBreach       Guard = "breach"
	GuardInconclusive Guard = "inconclusive" // neither pass nor breach is shown: the ramp waits
)

// Decision is the result of the primary metric; empty until there is one.
type Decision string

// The decisions. Of harm, win and not worth it, in this order, the first that applies is made.
const (
	Undecided    Decision = ""
	Harm         Decision = "harm"
	Win          Decision = "win"
	NotWorthIt   Decision = "not worth it"
	Inconclusive Decision = "inconclusive" // at the planned end
)

// Start is what the database stores when an experiment starts. It does not change afterwards.
type Start struct {
	Name         string
	Spec         Spec // with its defaults
	Salt         string
	UID          string // of the resource
	Namespace    string // the UID of its namespace: another UID means another cluster, or a cluster that was built again
	PlannedUnits int64  // N*, the sample size of both arms together; 0 if the experiment ends on a date only
	At           time.Time
	Metrics      []Metric // copies of the event metrics that the spec names
}

// Transition is one change of an experiment's phase or step. It is recorded once, by its ID.
type Transition struct {
	ID      string
	Phase   Phase // the new phase
	Step    int   // of Ramp.Steps, from 0
	Percent int   // percent of all slots that the treatment has from then on
	At      time.Time
	Actor   string
	Reason  string
	Figures json.RawMessage // nil for none

	Conclusion Conclusion // with the phases Concluded and Archived; otherwise empty
}

// Past is what the database knows about an experiment that has been started.
type Past struct {
	Name, Salt     string
	UID, Namespace string // empty if the experiment started before these were stored
	PlannedUnits   int64
	Phase          Phase // of the last transition
	Step           int
}
