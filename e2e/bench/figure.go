package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// figure is one measured claim: our values and theirs, round by round, and the rule that judges them.
type figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // of ours and theirs
	Ours   summary `json:"ours"`
	Theirs summary `json:"theirs"` // no rounds if ours is judged alone
	Judged summary `json:"judged"` // per round, so that both sides had the same noise
	Target string  `json:"target"`
	Met    bool    `json:"met"`
}

// summary summarizes values, one for each round.
type summary struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func summarize(rounds []float64) summary {
	if len(rounds) == 0 {
		return summary{}
	}
	sorted := slices.Sorted(slices.Values(rounds))
	middle := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		middle = (sorted[len(sorted)/2-1] + middle) / 2
	}
	return summary{middle, sorted[0], sorted[len(sorted)-1], rounds}
}

// rule is a target for a value computed from ours and theirs.
type rule struct {
	judge  func(ours, theirs float64) float64
	least  bool // the target is the least, not the most
	target float64
	format string // of the target
}

func ratio(ours, theirs float64) float64      { return ours / theirs }
func difference(ours, theirs float64) float64 { return ours - theirs }
func itself(ours, _ float64) float64          { return ours }

func ratioAtLeast(target float64) rule { return rule{ratio, true, target, "ratio ≥ %g"} }
func ratioAtMost(target float64) rule  { return rule{ratio, false, target, "ratio ≤ %g"} }
func differenceAtMost(target float64) rule {
	return rule{difference, false, target, "difference ≤ %g"}
}
func atMost(target float64) rule { return rule{itself, false, target, "≤ %g"} }

// figure applies the rule to the rounds. theirs is nil if ours is judged alone.
func (r rule) figure(name, unit string, ours, theirs []float64) figure {
	judged := make([]float64, len(ours))
	for i := range ours {
		their := 0.0
		if theirs != nil {
			their = theirs[i]
		}
		judged[i] = r.judge(ours[i], their)
	}
	f := figure{
		Name: name, Unit: unit,
		Ours: summarize(ours), Theirs: summarize(theirs), Judged: summarize(judged),
		Target: fmt.Sprintf(r.format, r.target),
	}
	f.Met = f.Judged.Median <= r.target
	if r.least {
		f.Met = f.Judged.Median >= r.target
	}
	return f
}

// contestant measures one value of one side.
type contestant func(context.Context) (float64, error)

// interleave measures the contestants in turn, round by round, because on a shared machine a slow period then slows all of them. It returns one
// row for each contestant.
func interleave(ctx context.Context, rounds int, contestants ...contestant) ([][]float64, error) {
	rows := make([][]float64, len(contestants))
	for range rounds {
		for i, measure := range contestants {
			value, err := measure(ctx)
			if err != nil {
				return nil, err
			}
			rows[i] = append(rows[i], value)
		}
	}
	return rows, nil
}

const row = "%-46s %12s %12s  %-24s %-18s %s\n"

func printHead(w io.Writer) {
	fmt.Fprintf(w, row, "figure", "ours", "theirs", "judged (min..max)", "target", "")
}

func (f figure) print(w io.Writer) {
	theirs, verdict := "", "ok"
	if len(f.Theirs.Rounds) > 0 {
		theirs = short(f.Theirs.Median)
	}
	if !f.Met {
		verdict = "MISSED"
	}
	judged := short(f.Judged.Median)
	if len(f.Judged.Rounds) > 1 {
		judged += " (" + short(f.Judged.Min) + ".." + short(f.Judged.Max) + ")"
	}
	fmt.Fprintf(w, row, f.Name+", "+f.Unit, short(f.Ours.Median), theirs, judged, f.Target, verdict)
}

// short formats about three digits, because further digits differ between runs.
func short(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func writeFile(file string, figures []figure) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644) //nolint:gosec // figures are for everybody
}
