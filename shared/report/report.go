// Package report writes a readout for its readers: text for a terminal, JSON for programs, Markdown as the record of a
// decision, and HTML with plots. Equal readouts are written the same, to the byte.
package report

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/readout"
	"warble/shared/store"
)

// Schema is the JSON Schema of what JSON writes.
//
//go:embed schema.json
var Schema []byte

// JSON writes all of a readout. Later versions may add fields, but existing fields keep their meaning.
func JSON(w io.Writer, r readout.Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// row is a line of a table.
type row []string

// summary has the facts that stand above all tables.
func summary(r *readout.Report) (rows []row) {
	u := r.Units
	if u.Kind != experiment.Request && read(r) {
		rows = append(rows, row{"Units", fmt.Sprintf("%s of %s entered, %s control and %s treatment; %s and %s completed their window of %s; %s",
			figures.Count(u.Entered.Control+u.Entered.Treatment, r.Spec.Noun()), figures.Whole(u.Reachable), figures.Whole(u.Entered.Control), figures.Whole(u.Entered.Treatment),
			figures.Whole(u.Completed.Control), figures.Whole(u.Completed.Treatment), r.Spec.Metrics.Window, plannedText(u.Planned))})
		rows = append(rows, row{capitalised(people(r)), fmt.Sprintf("%s exposed to the control, %s to the treatment", figures.Whole(u.Users.Control), figures.Whole(u.Users.Treatment))})
	}
	rows = append(rows, row{"Method", methodText(r)})
	if found := detectableText(r); found != "" {
		rows = append(rows, row{"Can find", found})
	}
	if len(r.Steps) > 0 {
		rows = append(rows, row{"Steps", stepsText(r)})
	}
	if !read(r) {
		return append(rows, row{"Phase", string(r.Phase)})
	}
	rows = append(rows, row{"Phase", fmt.Sprintf("%s; figures up to %s", r.Phase, minute(r.Until))})
	if known := knownBy(r); known != "" {
		rows = append(rows, row{"Known by", known})
	}
	return append(rows, row{"Assigned by", assignedBy(r)})
}

// read reports whether r has figures of the database. If it has none, a zero would be wrong.
func read(r *readout.Report) bool { return !r.Until.IsZero() }

// people is the word for those who were exposed: users or visitors.
func people(r *readout.Report) string { return figures.Plural(r.Spec.Identity.Person()) }

// detectableText says which effect can be found, now and at the planned end; empty if that is not known.
func detectableText(r *readout.Report) string {
	if r.Primary == nil || r.Primary.Detectable == nil {
		return ""
	}
	text := figures.Change(*r.Primary.Detectable) + " or more now"
	if end := r.Primary.DetectableAtEnd; end != nil {
		text += ", " + figures.Change(*end) + " or more at the planned end"
	}
	power := r.Spec.Power
	if power == 0 {
		power = .8
	}
	return text + fmt.Sprintf(", with power %g", power)
}

// stepsText lists the steps of the ramp that were reached.
func stepsText(r *readout.Report) string {
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, fmt.Sprintf("%d%% from %s", s.Percent, minute(s.At)))
	}
	return strings.Join(steps, ", ")
}

func plannedText(units int64) string {
	if units == 0 {
		return "no sample size is set: the experiment ends on a date"
	}
	return figures.Whole(units) + " planned"
}

// knownBy says how the edge knows the units, if these do not belong to Warble.
func knownBy(r *readout.Report) string {
	identity := &r.Spec.Identity
	if cookie := identity.Visitors(); cookie != "" {
		return "the cookie " + cookie
	}
	if identity.Issuer != nil {
		return "the tokens of " + identity.Issuer.URL
	}
	return ""
}

func assignedBy(r *readout.Report) string {
	if r.Observational {
		return "hand: a list"
	}
	return fmt.Sprintf("hash, salt %q", r.Salt)
}

func methodText(r *readout.Report) string {
	m := r.Method
	text := m.Name
	switch {
	case m.Name == readout.Sequence:
		text += ", at any look"
	case m.Name == readout.Guards:
	case m.Speaks:
		text += ", once, at the planned end"
	case m.SpeaksAt != nil:
		text = "no verdict before " + minute(*m.SpeaksAt)
	}
	if m.Ended {
		text += "; the planned end has come"
	}
	return text
}

// confidence is the level of the intervals: 95%.
func confidence(r *readout.Report) string { return figures.Percent(1 - alphaOf(r)) }

func alphaOf(r *readout.Report) float64 { return cmp.Or(r.Spec.Alpha, .05) }

// effectRow is a metric's row in a table of metrics.
func effectRow(e *readout.Effect) row {
	p := "–"
	if e.P != nil {
		p = figures.P(*e.P)
	}
	if e.Holm != nil {
		p = figures.P(*e.Holm)
	}
	return row{e.Label, e.Figure(e.Control.Mean), e.Figure(e.Treatment.Mean), differenceText(e), intervalText(e), p}
}

// adjustedNote says that p and the intervals of the secondary metrics are adjusted for their number; empty if there is
// nothing to adjust.
func adjustedNote(r *readout.Report) string {
	n := 0
	for i := range r.Secondary {
		if r.Secondary[i].Holm != nil {
			n++
		}
	}
	if n < 2 {
		return ""
	}
	return "The p values and the intervals of the secondary metrics are adjusted for the number of these metrics (Holm), so that none of them looks significant by chance. An interval excludes 0 exactly if p is at most " + figures.Percent(alphaOf(r)) + "."
}

func differenceText(e *readout.Effect) string {
	switch {
	case e.By == readout.ByLift && e.Lift != nil && e.Lift.Value != nil:
		return figures.Change(*e.Lift.Value)
	case e.Difference == nil:
		return "–"
	}
	return e.Signed(*e.Difference)
}

func intervalText(e *readout.Effect) string {
	switch {
	case e.By == readout.ByLift && e.Lift != nil:
		return figures.Range(e.Lift.Lower, e.Lift.Upper, figures.Change)
	case e.Interval == (readout.Interval{}):
		return "–"
	}
	return e.Range(e.Interval)
}

// effectNotes has what does not fit into a metric's row.
func effectNotes(r *readout.Report, e *readout.Effect) (notes []string) {
	if e.Late != nil { // a metric that people defined, which the docs cannot describe
		notes = append(notes, fmt.Sprintf("%s, in %s: %s", e.Label, e.Unit, e.About))
	}
	if e.By == readout.ByDifference && e.Lift != nil {
		notes = append(notes, e.Lift.String())
	}
	if e.By == readout.ByLift && e.Difference != nil {
		notes = append(notes, "a difference of "+e.Signed(*e.Difference))
	}
	if missing := e.Control.Missing + e.Treatment.Missing; missing > 0 {
		notes = append(notes, fmt.Sprintf("%s without a value: %s in control, %s in treatment", figures.Count(missing, r.Spec.Identity.Person()), figures.Whole(e.Control.Missing), figures.Whole(e.Treatment.Missing)))
	}
	if l := e.Late; l != nil && l.Control+l.Treatment > 0 {
		notes = append(notes, fmt.Sprintf("%s not used, because they arrived more than %s after the end of their window: %s in control, %s in treatment",
			figures.Count(l.Control+l.Treatment, "event"), l.Lag, figures.Whole(l.Control), figures.Whole(l.Treatment)))
		notes = append(notes, lateDays(l.Days))
	}
	if n := e.NoWorse; n != nil {
		said := map[experiment.Guard]string{experiment.GuardPass: "worse by less than the limit of %s", experiment.GuardBreach: "worse by more than the limit of %s", experiment.GuardInconclusive: "not known yet whether it is worse by less than the limit of %s"}
		notes = append(notes, fmt.Sprintf(said[n.State], figures.Percent(n.Margin)))
	}
	if e.CUPED != nil {
		notes = append(notes, fmt.Sprintf("the difference is adjusted by the units' past, which explains %s of its variance", figures.Percent(e.CUPED.Reduction)))
	}
	if e.Note != "" {
		notes = append(notes, e.Note)
	}
	return notes
}

// mostLateDays is how many days of late events a report names.
const mostLateDays = 7

// lateDays says on which days late events arrived, the last days at the end.
func lateDays(days []store.LateDay) string {
	var said []string
	if more := len(days) - mostLateDays; more > 0 {
		var before int64
		for _, d := range days[:more] {
			before += d.Control + d.Treatment
		}
		earlier := "1 earlier day"
		if more > 1 {
			earlier = figures.Whole(int64(more)) + " earlier days"
		}
		said, days = append(said, fmt.Sprintf("%s on %s", figures.Whole(before), earlier)), days[more:]
	}
	for _, d := range days {
		said = append(said, fmt.Sprintf("%s and %s on %s", figures.Whole(d.Control), figures.Whole(d.Treatment), d.Day))
	}
	return "they arrived, in control and treatment: " + strings.Join(said, ", ")
}

func latencyRows(l *readout.Latency) (rows []row) {
	ms := func(v *float64) string {
		if v == nil {
			return "–"
		}
		return figures.Decimal(*v) + " ms"
	}
	for _, q := range l.Quantiles {
		r := row{fmt.Sprintf("p%g", 100*q.Q), ms(q.Control), ms(q.Treatment), "–", "not known"}
		if q.Difference != nil {
			r[3], r[4] = figures.Signed(*q.Difference), "too few requests"
			if q.Interval != (readout.Interval{}) {
				r[4] = figures.Range(q.Interval.Lower, q.Interval.Upper, figures.Signed)
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// guardRow is the present state of a guardrail, or its state at one step of the ramp.
type guardRow struct {
	*readout.Guardrail

	step           string // such as 50%; empty if the ramp has reached at most one step
	state          experiment.Guard
	sentence, note string // note is the sentence without the title
}

// name is the guardrail's title, with the step.
func (g guardRow) name() string {
	if g.step == "" {
		return g.Title()
	}
	return g.Title() + " at " + g.step
}

// guardRows has one row per guardrail, or one per guardrail and step if the ramp has reached several steps.
func guardRows(r *readout.Report) (rows []guardRow) {
	for i := range r.Guardrails {
		g := &r.Guardrails[i]
		add := func(step string, s *readout.GuardrailStep) {
			rows = append(rows, guardRow{g, step, s.State, s.Sentence, strings.TrimPrefix(s.Sentence, g.Title()+": ")})
		}
		if len(g.Steps) < 2 {
			add("", &g.GuardrailStep)
			continue
		}
		for j := range g.Steps {
			add(fmt.Sprintf("%d%%", r.Steps[g.Steps[j].Step].Percent), &g.Steps[j])
		}
	}
	return rows
}

// dayRows has the primary metric by day since entry.
func dayRows(r *readout.Report) (rows []row) {
	for _, d := range r.Days {
		name := fmt.Sprintf("day %d", d.Day+1)
		if d.Days > 1 {
			name = fmt.Sprintf("days %d to %d", d.Day+1, d.Day+d.Days)
		}
		rows = append(rows, row{name, figures.Whole(d.Users), r.Primary.Figure(&d.Control), r.Primary.Figure(&d.Treatment), r.Primary.Signed(d.Difference), r.Primary.Range(d.Interval)})
	}
	return rows
}

// dayNote warns readers not to take a day for a verdict.
func dayNote(r *readout.Report) string {
	return r.Primary.Label + " by day since entry. It shows an effect that wears off, which a mean over the whole window hides. It is a description only: the verdict does not depend on it."
}

// nextText says what to do now.
func nextText(r *readout.Report) string {
	n := r.Next
	if n.Do == "" {
		return "Nothing is known yet."
	}
	text := strings.ToUpper(string(n.Do[:1])) + string(n.Do[1:])
	if n.Until != nil {
		text += " until " + minute(*n.Until)
	}
	text += ": " + n.Why + "."
	if n.Command != "" {
		text += " " + n.Command
	}
	return text
}

// splitRows has the primary metric by community, if users are the unit.
func splitRows(r *readout.Report) (rows []row) {
	for _, s := range r.Splits {
		name, difference := s.Community, "–"
		if name == "" {
			name = "all others"
		}
		if s.Difference != nil {
			difference = r.Primary.Signed(*s.Difference)
		}
		rows = append(rows, row{name, figures.Whole(s.Control.Users), r.Primary.Figure(s.Control.Mean), figures.Whole(s.Treatment.Users), r.Primary.Figure(s.Treatment.Mean), difference})
	}
	return rows
}

// splitNote warns readers not to choose the community that suits them.
func splitNote(r *readout.Report) string {
	return r.Primary.Label + " of " + people(r) + " with a full window, in the largest communities. It is a description only: among many communities some differ by chance, and the verdict does not depend on them."
}

// scoreRow is how often a score was given in each arm. Shares has these numbers as shares of all feedback in the arm.
type scoreRow struct {
	Score              int
	Control, Treatment int64
	Shares             [2]float64
}

// scoreRows has the feedback by score, the best first; none if there is no feedback.
func scoreRows(r *readout.Report) (rows []scoreRow) {
	var totals [2]int64
	for i := range r.Scores.Control {
		totals[0] += r.Scores.Control[i]
		totals[1] += r.Scores.Treatment[i]
	}
	if totals == [2]int64{} {
		return nil
	}
	for i := range r.Scores.Control {
		at := len(r.Scores.Control) - 1 - i
		s := scoreRow{Score: at + 1, Control: r.Scores.Control[at], Treatment: r.Scores.Treatment[at]}
		for arm, n := range []int64{s.Control, s.Treatment} {
			s.Shares[arm] = float64(n) / float64(max(1, totals[arm]))
		}
		rows = append(rows, s)
	}
	return rows
}

// cells returns the row's cells.
func (s scoreRow) cells() row {
	cell := func(n int64, share float64) string {
		return fmt.Sprintf("%s (%s)", figures.Whole(n), figures.Percent(math.Round(100*share)/100))
	}
	return row{fmt.Sprintf("%d of 5", s.Score), cell(s.Control, s.Shares[0]), cell(s.Treatment, s.Shares[1])}
}

func groupRows(r *readout.Report) (rows []row) {
	for _, g := range r.Groups {
		mean := "–"
		if g.Mean != nil {
			mean = r.Primary.Figure(g.Mean)
		}
		rows = append(rows, row{g.Community, string(g.Arm), g.Entered.Format(time.DateOnly), figures.Whole(g.Members), figures.Whole(g.Exposed), mean})
	}
	return rows
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// plain removes from a user's text all characters that would move a cursor or change the direction of the text.
func plain(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return ' '
		}
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, text)), " ")
}
