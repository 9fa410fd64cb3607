package report

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/rivo/uniseg"

	"warble/shared/experiment"
	"warble/shared/readout"
)

const width = 80

// Text writes a readout for a terminal of 80 columns. coloured is for a terminal that shows colours, and not for a pipe.
func Text(w io.Writer, r readout.Report, coloured bool) error {
	out := bufio.NewWriter(w)
	t := text{out, coloured}
	head := r.Experiment + ": " + string(r.Verdict)
	t.printf("%s%*s\n\n", t.paint(head, verdictColour(r.Verdict)), max(1, width-uniseg.StringWidth(head)), minute(r.At))
	if r.Spec.Title != "" {
		t.wrap("", "", plain(r.Spec.Title))
		t.printf("\n")
	}
	t.wrap("", "", r.Sentence)
	t.printf("\n")
	for _, s := range summary(&r) {
		t.wrap(fmt.Sprintf("%-13s", s[0]), strings.Repeat(" ", 13), s[1])
	}
	if len(r.Health) > 0 {
		t.title("Health")
		for _, c := range r.Health {
			t.item(string(c.State), stateColour(c.State), c.Name+": "+c.Detail)
		}
	}
	if len(r.Guardrails) > 0 {
		t.title("Guardrails")
		for _, g := range guardRows(&r) {
			word, tint := "open", yellow
			switch g.state {
			case experiment.GuardPass:
				word, tint = "pass", green
			case experiment.GuardBreach:
				word, tint = "breach", red
			}
			sentence := g.sentence
			if g.step != "" {
				sentence = "at " + g.step + ": " + sentence
			}
			t.item(word, tint, sentence)
		}
	}
	if r.Primary != nil {
		t.effects(&r, "Primary metric", "p", []readout.Effect{*r.Primary})
	}
	if len(r.Secondary) > 0 {
		t.effects(&r, "Secondary metrics", "p", r.Secondary)
		if words := adjustedNote(&r); words != "" {
			t.wrap("  ", "  ", words)
		}
	}
	if len(r.Days) > 0 {
		t.title("By day since entry")
		t.table([]int{16, 10, 11, 12, 13, 18}, row{"", people(&r), "control", "treatment", "difference", confidence(&r)}, dayRows(&r))
		t.wrap("  ", "  ", dayNote(&r))
	}
	if r.Latency != nil {
		t.title("Latency")
		t.table([]int{8, 12, 12, 12, 24}, row{"", "control", "treatment", "difference", confidence(&r)}, latencyRows(r.Latency))
	}
	if len(r.Groups) > 0 {
		t.title("Communities")
		t.table([]int{26, 10, 11, 8, 8, 9}, row{"", "arm", "entered", "members", "exposed", "mean"}, groupRows(&r))
	}
	if len(r.Splits) > 0 {
		t.title("By community")
		t.table([]int{26, 9, 10, 11, 10, 12}, row{"", "control", "mean", "treatment", "mean", "difference"}, splitRows(&r))
		t.wrap("  ", "  ", splitNote(&r))
	}
	if scores := scoreRows(&r); len(scores) > 0 {
		t.title("Feedback")
		var rows []row
		for _, s := range scores {
			rows = append(rows, s.cells())
		}
		t.table([]int{14, 16, 16}, row{"score", "control", "treatment"}, rows)
	}
	if len(r.Quotes) > 0 {
		t.title("What people say")
		for _, q := range r.Quotes {
			t.wrap(fmt.Sprintf("  %-10s%d  ", q.Arm, q.Score), strings.Repeat(" ", 15), plain(q.Text))
		}
	}
	t.title("What to do")
	t.wrap("  ", "  ", nextText(&r))
	return out.Flush()
}

// text writes lines. The writer keeps errors until it is flushed.
type text struct {
	*bufio.Writer
	coloured bool
}

// colour is an ANSI colour code.
type colour string

const (
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	bold   colour = "1"
)

func verdictColour(v readout.Outcome) colour {
	switch v {
	case readout.Outcome(experiment.Win), readout.Safe:
		return green
	case readout.Outcome(experiment.Harm), readout.Breach, readout.Withheld:
		return red
	}
	return bold
}

func stateColour(s readout.State) colour {
	switch s {
	case readout.OK:
		return green
	case readout.Red:
		return red
	}
	return yellow
}

func (t text) paint(text string, c colour) string {
	if !t.coloured {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// tints matches the codes that paint adds. They take up no columns.
var tints = regexp.MustCompile("\x1b\\[[0-9]+m")

func (t text) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

func (t text) title(title string) { t.printf("\n%s\n", t.paint(title, bold)) }

func (t text) item(word string, tint colour, detail string) {
	const indent = 11
	t.wrap("  "+t.paint(word, tint)+strings.Repeat(" ", max(1, indent-2-len(word))), strings.Repeat(" ", indent), detail)
}

func (t text) effects(r *readout.Report, title, p string, effects []readout.Effect) {
	t.title(title)
	var rows []row
	for i := range effects {
		rows = append(rows, effectRow(&effects[i]))
	}
	t.table([]int{19, 9, 11, 12, 20, 9}, row{"", "control", "treatment", "difference", confidence(r), p}, rows)
	for i := range effects {
		for _, note := range effectNotes(r, &effects[i]) {
			t.wrap("  "+effects[i].Label+": ", "    ", note)
		}
	}
}

// table writes columns of these widths. The first column is aligned to the left, the others to the right. If a text in the
// first column is too long, it gets a line of its own.
func (t text) table(widths []int, head row, rows []row) {
	for _, r := range append([]row{head}, rows...) {
		var line strings.Builder
		for i, cell := range r {
			gap := strings.Repeat(" ", max(0, widths[i]-2-uniseg.StringWidth(cell)))
			switch {
			case i > 0:
				line.WriteString("  " + gap + cell)
			case gap == "" && uniseg.StringWidth(cell) > widths[i]-2:
				line.WriteString("  " + cell + "\n" + strings.Repeat(" ", widths[i]))
			default:
				line.WriteString("  " + cell + gap)
			}
		}
		t.printf("%s\n", strings.TrimRight(line.String(), " "))
	}
}

// wrap writes words in lines of at most 80 columns. The first line begins with first, and the other lines with rest.
func (t text) wrap(first, rest, words string) {
	line, used, empty := first, uniseg.StringWidth(tints.ReplaceAllString(first, "")), true
	for _, word := range strings.Fields(words) {
		wide := uniseg.StringWidth(word)
		if !empty && used+1+wide > width {
			t.printf("%s\n", line)
			line, used, empty = rest, uniseg.StringWidth(rest), true
		}
		if !empty {
			line, used = line+" ", used+1
		}
		line, used, empty = line+word, used+wide, false
	}
	t.printf("%s\n", line)
}
