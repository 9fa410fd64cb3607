package readout

import (
	"fmt"

	"warble/shared/experiment"
	"warble/shared/stats"
)

// Trial is a world, and what must come of experiments in it.
type Trial struct {
	World
	Seed   uint64
	Bounds []Bound
}

// Bound is a promise about a share of the runs. What is seen may miss it by three binomial standard errors.
type Bound struct {
	What  string
	Of    func(Simulated) Rate
	Share float64
	Least bool // it is the least, not the most
}

// Check says what of a promise was seen; kept is false where it was not.
func (b Bound) Check(s Simulated) (text string, kept bool) {
	r := b.Of(s)
	allowance := r.Allowance(b.Share)
	word := "at most"
	kept = r.Value() <= b.Share+allowance
	if b.Least {
		word = "at least"
		kept = r.Value() >= b.Share-allowance
	}
	return fmt.Sprintf("%s in %.2f%%, expected %s %.4g%%", b.What, 100*r.Value(), word, 100*b.Share), kept && r.Runs > 0
}

const alpha, slack = .05, .015 // the promise on errors is alpha and what an asymptotic method may add to it

func wrong(s Simulated) Rate    { return s.Wrong }
func naive(s Simulated) Rate    { return s.Naive }
func covered(s Simulated) Rate  { return s.Covered }
func won(s Simulated) Rate      { return s.Won }
func red(s Simulated) Rate      { return s.Red }
func passed(s Simulated) Rate   { return s.Passed }
func breached(s Simulated) Rate { return s.Breached }

// Trials are the operating characteristics that the readout promises. Those with more looks take longer.
func Trials() []Trial {
	users := Plain(4000)
	of := func(w World, change func(*World)) World {
		change(&w)
		return w
	}
	guard := users
	guard.Unit, guard.Units, guard.Margin, guard.Errors, guard.Bursts, guard.Windows, guard.Rate = experiment.Request, 0, .005, .01, true, 200, 200
	falsePositives := []Bound{
		{"false positives", wrong, alpha + slack, false},
		{"intervals that hold", covered, 1 - alpha - slack, true},
		{"found to be unsound", red, stats.SampleRatioAlarm, false},
	}
	return []Trial{
		{of(users, func(w *World) { w.Name, w.Looks, w.Every = "A/A, 20 looks", 0, 100 }), 1, append(falsePositives[:3:3],
			Bound{"false positives of a test that is looked at again and again", naive, .24, true})},
		{of(users, func(w *World) { w.Name = "A/A, a look every 10 units"; w.Looks, w.Every = 0, 10 }), 2, append(falsePositives[:3:3],
			Bound{"false positives of a test that is looked at again and again", naive, .35, true})},
		{of(users, func(w *World) { w.Name = "A/A, a ramp, with a past"; w.Steps, w.Known = []int{5, 25, 50}, true }), 3, falsePositives},
		{of(users, func(w *World) {
			w.Name = "A/A, 60 communities of 50"
			w.Unit, w.Units, w.Members, w.ICC = experiment.Community, 60, 50, .05
		}), 4, append(falsePositives[:3:3], Bound{"false positives of users as units", naive, .25, true})},
		{of(users, func(w *World) {
			w.Name = "A/A, 16 communities of 50"
			w.Unit, w.Units, w.Members, w.ICC = experiment.Community, 16, 50, .05
		}), 5, falsePositives},
		{of(users, func(w *World) {
			w.Name = "+20%, 400 communities of 5"
			w.Unit, w.Units, w.Members, w.ICC, w.Mean, w.CV, w.Effect = experiment.Community, 400, 5, .05, 10, .5, .2
		}), 6, []Bound{{"found", won, .99, true}, {"intervals that hold", covered, 1 - alpha - slack, true}}},
		{of(users, func(w *World) { w.Name = "+10%, with a past"; w.Known, w.Effect = true, .1 }), 7,
			[]Bound{{"found", won, .80, true}, {"intervals that hold at every look", wrong, alpha + slack, false}}},
		{of(users, func(w *World) { w.Name = "52:48"; w.Units, w.Looks, w.Tilt, w.Mean = 20_000, 4, .52, 1 }), 8, []Bound{{"found to be unsound", red, .90, true}}},
		{of(guard, func(w *World) { w.Name = "errors, harm as large as the margin"; w.Harm = w.Margin }), 9, []Bound{{"passed", passed, alpha, false}}},
		{of(guard, func(w *World) {
			w.Name = "errors at 0.1%, harm as large as the margin"
			w.Errors, w.Harm = .001, w.Margin
		}), 10, []Bound{{"passed", passed, alpha, false}}},
		{of(guard, func(w *World) {
			w.Name = "no errors, harm as large as the margin"
			w.Errors, w.Harm = 0, w.Margin
		}), 11, []Bound{{"passed", passed, alpha, false}}},
		{of(guard, func(w *World) { w.Name = "errors, no harm" }), 12, []Bound{{"rolled back", breached, alpha, false}}},
	}
}
