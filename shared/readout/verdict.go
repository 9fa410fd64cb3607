package readout

import (
	"encoding/json"
	"fmt"
	"strings"

	"warble/shared/experiment"
	"warble/shared/figures"
)

// Judged is the part of a report by which an experiment moves.
func (r *Report) Judged() (experiment.Verdict, error) {
	state, reason := r.guard()
	v := experiment.Verdict{
		Health: r.red(), Guardrails: state, Reason: reason, Decision: r.decision(),
		Entered: r.Units.Entered, Reachable: r.Units.Reachable, Lift: r.lift(), Sentence: r.Sentence,
	}
	var err error
	v.Figures, err = json.Marshal(struct {
		Verdict   Verdict     `json:"verdict"`
		Method    string      `json:"method"`
		Units     Units       `json:"units"`
		Primary   *Effect     `json:"primary,omitempty"`
		Guardrail []Guardrail `json:"guardrails,omitempty"`
	}{r.Verdict, r.Method.Name, r.Units, r.Primary.figures(), r.Guardrails})
	return v, err
}

// figures leaves out what grows with time.
func (e *Effect) figures() *Effect {
	if e == nil {
		return nil
	}
	brief := *e
	brief.Series = []Point{}
	return &brief
}

// lift is the primary metric's, for people; empty where none can be told.
func (r *Report) lift() string {
	if r.Primary == nil || r.Primary.Lift == nil {
		return ""
	}
	l := r.Primary.Lift
	return fmt.Sprintf("%s (%s to %s)", figures.Change(l.Value), figures.Change(l.Lower), figures.Change(l.Upper))
}

// red is why the verdict is withheld, empty where it is not.
func (r *Report) red() string {
	var reasons []string
	for _, c := range r.Health {
		if c.State == Red {
			reasons = append(reasons, c.Name+": "+c.Detail)
		}
	}
	return strings.Join(reasons, "; ")
}

// decision is the primary metric's, the first that holds of harm, win, not worth it; inconclusive at the planned end; and
// undecided before. What nobody randomised decides nothing.
func (r *Report) decision() experiment.Decision {
	e := r.Primary
	if e == nil || !r.Method.Speaks || e.Interval == (Interval{}) || r.Observational {
		return r.open()
	}
	lower, upper := e.Interval.Lower, e.Interval.Upper
	if e.Down { // what is less is better
		lower, upper = negative(upper), negative(lower)
	}
	switch {
	case upper != nil && *upper < 0:
		return experiment.Harm
	case lower != nil && *lower > 0:
		return experiment.Win
	case upper != nil && e.Control.Mean != nil && *upper < r.worth():
		return experiment.NotWorthIt
	}
	return r.open()
}

// worth is the least difference that is worth having.
func (r *Report) worth() float64 {
	return float64(r.Spec.Metrics.Primary.MinimumEffect) * *r.Primary.Control.Mean
}

func (r *Report) open() experiment.Decision {
	if r.Method.Ended {
		return experiment.Inconclusive
	}
	return experiment.Undecided
}

func negative(v *float64) *float64 {
	if v == nil {
		return nil
	}
	n := -*v
	return &n
}

// conclude words the verdict.
func (r *reading) conclude() {
	report := r.report
	guard, reason := report.guard()
	decision := report.decision()
	switch {
	case r.begin.IsZero():
		report.Verdict, report.Sentence = Waiting, "The experiment has not begun: nobody is assigned yet."
	case guard == experiment.GuardBreach:
		report.Verdict, report.Sentence = Breach, "Roll it back: "+reason+"."
	case report.red() != "":
		report.Verdict, report.Sentence = Withheld, "No verdict, for the experiment itself is not sound: "+report.red()+"."
	case report.Spec.Unit == experiment.Request:
		report.Verdict, report.Sentence = Safe, "The treatment serves as well as the control: every guardrail passes."
		if guard != experiment.GuardPass {
			report.Verdict, report.Sentence = Waiting, "Not yet known: "+reason+"."
		} else if len(report.Guardrails) == 0 {
			report.Verdict, report.Sentence = Waiting, "Nothing can be said: requests are judged by guardrails, and there are none."
		}
	case decision == experiment.Undecided:
		report.Verdict, report.Sentence = Waiting, report.waits()
	default:
		report.Verdict, report.Sentence = Verdict(decision), report.decided(decision)
		if decision == experiment.Win && guard != experiment.GuardPass {
			report.Sentence += " It is not promoted while a guardrail is open: " + reason + "."
		}
	}
	if report.Observational {
		report.Sentence = "This is an observation, no experiment: the arms were chosen by hand, so that a difference may be theirs and not the feature's. " + report.Sentence
	}
}

func (r *Report) waits() string {
	units := fmt.Sprintf("%s in the control and %s in the treatment have completed their %s", figures.Count(r.Units.Completed.Control, string(r.Units.Kind)), figures.Whole(r.Units.Completed.Treatment), r.Spec.Metrics.Window)
	if r.Method.Speaks {
		return fmt.Sprintf("Not yet decided: %s. So far %s.", units, r.measured())
	}
	return fmt.Sprintf("Not decisive before %s: %s.", r.Method.SpeaksAt.Format("2006-01-02 15:04 MST"), units)
}

func (r *Report) decided(d experiment.Decision) string {
	e := r.Primary
	by := fmt.Sprintf("by %s over %s in the control and %s in the treatment", "a "+r.Method.Name, figures.Count(r.Units.Completed.Control, string(r.Units.Kind)), figures.Whole(r.Units.Completed.Treatment))
	switch d {
	case experiment.Harm:
		return fmt.Sprintf("The feature harms: %s, %s.", r.measured(), by)
	case experiment.Win:
		return fmt.Sprintf("The feature helps: %s, %s.", r.measured(), by)
	case experiment.NotWorthIt:
		// What decides is the difference. The relative interval is another, and wider: it may reach beyond what would be worth it.
		worth := r.worth()
		return fmt.Sprintf("The feature is not worth having: %s, %s, which is short of the %s (%s) that would be worth it, %s.", e.levels(), e.apart(), e.Figure(&worth), r.Spec.Metrics.Primary.MinimumEffect, by)
	}
	if r.Observational {
		return fmt.Sprintf("%s.", r.measured())
	}
	if e.Interval == (Interval{}) {
		return fmt.Sprintf("It ended with no answer: too few units completed, %s in the control and %s in the treatment, or none differs.", figures.Count(r.Units.Completed.Control, string(r.Units.Kind)), figures.Whole(r.Units.Completed.Treatment))
	}
	return fmt.Sprintf("It ended with no answer: %s, %s.", r.measured(), by)
}

// measured is the primary metric in words.
func (r *Report) measured() string {
	e := r.Primary
	if e.Control.Mean == nil || e.Treatment.Mean == nil || e.Difference == nil {
		return e.Metric + " has no values in both arms"
	}
	switch {
	case e.Lift != nil:
		return e.levels() + ", " + r.lift()
	case e.Interval != (Interval{}):
		return e.levels() + ", " + e.apart()
	}
	return e.levels()
}

func (e *Effect) levels() string {
	return fmt.Sprintf("%s is %s in the treatment and %s in the control", e.Metric, e.Figure(e.Treatment.Mean), e.Figure(e.Control.Mean))
}

func (e *Effect) apart() string {
	return fmt.Sprintf("a difference of %s (%s)", e.Signed(*e.Difference), e.Range(e.Interval))
}
