// Package report writes a readout for those who read it: text for a terminal, JSON for programs, Markdown as the record of
// a decision, and HTML with plots. Two of the same readout are the same to the byte.
package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/readout"
)

// Schema is the JSON Schema of what JSON writes.
//
//go:embed schema.json
var Schema []byte

// JSON writes all of a readout. Fields may be added in later versions; those that are there keep their meaning.
func JSON(w io.Writer, r readout.Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// row is a line of a table.
type row []string

// summary are the facts above all tables.
func summary(r *readout.Report) (rows []row) {
	u := r.Units
	if u.Kind != experiment.Request {
		rows = append(rows, row{"Units", fmt.Sprintf("%s of %s entered, %s control and %s treatment; %s and %s completed their %s; %s",
			figures.Count(u.Entered.Control+u.Entered.Treatment, string(u.Kind)), figures.Whole(u.Reachable), figures.Whole(u.Entered.Control), figures.Whole(u.Entered.Treatment),
			figures.Whole(u.Completed.Control), figures.Whole(u.Completed.Treatment), r.Spec.Metrics.Window, planned(u.Planned))})
		rows = append(rows, row{"Users", fmt.Sprintf("%s exposed to the control, %s to the treatment", figures.Whole(u.Users.Control), figures.Whole(u.Users.Treatment))})
	}
	rows = append(rows, row{"Method", method(r)})
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, fmt.Sprintf("%d%% from %s", s.Percent, minute(s.At)))
	}
	if len(steps) > 0 {
		rows = append(rows, row{"Steps", strings.Join(steps, ", ")})
	}
	rows = append(rows, row{"Phase", fmt.Sprintf("%s; figures up to %s", r.Phase, minute(r.Until))})
	return append(rows, row{"Assigned by", assignedBy(r)})
}

func planned(units int64) string {
	if units == 0 {
		return "it ends by time alone"
	}
	return figures.Whole(units) + " planned"
}

func assignedBy(r *readout.Report) string {
	if r.Observational {
		return "hand: a list"
	}
	return fmt.Sprintf("hash, salt %q", r.Salt)
}

func method(r *readout.Report) string {
	m := r.Method
	text := m.Name
	switch {
	case m.Name == readout.Sequence:
		text += ", at any look"
	case m.Name == readout.Guards:
	case m.Speaks:
		text += ", once, at the planned end"
	case m.SpeaksAt != nil:
		text = "not decisive before " + minute(*m.SpeaksAt)
	}
	if m.Ended {
		text += "; the planned end has come"
	}
	return text
}

// confidence names the interval.
func confidence(r *readout.Report) string {
	alpha := r.Spec.Alpha
	if alpha == 0 {
		alpha = .05
	}
	return figures.Percent(1 - alpha)
}

// effectRow is a metric in both arms.
func effectRow(e *readout.Effect) row {
	p := "–"
	if e.P != nil {
		p = figures.P(*e.P)
	}
	if e.Holm != nil {
		p = figures.P(*e.Holm)
	}
	return row{e.Metric, e.Figure(e.Control.Mean), e.Figure(e.Treatment.Mean), difference(e), interval(e), p}
}

func difference(e *readout.Effect) string {
	if e.Difference == nil {
		return "–"
	}
	return e.Signed(*e.Difference)
}

func interval(e *readout.Effect) string {
	if e.Interval == (readout.Interval{}) {
		return "–"
	}
	return e.Range(e.Interval)
}

// effectNotes are what a row cannot say.
func effectNotes(e *readout.Effect) (notes []string) {
	if l := e.Lift; l != nil {
		notes = append(notes, fmt.Sprintf("%s (%s to %s)", figures.Change(l.Value), figures.Change(l.Lower), figures.Change(l.Upper)))
	}
	if missing := e.Control.Missing + e.Treatment.Missing; missing > 0 {
		notes = append(notes, fmt.Sprintf("%s without a value: %s in control, %s in treatment", figures.Count(missing, "user"), figures.Whole(e.Control.Missing), figures.Whole(e.Treatment.Missing)))
	}
	if e.CUPED != nil {
		notes = append(notes, fmt.Sprintf("the past, which explains %s of the variance, is taken out of the difference", figures.Percent(e.CUPED.Reduction)))
	}
	if e.Note != "" {
		notes = append(notes, e.Note)
	}
	return notes
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

// splitRows are communities whose users are in both arms.
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

// splitNote keeps readers from choosing the community that suits them.
func splitNote(r *readout.Report) string {
	return r.Primary.Metric + " of completed users, of the largest communities. It describes: among many communities some differ by chance, and none of them decides anything."
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

// plain leaves nothing in what a user wrote that would move a cursor or turn the text around.
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
