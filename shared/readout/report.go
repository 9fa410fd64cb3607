// Package readout judges an experiment from the rows of PostgreSQL alone: whether the experiment is sound, whether the
// treatment harms the service, and whether it helps. It judges in this order: health, guardrails, the primary metric, and
// then the rest. If health is red, the verdict is withheld.
package readout

import (
	"fmt"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/store"
)

// Report is a readout at one time. Two readouts of the same rows at the same time are equal.
type Report struct {
	Experiment string    `json:"experiment"`
	At         time.Time `json:"at"`
	// Until is the time up to which rows count: At, or the experiment's conclusion. After the conclusion the arms no longer
	// differ.
	Until     time.Time        `json:"until"`
	Spec      experiment.Spec  `json:"spec"`
	Salt      string           `json:"salt"`
	Phase     experiment.Phase `json:"phase"`
	StartedAt time.Time        `json:"startedAt"`
	Steps     []Step           `json:"steps"`
	History   []Transition     `json:"history"`

	Verdict  Outcome `json:"verdict"`
	Sentence string  `json:"sentence"`
	Next     Next    `json:"next"`
	// Observational is true if the arms were chosen by hand, and not at random.
	Observational bool `json:"observational"`

	Units      Units       `json:"units"`
	Method     Method      `json:"method"`
	Health     []Check     `json:"health"`
	Guardrails []Guardrail `json:"guardrails"`
	Primary    *Effect     `json:"primary"` // nil if the unit is the request, which has no outcome of its own
	Secondary  []Effect    `json:"secondary"`
	Days       []DayEffect `json:"byDay"`   // the primary metric by day since entry, for metrics that can be split by day
	Latency    *Latency    `json:"latency"` // nil if the functions have measured nothing
	Exposures  []Exposure  `json:"exposures"`
	Groups     []Group     `json:"communities"` // if communities are the unit
	Splits     []Split     `json:"byCommunity"` // if users are the unit
	Scores     Scores      `json:"scores"`      // of all feedback
	Quotes     []Quote     `json:"feedback"`
}

// Outcome is the verdict of a report: a Decision of package experiment, or one of the values below.
type Outcome string

// The verdicts that are not a Decision.
const (
	Withheld Outcome = "withheld" // health is red
	Breach   Outcome = "breach"   // a guardrail is breached
	Safe     Outcome = "safe"     // the unit is the request, and every guardrail passes
	Waiting  Outcome = "waiting"
)

// Step is a step of the ramp that was reached. Percent is the percentage of all slots in each arm.
type Step struct {
	At      time.Time `json:"at"`
	Percent int       `json:"percent"`
}

// Transition is a change of the experiment's phase or step.
type Transition struct {
	At     time.Time        `json:"at"`
	Phase  experiment.Phase `json:"phase"`
	Actor  string           `json:"actor"`
	Reason string           `json:"reason"`
}

// Units counts the randomised units.
type Units struct {
	Kind      experiment.Unit   `json:"kind"`
	Reachable int64             `json:"reachable"` // all units that the experiment could take, in an arm or not
	Entered   experiment.Counts `json:"entered"`
	Completed experiment.Counts `json:"completed"` // units whose windows are over, so that they are judged
	Users     experiment.Counts `json:"users"`     // exposed users
	Planned   int64             `json:"planned"`   // N*, both arms together; 0 if the experiment ends on a date only
}

// Method is how the primary metric is judged. It depends on the units that have a value of the metric.
type Method struct {
	Name string `json:"name"`
	// Speaks reports whether the method can say anything yet. SpeaksAt is the earliest time at which it can, if that is known.
	Speaks   bool       `json:"speaks"`
	SpeaksAt *time.Time `json:"speaksAt"`
	// Ended is true from the planned end on: when N* units have completed, or when the last step's hold and one window are
	// over.
	Ended bool `json:"ended"`
}

// The methods. The number of units with a value, in the smaller arm, decides.
const (
	None        = "none"                // under 4 units
	Permutation = "permutation test"    // once, at the planned end: for communities, and for fewer than 100 users
	Welch       = "Welch's t interval"  // once, at the planned end: for 50 to 99 users whose values are nearly normal
	Sequence    = "confidence sequence" // at any look: for 100 users or more, and for communities of similar size
	Guards      = "guardrails alone"    // if the unit is the request
)

// State is the result of a health check.
type State string

// The states.
const (
	OK      State = "ok"
	Warning State = "warning"
	Red     State = "red"
	Unknown State = "unknown" // it cannot be known here, or not yet
)

// Check is a health check.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
}

// Interval is a range. A side is null if the data does not bound it.
type Interval struct {
	Lower *float64 `json:"lower"`
	Upper *float64 `json:"upper"`
}

// Guardrail is a share of bad requests. The treatment may be worse than control by less than Margin. The embedded step is
// the one that decides: the step that is breached, or otherwise the present one.
type Guardrail struct {
	Name   string  `json:"name"`
	Label  string  `json:"label"` // for people
	About  string  `json:"about"`
	Over   string  `json:"over,omitempty"`
	Margin float64 `json:"margin"` // a difference of shares, like all figures here

	GuardrailStep

	Steps []GuardrailStep `json:"steps"`
}

// GuardrailStep is the state of a guardrail at one step of the ramp. It is judged by that step's requests alone.
type GuardrailStep struct {
	Step   int              `json:"step"` // index into the report's steps, from 0
	State  experiment.Guard `json:"state"`
	Early  bool             `json:"early"` // there are too few count periods or requests to pass
	Stale  bool             `json:"stale"` // at least one arm had no requests recently, so the step does not pass
	Harm   float64          `json:"harm"`  // treatment minus control within each Service, weighted by the control's mix of Services, minus Baseline
	Bounds Interval         `json:"bounds"`
	// Baseline is the same difference before anybody was treated; null if nothing is subtracted.
	Baseline     *float64 `json:"baseline"`
	Recent       *float64 `json:"recent"`  // the largest lower bound of the harm since any moment within the step; nil if no such bound is over the margin
	CountPeriods int64    `json:"windows"` // count periods of 10 s
	Control      Requests `json:"control"`
	Treated      Requests `json:"treatment"`

	Services []ServiceHarm `json:"services"` // each judged alone
	Harmed   []string      `json:"harmed,omitempty"`
	LeftOut  []LeftOut     `json:"leftOut"`
	Sentence string        `json:"sentence"`
}

// ServiceHarm is the harm of one Service, judged alone.
type ServiceHarm struct {
	Service string           `json:"service"`
	State   experiment.Guard `json:"state"`
	Harm    float64          `json:"harm"`
	Bounds  Interval         `json:"bounds"`
}

// LeftOut is a Service that had too few requests to be judged.
type LeftOut struct {
	Service string  `json:"service"`
	Share   float64 `json:"share"` // of the control's requests
}

// Requests has the requests of an arm.
type Requests struct {
	Requests int64   `json:"requests"`
	Bad      int64   `json:"bad"`
	Rate     float64 `json:"rate"` // share of bad requests, weighted by the control's mix of Services
}

// Effect compares the treatment with control by one metric, in the metric's unit.
type Effect struct {
	Metric    string     `json:"metric"`
	Label     string     `json:"label"` // for people
	About     string     `json:"about"`
	Kind      store.Kind `json:"kind"`
	Unit      string     `json:"unit"`
	Down      bool       `json:"lessIsBetter"`
	Control   Level      `json:"control"`
	Treatment Level      `json:"treatment"`
	Method    string     `json:"method"`
	Speaks    bool       `json:"speaks"` // whether the method can say anything yet
	By        Quantity   `json:"by"`     // the quantity that the decision, the sentence and the plot use
	// Difference and the fields after it are null as long as Speaks is false. Only Difference may be given earlier.
	Difference *float64 `json:"difference"`
	// Interval is the interval of the difference, at 1 - alpha; null if the lift decides. For a secondary metric, this
	// interval and that of the lift are wider, because Holm is larger than P: they exclude 0 exactly if Holm is at most
	// alpha.
	Interval Interval `json:"interval"`
	P        *float64 `json:"p"`    // of this metric alone
	Holm     *float64 `json:"holm"` // P adjusted for the number of secondary metrics; null for the primary metric and for noWorse metrics
	Lift     *Lift    `json:"lift"` // null if the difference decides and the lift would not lead to the same verdict
	CUPED    *CUPED   `json:"cuped"`
	// Detectable is the relative effect that the completed units can find with the design's power. DetectableAtEnd is the
	// same for the planned end. Both are null if a permutation test judges, or if nothing is known yet.
	Detectable      *float64 `json:"detectable"`
	DetectableAtEnd *float64 `json:"detectableAtEnd"`
	NoWorse         *NoWorse `json:"noWorse,omitempty"` // set if the spec asks whether the metric is no worse
	// Late counts events that arrived more than Lag after the end of their windows, when these were already frozen. They
	// are not used. It is null for Warble's own metrics.
	Late   *Late   `json:"late,omitempty"`
	Note   string  `json:"note,omitempty"` // why a figure is missing
	Series []Point `json:"series"`
}

// Figure writes a value of the metric for people: a share in percent.
func (e *Effect) Figure(v *float64) string {
	switch {
	case v == nil:
		return "–"
	case e.Kind == store.Share:
		return figures.Percent(*v)
	}
	return figures.Decimal(*v)
}

// Signed writes the difference of two values.
func (e *Effect) Signed(v float64) string {
	if e.Kind == store.Share {
		return fmt.Sprintf("%+.2fpp", 100*v)
	}
	return figures.Signed(v)
}

// Range writes an interval of the difference.
func (e *Effect) Range(i Interval) string { return figures.Range(i.Lower, i.Upper, e.Signed) }

// Level is a metric's mean in an arm.
type Level struct {
	Units   int64    `json:"units"`   // randomised units that have completed and have a value
	Users   int64    `json:"users"`   // users with a value
	Missing int64    `json:"missing"` // users of completed units without a value
	Mean    *float64 `json:"mean"`    // per user
}

// Late counts the events of each arm that arrived too late to be used, and the days on which they arrived.
type Late struct {
	experiment.Counts

	Lag  experiment.Duration `json:"lag"`
	Days []store.LateDay     `json:"days"` // the days of arrival
}

// NoWorse reports whether a metric was shown to be no worse than the control by more than a margin.
type NoWorse struct {
	Margin float64          `json:"margin"` // share of the control's level: .02 is 2 %
	State  experiment.Guard `json:"state"`  // pass: it is no worse; breach: it is worse
}

// Quantity is the quantity of an effect that is judged.
type Quantity string

// The quantities: the difference is judged if users are the unit, and the lift if communities are.
const (
	ByDifference Quantity = "difference"
	ByLift       Quantity = "lift"
)

// Lift is the relative difference: .1 is 10 % more. A side is null if the data does not bound it. Value is null if the
// control's level is 0.
type Lift struct {
	Value *float64 `json:"value"`
	Lower *float64 `json:"lower"`
	Upper *float64 `json:"upper"`
}

// DayEffect is the primary metric in one part of the windows, counted from the units' entries. It shows an effect that
// wears off or grows, which a mean over the window hides. The verdict does not depend on it.
type DayEffect struct {
	Day        int      `json:"day"`   // days after the entry, from 0
	Days       int      `json:"days"`  // length of the part
	Users      int64    `json:"users"` // users whose values were read, both arms together
	Control    float64  `json:"control"`
	Treatment  float64  `json:"treatment"`
	Difference float64  `json:"difference"`
	Interval   Interval `json:"interval"` // 1 - alpha, for this part alone, with users as the units
}

// CUPED has the result of the adjustment by the units' past.
type CUPED struct {
	Theta     float64 `json:"theta"`
	Reduction float64 `json:"reduction"` // the share by which the variance of the difference became smaller, 0 to 1
}

// Point is the effect at one look.
type Point struct {
	At         time.Time `json:"at"`
	Units      int64     `json:"units"`
	Difference float64   `json:"difference"`
	Interval   Interval  `json:"interval"`
	Lift       *Lift     `json:"lift"` // set if the lift decides
}

// Latency compares the times that requests took in the functions, in milliseconds.
type Latency struct {
	Bounds    []float64  `json:"bounds"` // upper ends of the buckets; one more bucket is above the last
	Control   []int64    `json:"control"`
	Treatment []int64    `json:"treatment"`
	Quantiles []Quantile `json:"quantiles"`
}

// Quantile compares one quantile of the arms. Control, Treatment and Difference are null if it is above the last bound.
type Quantile struct {
	Q          float64  `json:"q"`
	Control    *float64 `json:"control"`
	Treatment  *float64 `json:"treatment"`
	Difference *float64 `json:"difference"`
	Interval   Interval `json:"interval"`
}

// Exposure is the number of users who had been exposed by the end of a look.
type Exposure struct {
	At        time.Time `json:"at"`
	Control   int64     `json:"control"`
	Treatment int64     `json:"treatment"`
}

// Group is a community in one arm.
type Group struct {
	Community string         `json:"community"`
	Arm       experiment.Arm `json:"arm"`
	Entered   time.Time      `json:"entered"`
	Completed bool           `json:"completed"`
	Members   int64          `json:"members"` // at its entry
	Exposed   int64          `json:"exposed"`
	Mean      *float64       `json:"mean"` // of the primary metric, per member; null unless the community has completed
}

// Split is the primary metric among the completed users of one community, if users are the unit. The verdict does not
// depend on it.
type Split struct {
	Community  string   `json:"community"` // empty for all other communities
	Control    Level    `json:"control"`
	Treatment  Level    `json:"treatment"`
	Difference *float64 `json:"difference"` // null if an arm has no users
}

// Scores has how often each score was given, by arm.
type Scores = store.Scores

// Quote is the text of somebody's feedback.
type Quote = store.Quote
