package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"warble/shared/readout"
)

// Markdown writes a readout as the record of a decision, to be kept with the code.
func Markdown(w io.Writer, r readout.Report) error {
	m := markdown{bufio.NewWriter(w)}
	m.printf("# %s: %s\n\n%s\n\n", r.Experiment, r.Verdict, escaped(r.Sentence))
	if about := facts(&r); r.Spec.Title != "" {
		m.table(row{"", ""}, append([]row{{"Question", r.Spec.Title}}, about...))
	}
	m.table(row{"", ""}, append([]row{{"Readout of", minute(r.At)}}, summary(&r)...))
	if len(r.Health) > 0 {
		var rows []row
		for _, c := range r.Health {
			rows = append(rows, row{c.Name, string(c.State), c.Detail})
		}
		m.section("Health", row{"Check", "State", ""}, rows)
	}
	if len(r.Guardrails) > 0 {
		var rows []row
		for _, g := range guardRows(&r) {
			rows = append(rows, row{g.name(), string(g.state), g.note})
		}
		m.section("Guardrails", row{"Guardrail", "State", ""}, rows)
	}
	if r.Primary != nil {
		m.effects(&r, "Primary metric", "p", []readout.Effect{*r.Primary})
	}
	if len(r.Secondary) > 0 {
		m.effects(&r, "Secondary metrics", "p", r.Secondary)
		if words := adjustedNote(&r); words != "" {
			m.printf("%s\n\n", escaped(words))
		}
	}
	if len(r.Days) > 0 {
		m.section("By day since entry", row{"", capitalised(people(&r)), "Control", "Treatment", "Difference", confidence(&r)}, dayRows(&r))
		m.printf("%s\n\n", escaped(dayNote(&r)))
	}
	if r.Latency != nil {
		m.section("Latency", row{"Quantile", "Control", "Treatment", "Difference, ms", confidence(&r)}, latencyRows(r.Latency))
	}
	if len(r.Groups) > 0 {
		m.section("Communities", row{"Community", "Arm", "Entered", "Members", "Exposed", "Mean"}, groupRows(&r))
	}
	if len(r.Splits) > 0 {
		m.section("By community", row{"Community", "Control", "Mean", "Treatment", "Mean", "Difference"}, splitRows(&r))
		m.printf("%s\n\n", escaped(splitNote(&r)))
	}
	if scores := scoreRows(&r); len(scores) > 0 {
		var rows []row
		for _, s := range scores {
			rows = append(rows, s.cells())
		}
		m.section("Feedback", row{"Score", "Control", "Treatment"}, rows)
	}
	if len(r.Quotes) > 0 {
		m.printf("## What people say\n\n")
		for _, q := range r.Quotes {
			m.printf("- %s, %d of 5: %s\n", q.Arm, q.Score, escaped(plain(q.Text)))
		}
		m.printf("\n")
	}
	var rows []row
	for _, h := range r.History {
		rows = append(rows, row{minute(h.At), string(h.Phase), h.Actor, h.Reason})
	}
	m.section("History", row{"At", "Phase", "By", "Why"}, rows)
	m.printf("## What to do\n\n%s\n", escaped(nextText(&r)))
	return m.Flush()
}

type markdown struct{ *bufio.Writer }

func (m markdown) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

func (m markdown) section(title string, head row, rows []row) {
	m.printf("## %s\n\n", title)
	m.table(head, rows)
}

func (m markdown) effects(r *readout.Report, title, p string, effects []readout.Effect) {
	var rows []row
	for i := range effects {
		e := &effects[i]
		rows = append(rows, append(effectRow(e), strings.Join(effectNotes(r, e), "; ")))
	}
	m.section(title, row{"Metric", "Control", "Treatment", "Difference", confidence(r), p, ""}, rows)
}

func (m markdown) table(head row, rows []row) {
	line := func(cells row) {
		for _, c := range cells {
			m.printf("| %s ", escaped(c))
		}
		m.printf("|\n")
	}
	line(head)
	m.printf("%s|\n", strings.Repeat("|---", len(head)))
	for _, r := range rows {
		line(r)
	}
	m.printf("\n")
}

var special = strings.NewReplacer(`\`, `\\`, `|`, `\|`, `*`, `\*`, `_`, `\_`, "`", "\\`", `<`, `&lt;`, `[`, `\[`, `#`, `\#`, `!`, `\!`)

func escaped(text string) string { return special.Replace(text) }
