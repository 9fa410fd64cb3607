package readout

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"warble/shared/experiment"
	"warble/shared/figures"
)

// Judged returns the part of a report that decides how the experiment proceeds.
func (r *Report) Judged() (experiment.Judgement, error) {
	state, reason := r.guardrailState()
	v := experiment.Judgement{
		Health: r.redChecks(), Guardrails: state, Reason: reason, Decision: r.decision(),
		Entered: r.Units.Entered, Reachable: r.Units.Reachable, Lift: r.liftText(), Sentence: r.Sentence,
	}
	if e := r.Primary; e != nil {
		v.Metric = fmt.Sprintf("%s: %s, in %s", e.Metric, e.Label, e.Unit)
	}
	var err error
	v.Figures, err = json.Marshal(struct {
		Verdict   Outcome     `json:"verdict"`
		Method    string      `json:"method"`
		Units     Units       `json:"units"`
		Primary   *Effect     `json:"primary,omitempty"`
		Guardrail []Guardrail `json:"guardrails,omitempty"`
	}{r.Verdict, r.Method.Name, r.Units, r.Primary.withoutSeries(), r.Guardrails})
	return v, err
}

// withoutSeries returns a copy without the field that grows with time.
func (e *Effect) withoutSeries() *Effect {
	if e == nil {
		return nil
	}
	brief := *e
	brief.Series = []Point{}
	return &brief
}

// liftText is the primary metric's lift for people; empty if there is none.
func (r *Report) liftText() string {
	if r.Primary == nil || r.Primary.Lift == nil || r.Primary.Lift.Value == nil {
		return ""
	}
	return r.Primary.Lift.String()
}

// String returns the lift with its interval: +4.1% (+1.0% to +7.3%).
func (l *Lift) String() string {
	value := "no bound"
	if l.Value != nil {
		value = figures.Change(*l.Value)
	}
	return fmt.Sprintf("%s (%s)", value, figures.Range(l.Lower, l.Upper, figures.Change))
}

// ParseLift reads what String has written. The figures have only the digits of the text. ok is false if the text is not a
// lift.
func ParseLift(text string) (l Lift, ok bool) {
	value, interval, found := strings.Cut(strings.TrimSuffix(text, ")"), " (")
	if !found {
		return Lift{}, false
	}
	figure := func(text string) *float64 {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil {
			return nil
		}
		share := percent / 100
		return &share
	}
	l.Value = figure(value)
	lower, upper, both := strings.Cut(interval, " to ")
	switch {
	case both:
		l.Lower, l.Upper = figure(lower), figure(upper)
	case strings.HasSuffix(interval, " or more"):
		l.Lower = figure(strings.TrimSuffix(interval, " or more"))
	default:
		l.Upper = figure(strings.TrimSuffix(interval, " or less"))
	}
	return l, l.Value != nil
}

// redChecks returns the reasons why the verdict is withheld; empty if it is not.
func (r *Report) redChecks() string {
	var reasons []string
	for _, c := range r.Health {
		if c.State == Red {
			reasons = append(reasons, c.Name+": "+c.Detail)
		}
	}
	return strings.Join(reasons, "; ")
}

// decision returns the primary metric's decision: the first that applies of harm, win and not worth it. Otherwise it is
// inconclusive from the planned end on, and undecided before. An observation decides nothing.
func (r *Report) decision() experiment.Decision {
	e := r.Primary
	if e == nil || !e.Speaks || r.Observational {
		return r.inconclusiveOrUndecided()
	}
	if d := e.decision(float64(r.Spec.Metrics.Primary.MinimumEffect)); d != experiment.Undecided {
		return d
	}
	return r.inconclusiveOrUndecided()
}

// decision returns what the interval of the deciding quantity says.
func (e *Effect) decision(minimum float64) experiment.Decision {
	i := e.decisiveInterval()
	return decide(i.Lower, i.Upper, e.worth(minimum), e.Down)
}

// decisiveInterval returns the interval of the deciding quantity; without sides if there is none.
func (e *Effect) decisiveInterval() Interval {
	switch {
	case e.By != ByLift:
		return e.Interval
	case e.Lift == nil:
		return Interval{}
	}
	return Interval{e.Lift.Lower, e.Lift.Upper}
}

// worth converts a share of the control's level to the deciding quantity; nil if the control has no level.
func (e *Effect) worth(minimum float64) *float64 {
	switch {
	case e.By == ByLift:
		return &minimum
	case e.Control.Mean == nil:
		return nil
	}
	worth := minimum * *e.Control.Mean
	return &worth
}

// decide decides by an interval and the smallest effect that is worth having. If down, smaller values are better.
func decide(lower, upper, worth *float64, down bool) experiment.Decision {
	if down {
		lower, upper = negated(upper), negated(lower)
	}
	switch {
	case upper != nil && *upper < 0:
		return experiment.Harm
	case lower != nil && *lower > 0:
		return experiment.Win
	case upper != nil && worth != nil && *upper < *worth:
		return experiment.NotWorthIt
	}
	return experiment.Undecided
}

func (r *Report) inconclusiveOrUndecided() experiment.Decision {
	if r.Method.Ended {
		return experiment.Inconclusive
	}
	return experiment.Undecided
}

func negated(v *float64) *float64 {
	if v == nil {
		return nil
	}
	n := -*v
	return &n
}

// conclude writes the verdict, its sentence and what to do.
func (r *reading) conclude() {
	report := r.report
	guard, reason := report.guardrailState()
	decision := report.decision()
	switch {
	case r.begin.IsZero():
		report.Verdict, report.Sentence = Waiting, "The experiment has not begun: nobody is assigned yet."
	case guard == experiment.GuardBreach:
		report.Verdict, report.Sentence = Breach, "Roll it back: "+reason+"."
	case report.redChecks() != "":
		report.Verdict, report.Sentence = Withheld, "No verdict, because the experiment itself is not sound: "+report.redChecks()+"."
	case report.Spec.Unit == experiment.Request:
		report.Verdict, report.Sentence = Safe, "The treatment serves as well as the control: every guardrail passes."
		if guard != experiment.GuardPass {
			report.Verdict, report.Sentence = Waiting, "Not yet known: "+reason+"."
		} else if len(report.Guardrails) == 0 {
			report.Verdict, report.Sentence = Waiting, "No verdict is possible: requests are judged by guardrails alone, and this experiment has none."
		}
	case decision == experiment.Undecided:
		report.Verdict, report.Sentence = Waiting, report.waitingSentence()
	default:
		report.Verdict, report.Sentence = Outcome(decision), report.decidedSentence(decision)
		if decision == experiment.Win && guard != experiment.GuardPass {
			report.Sentence += " It is not promoted until every guardrail passes: " + reason + "."
		}
	}
	if report.Observational {
		report.Sentence = "This is an observation, not an experiment: the arms were chosen by hand, so a difference may come from who is in them and not from the feature. " + report.Sentence
	}
	report.Next = report.next(decision, guard)
}

func (r *Report) waitingSentence() string {
	units := fmt.Sprintf("%s in the control and %s in the treatment have completed their window of %s", figures.Count(r.Units.Completed.Control, r.Spec.Noun()), figures.Whole(r.Units.Completed.Treatment), r.Spec.Metrics.Window)
	switch m := r.Method; {
	case m.Speaks:
		return fmt.Sprintf("Not yet decided: %s. %s so far.", units, r.primaryInWords())
	case m.SpeaksAt != nil:
		return fmt.Sprintf("Not yet decided: no verdict is possible before %s. %s.", m.SpeaksAt.Format("2006-01-02 15:04 MST"), units)
	}
	return fmt.Sprintf("Not yet decided: no verdict is possible before the hold of the last step is over. %s.", units)
}

func (r *Report) decidedSentence(d experiment.Decision) string {
	e := r.Primary
	by := fmt.Sprintf("by %s over %s in the control and %s in the treatment", map[string]string{Permutation: "a " + Permutation, Sequence: "a " + Sequence, Welch: Welch}[e.Method], figures.Count(e.Control.Units, r.Spec.Noun()), figures.Whole(e.Treatment.Units))
	switch d {
	case experiment.Harm:
		return fmt.Sprintf("The feature harms. %s, %s.", r.primaryInWords(), by)
	case experiment.Win:
		return fmt.Sprintf("The feature helps. %s, %s.", r.primaryInWords(), by)
	case experiment.NotWorthIt:
		least := r.Spec.Metrics.Primary.MinimumEffect
		worth := least.String()
		if e.By == ByDifference {
			amount := e.worth(float64(least))
			worth = fmt.Sprintf("%s (%s)", e.Figure(amount), least)
		}
		return fmt.Sprintf("The feature is not worth having. %s, which is less than the %s that would be worth it, %s.", r.primaryInWords(), worth, by)
	}
	switch {
	case r.Observational:
		return fmt.Sprintf("%s.", r.primaryInWords())
	case e.decisiveInterval() == Interval{}:
		why := e.Note
		if why == "" {
			why = "too few units completed"
		}
		return fmt.Sprintf("The experiment ended without an answer: %s; %s in the control and %s in the treatment completed.", why, figures.Count(r.Units.Completed.Control, r.Spec.Noun()), figures.Whole(r.Units.Completed.Treatment))
	}
	return fmt.Sprintf("The experiment ended without an answer. %s, %s.", r.primaryInWords(), by)
}

// primaryInWords describes the primary metric: the levels, the deciding quantity, and the lift if there is one.
func (r *Report) primaryInWords() string {
	e := r.Primary
	if e.Control.Mean == nil || e.Treatment.Mean == nil || e.Difference == nil {
		return e.Label + ": at least one arm has no values yet"
	}
	text := fmt.Sprintf("%s: %s in the treatment and %s in the control", e.Label, e.Figure(e.Treatment.Mean), e.Figure(e.Control.Mean))
	if e.By == ByDifference && e.Interval != (Interval{}) {
		text += fmt.Sprintf(", a difference of %s (%s)", e.Signed(*e.Difference), e.Range(e.Interval))
	}
	if e.Lift != nil {
		text += ", " + e.Lift.String()
	}
	return text
}
