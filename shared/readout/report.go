// Package readout says what came of an experiment, from the rows of PostgreSQL alone: whether it is sound, whether it harms
// the service, whether it helps. Health comes first, then guardrails, then the primary metric, then the rest; what is red
// in health withholds the verdict.
package readout

import (
	"fmt"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/store"
)

// Report is a readout at one time. Two of the same rows and the same time are the same.
type Report struct {
	Experiment string    `json:"experiment"`
	At         time.Time `json:"at"`
	// Until is what the figures reach to: At, or the experiment's conclusion, after which arms are no longer apart.
	Until     time.Time        `json:"until"`
	Spec      experiment.Spec  `json:"spec"`
	Salt      string           `json:"salt"`
	Phase     experiment.Phase `json:"phase"`
	StartedAt time.Time        `json:"startedAt"`
	Steps     []Step           `json:"steps"`
	History   []Transition     `json:"history"`

	Verdict  Verdict `json:"verdict"`
	Sentence string  `json:"sentence"`
	Next     Next    `json:"next"`
	// Observational is set where nothing was randomised.
	Observational bool `json:"observational"`

	Units      Units       `json:"units"`
	Method     Method      `json:"method"`
	Health     []Check     `json:"health"`
	Guardrails []Guardrail `json:"guardrails"`
	Primary    *Effect     `json:"primary"` // nil where requests are split, which have no outcome of their own
	Secondary  []Effect    `json:"secondary"`
	Days       []DayEffect `json:"byDay"`   // the primary metric by day since entry, where it has one
	Latency    *Latency    `json:"latency"` // nil where the functions have counted nothing
	Exposures  []Exposure  `json:"exposures"`
	Groups     []Group     `json:"communities"` // where they are the unit
	Splits     []Split     `json:"byCommunity"` // where users are
	Scores     Scores      `json:"scores"`      // of all feedback
	Quotes     []Quote     `json:"feedback"`
}

// Verdict is the outcome in two words: a Decision of package experiment, or one of these.
type Verdict string

// What a verdict is besides a decision.
const (
	Withheld Verdict = "withheld" // health is red
	Breach   Verdict = "breach"   // of a guardrail
	Safe     Verdict = "safe"     // requests were split, and every guardrail passes
	Waiting  Verdict = "waiting"
)

// Step is a step of the ramp that was reached: percent of all slots, in each arm.
type Step struct {
	At      time.Time `json:"at"`
	Percent int       `json:"percent"`
}

// Transition is a step of the experiment's life.
type Transition struct {
	At     time.Time        `json:"at"`
	Phase  experiment.Phase `json:"phase"`
	Actor  string           `json:"actor"`
	Reason string           `json:"reason"`
}

// Units are the randomised ones.
type Units struct {
	Kind      experiment.Unit   `json:"kind"`
	Reachable int64             `json:"reachable"` // by both arms and none
	Entered   experiment.Counts `json:"entered"`
	Completed experiment.Counts `json:"completed"` // their windows are over, and so they count
	Users     experiment.Counts `json:"users"`     // exposed
	Planned   int64             `json:"planned"`   // N*, of both arms; 0 where it ends by time alone
}

// Method is how the primary metric is judged, which the units that have a value of it decide.
type Method struct {
	Name string `json:"name"`
	// Speaks tells whether it says anything yet; SpeaksAt is when it does at the earliest, where that is known.
	Speaks   bool       `json:"speaks"`
	SpeaksAt *time.Time `json:"speaksAt"`
	// Ended is set from the planned end on: N* units, or the last step's hold and the window.
	Ended bool `json:"ended"`
}

// The methods, by units with a value, of the smaller arm.
const (
	None        = "none"                // under 4
	Permutation = "permutation test"    // once, at the planned end: of communities, and of users under 100
	Welch       = "Welch's t interval"  // once, at the planned end: of 50 to 99 users whose values are near enough to normal
	Sequence    = "confidence sequence" // at any look: of 100 users or more, and of communities of much the same size
	Guards      = "guardrails alone"    // where requests are split
)

// State is how a check of health stands.
type State string

// The states.
const (
	OK      State = "ok"
	Warning State = "warning"
	Red     State = "red"
	Unknown State = "unknown" // it cannot be told here, or not yet
)

// Check is one of health's.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
}

// Interval is a range; a side that the data does not bound is null.
type Interval struct {
	Lower *float64 `json:"lower"`
	Upper *float64 `json:"upper"`
}

// Guardrail is a share of bad requests, which the treatment may worsen by less than Margin. What it says now is what the present
// step says, or the step that is breached.
type Guardrail struct {
	Name   string  `json:"name"`
	Label  string  `json:"label"` // for people
	About  string  `json:"about"`
	Over   string  `json:"over,omitempty"`
	Margin float64 `json:"margin"` // a difference of shares, as all figures here

	GuardrailStep

	Steps []GuardrailStep `json:"steps"`
}

// GuardrailStep is how a guardrail stands at one step of the ramp, judged by that step's requests alone.
type GuardrailStep struct {
	Step   int              `json:"step"` // place in the report's steps, from 0
	State  experiment.Guard `json:"state"`
	Early  bool             `json:"early"` // too few windows or requests to pass
	Stale  bool             `json:"stale"` // no requests of both arms of late, so that it does not pass
	Harm   float64          `json:"harm"`  // treatment minus control, by Service, in the control's mix of Services, less Baseline
	Bounds Interval         `json:"bounds"`
	// Baseline is the same difference before anybody was treated; null where none is taken off.
	Baseline *float64 `json:"baseline"`
	Recent   *float64 `json:"recent"` // lower bound of the harm since a moment within the step, the largest; nil where none is over the margin
	Windows  int64    `json:"windows"`
	Control  Requests `json:"control"`
	Treated  Requests `json:"treatment"`

	Services []ServiceHarm `json:"services"` // each judged alone
	Harmed   []string      `json:"harmed,omitempty"`
	LeftOut  []LeftOut     `json:"leftOut"`
	Sentence string        `json:"sentence"`
}

// ServiceHarm is one Service judged alone.
type ServiceHarm struct {
	Service string           `json:"service"`
	State   experiment.Guard `json:"state"`
	Harm    float64          `json:"harm"`
	Bounds  Interval         `json:"bounds"`
}

// LeftOut is a Service that too few requests were made to.
type LeftOut struct {
	Service string  `json:"service"`
	Share   float64 `json:"share"` // of the control's requests
}

// Requests are an arm's.
type Requests struct {
	Requests int64   `json:"requests"`
	Bad      int64   `json:"bad"`
	Rate     float64 `json:"rate"` // of the bad ones, in the control's mix of Services
}

// Effect is the treatment against the control by one metric, in the metric's unit.
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
	Speaks    bool       `json:"speaks"` // whether the method says anything yet
	By        Quantity   `json:"by"`     // what the decision, the sentence and the plot go by
	// Difference and all after it are null while the method says nothing.
	Difference *float64 `json:"difference"`
	// Interval is of the difference, at 1 - alpha; null where the lift decides. A secondary metric's, and its lift's, is as much
	// wider as Holm is larger than P, so that it leaves out 0 exactly where Holm is at most alpha.
	Interval Interval `json:"interval"`
	P        *float64 `json:"p"`    // of this metric alone
	Holm     *float64 `json:"holm"` // P among the secondary metrics; null for the primary one, and where noWorse is asked
	Lift     *Lift    `json:"lift"` // where the difference decides, null also where it does not say the same
	CUPED    *CUPED   `json:"cuped"`
	// Detectable is the relative effect that is found with the design's power by what has completed, and DetectableAtEnd by the
	// planned end; null where a test of labels judges, or nothing is known yet.
	Detectable      *float64 `json:"detectable"`
	DetectableAtEnd *float64 `json:"detectableAtEnd"`
	NoWorse         *NoWorse `json:"noWorse,omitempty"` // where the spec wants it to be
	// Late are events that arrived after their windows were frozen, Lag after their end; they are not used. Null of Warble's own metrics.
	Late   *Late   `json:"late,omitempty"`
	Note   string  `json:"note,omitempty"` // why something of it is missing
	Series []Point `json:"series"`
}

// Figure writes a value of the metric, as people read it: a share in percent.
func (e *Effect) Figure(v *float64) string {
	switch {
	case v == nil:
		return "–"
	case e.Kind == store.Share:
		return figures.Percent(*v)
	}
	return figures.Decimal(*v)
}

// Signed writes a difference of two values.
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
	Units   int64    `json:"units"`   // randomised, completed, and with a value
	Users   int64    `json:"users"`   // that have a value
	Missing int64    `json:"missing"` // users of completed units without one
	Mean    *float64 `json:"mean"`    // per user
}

// Late is how many events of each arm came too late to count, and when.
type Late struct {
	experiment.Counts

	Lag  experiment.Duration `json:"lag"`
	Days []store.LateDay     `json:"days"` // on which they arrived
}

// NoWorse is whether a metric is shown to be no worse by more than a margin.
type NoWorse struct {
	Margin float64          `json:"margin"` // of the control's level: .02 is 2 %
	State  experiment.Guard `json:"state"`  // pass: it is no worse; breach: it is worse
}

// Quantity is what of an effect is judged.
type Quantity string

// The quantities: of users the absolute difference is judged, of communities the lift.
const (
	ByDifference Quantity = "difference"
	ByLift       Quantity = "lift"
)

// Lift is the relative difference: .1 is 10 % more. A side that the data does not bound is null, and so is the value where the
// control has nothing.
type Lift struct {
	Value *float64 `json:"value"`
	Lower *float64 `json:"lower"`
	Upper *float64 `json:"upper"`
}

// DayEffect is the primary metric in a part of the windows, counted from the units' entries: an effect that wears off, or grows,
// is seen here and in no mean over the window. It describes, and decides nothing.
type DayEffect struct {
	Day        int      `json:"day"`   // after the entry, from 0
	Days       int      `json:"days"`  // that the part has
	Users      int64    `json:"users"` // that were read, of both arms
	Control    float64  `json:"control"`
	Treatment  float64  `json:"treatment"`
	Difference float64  `json:"difference"`
	Interval   Interval `json:"interval"` // 1 - alpha of this part alone, of users as units
}

// CUPED is what the units' past has explained.
type CUPED struct {
	Theta     float64 `json:"theta"`
	Reduction float64 `json:"reduction"` // of the difference's variance, 0 to 1
}

// Point is the effect as it stood at one look.
type Point struct {
	At         time.Time `json:"at"`
	Units      int64     `json:"units"`
	Difference float64   `json:"difference"`
	Interval   Interval  `json:"interval"`
	Lift       *Lift     `json:"lift"` // where the lift decides
}

// Latency compares how long requests took the functions, in milliseconds.
type Latency struct {
	Bounds    []float64  `json:"bounds"` // of the buckets; one more is above them
	Control   []int64    `json:"control"`
	Treatment []int64    `json:"treatment"`
	Quantiles []Quantile `json:"quantiles"`
}

// Quantile compares one quantile. Control, Treatment and Difference are null where it lies above the last bound.
type Quantile struct {
	Q          float64  `json:"q"`
	Control    *float64 `json:"control"`
	Treatment  *float64 `json:"treatment"`
	Difference *float64 `json:"difference"`
	Interval   Interval `json:"interval"`
}

// Exposure is how many users had been exposed by the end of a look.
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
	Mean      *float64       `json:"mean"` // of the primary metric, per member of a completed one
}

// Split is the primary metric among the completed users of one community, where users are the unit: it describes, and
// decides nothing.
type Split struct {
	Community  string   `json:"community"` // empty for all others
	Control    Level    `json:"control"`
	Treatment  Level    `json:"treatment"`
	Difference *float64 `json:"difference"` // null where an arm has nobody
}

// Scores are how often each score was given, by arm.
type Scores = store.Scores

// Quote is a text of someone's feedback.
type Quote = store.Quote
