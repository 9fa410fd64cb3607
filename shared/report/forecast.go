package report

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/readout"
)

// Plan writes for a terminal what an experiment can be expected to show.
func Plan(w io.Writer, p readout.Planned) error {
	t := text{bufio.NewWriter(w), false}
	unit := string(p.Unit)
	fact := func(name, words string) { t.wrap(fmt.Sprintf("%-13s", name), strings.Repeat(" ", 13), words) }
	if p.Label != "" {
		fact("Metric", fmt.Sprintf("%s: %s, in %s", p.Metric, p.Label, p.ValueUnit))
	}
	switch {
	case p.CV > 0:
		over := ""
		if p.Users > 0 {
			over = " over " + figures.Count(p.Users, "user")
		}
		fact("Past", fmt.Sprintf("%s: %s on average%s, with a coefficient of variation of %s", p.Label, figures.Decimal(p.Mean), over, figures.Decimal(p.CV)))
		if p.Design.ClusterSize > 0 {
			fact("", fmt.Sprintf("%s of %s members on average (coefficient of variation %s), intraclass correlation %s", figures.Plural(unit), figures.Decimal(p.Design.ClusterSize), figures.Decimal(p.Design.ClusterSizeCV), figures.Decimal(p.Design.ICC)))
		}
		if p.Needed > 0 {
			fact("Needed", fmt.Sprintf("%s per arm, for %s with power %g at alpha %g", figures.Count(p.Needed, unit), figures.Change(p.Effect), p.Design.Power, p.Design.Alpha))
		}
	case p.Method != readout.Guards:
		fact("Past", "nothing is known about "+p.Label)
	}
	if p.Source != "" {
		fact("From", p.Source)
	}
	for _, s := range p.Steps {
		fact("Step", fmt.Sprintf("%d%% from day %s on: %s per arm by its end", s.Percent, figures.Decimal(s.From), figures.Count(s.Units, unit)))
	}
	method := p.Method
	if method == readout.Permutation {
		method += ", once, at the planned end"
	}
	fact("Method", method)
	if p.Detectable > 0 {
		fact("Detectable", fmt.Sprintf("%s or more, with the %s per arm that will have completed by the planned end", figures.Change(p.Detectable), figures.Count(p.Completed, unit)))
	}
	if p.Days > 0 {
		fact("Takes", fmt.Sprintf("%s days until enough units have completed, at the present rate and with the last step open", figures.Decimal(p.Days)))
	}
	switch {
	case p.Method == readout.Guards:
		fact("Guardrails", fmt.Sprintf("most precise after %s of 10 s", figures.Count(p.Units, "period")))
	case p.Units == 0:
		fact("N*", "no sample size is set: the experiment ends on a date")
	default:
		fact("N*", fmt.Sprintf("%s in both arms together", figures.Count(p.Units, unit)))
	}
	for _, reason := range p.Hopeless {
		fact("Hopeless", reason)
	}
	return t.Flush()
}

// Promise writes the result of simulated experiments next to what was promised. kept reports whether all promises hold.
func Promise(w io.Writer, promise readout.Promise, s readout.Simulated) (kept bool, err error) {
	t := text{bufio.NewWriter(w), false}
	t.printf("%s: %s\n", promise.Name, figures.Count(int64(s.Runs), "experiment"))
	var ends []string
	for end, n := range s.Ends {
		ends = append(ends, fmt.Sprintf("%s %s", end, figures.Percent(float64(n)/float64(s.Runs))))
	}
	slices.Sort(ends)
	t.wrap("  ended: ", "    ", strings.Join(ends, ", "))
	if s.Days > 0 {
		t.wrap("  ", "    ", fmt.Sprintf("after %s days (median)", figures.Decimal(s.Days)))
	}
	kept = true
	for _, b := range promise.Bounds {
		words, ok := b.Check(s)
		state := "ok"
		if !ok {
			state, kept = "MISSED", false
		}
		t.wrap(fmt.Sprintf("  %-7s", state), strings.Repeat(" ", 9), words)
	}
	return kept, t.Flush()
}

// PromiseHead writes the head of the table whose rows PromiseRow writes.
func PromiseHead(w io.Writer) error {
	_, err := io.WriteString(w, "| World | Promised | Measured, % (standard error) | Gave an answer, % |\n|---|---|---|---|\n")
	return err
}

// PromiseRow writes a row of a Markdown table. It includes how often there was an answer, because a rule that never answers
// is never wrong.
func PromiseRow(w io.Writer, promise readout.Promise, s readout.Simulated) (kept bool, err error) {
	kept = true
	var promised, measured []string
	for _, b := range promise.Bounds {
		r := b.Measure(s)
		word := "at most"
		if b.Least {
			word = "at least"
		}
		promised = append(promised, fmt.Sprintf("%s: %s %.4g", b.What, word, 100*b.Share))
		text := fmt.Sprintf("%.2f (%.2f)", 100*r.Value(), 100*r.Error())
		if _, ok := b.Check(s); !ok {
			kept = false
			text += " **missed**"
		}
		measured = append(measured, text)
	}
	if len(promise.Bounds) == 0 {
		promised, measured = []string{"nothing (measured: intervals that exclude 0)"}, []string{fmt.Sprintf("%.2f (%.2f)", 100*s.Wrong.Value(), 100*s.Wrong.Error())}
	}
	answered := s.Told
	if promise.Margin > 0 {
		answered = readout.Rate{Happened: s.Passed.Happened + s.Breached.Happened, Runs: s.Runs}
	}
	_, err = fmt.Fprintf(w, "| %s | %s | %s | %.1f |\n", promise.Name, strings.Join(promised, "<br>"), strings.Join(measured, "<br>"), 100*answered.Value())
	return kept, err
}

// Simulation writes the results of simulated experiments without an effect next to those with one.
func Simulation(w io.Writer, without, with readout.Simulated) error {
	t := text{bufio.NewWriter(w), false}
	world := with.World
	units := figures.Count(int64(world.Units), string(world.Unit))
	if world.Unit == experiment.Community {
		units += fmt.Sprintf(" of %s", figures.Count(int64(world.Members), "user"))
	}
	var steps []string
	for _, percent := range world.Steps {
		steps = append(steps, fmt.Sprintf("%d%%", percent))
	}
	t.wrap("", "", fmt.Sprintf("%s, %s in each arm held for %s;", units, strings.Join(steps, ", "), world.Hold)+
		fmt.Sprintf(" %s per user and %s, coefficient of variation %s;", figures.Decimal(world.Mean), world.Window, figures.Decimal(world.CV))+
		fmt.Sprintf(" %s, %s each", figures.Count(int64(world.Looks), "look"), figures.Count(int64(with.Runs), "experiment")))
	t.printf("\n")
	found := with.Won
	if world.Effect < 0 {
		found = with.Lost
	}
	inPercent := func(r readout.Rate) string {
		if r.Runs == 0 {
			return "–"
		}
		return figures.Percent(r.Value())
	}
	rows := []row{
		{"false positives", inPercent(without.Wrong), ""},
		{"  of a naive test", inPercent(without.Naive), ""},
		{"found (power)", "", inPercent(found)},
		{"interval contains truth", inPercent(without.Covered), inPercent(with.Covered)},
		{"days until it ended", figures.Decimal(without.Days), figures.Decimal(with.Days)},
	}
	ends := make(map[readout.Outcome]bool)
	for _, s := range []readout.Simulated{without, with} {
		for end := range s.Ends {
			ends[end] = true
		}
	}
	for _, end := range slices.Sorted(maps.Keys(ends)) {
		ended := func(s readout.Simulated) string { return inPercent(readout.Rate{Happened: s.Ends[end], Runs: s.Runs}) }
		rows = append(rows, row{"ended: " + string(end), ended(without), ended(with)})
	}
	t.table([]int{28, 14, 14}, row{"", "no effect", figures.Change(world.Effect)}, rows)
	t.printf("\n")
	t.wrap("", "", "A false positive is an interval that excludes the truth at any look. The naive test is a t test of users at every look. The days are the median time to the verdict that ends an experiment, or to its planned end.")
	return t.Flush()
}

// Bar returns a function that draws a progress bar of the simulations, in one line of the terminal w.
func Bar(w io.Writer, name string) func(done, runs int) {
	const wide = 30
	last := -1
	return func(done, runs int) {
		if filled := done * wide / runs; filled != last || done == runs {
			last = filled
			fmt.Fprintf(w, "\r%-44.44s [%s%s] %d/%d", name, strings.Repeat("#", filled), strings.Repeat(".", wide-filled), done, runs)
		}
		if done == runs {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}
