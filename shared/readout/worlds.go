package readout

import (
	"fmt"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/stats/statsworld"
	"warble/shared/stats/unitworld"
)

// Promise is a world together with what must hold of experiments in it.
type Promise struct {
	World
	Seed   uint64
	Bounds []Bound
}

// Bound is a limit that the readout promises for a share of the runs. The measured share may miss it by three binomial
// standard errors.
type Bound struct {
	What    string
	Measure func(Simulated) Rate
	Share   float64
	Least   bool // whether Share is a minimum, and not a maximum
}

// Check describes the measured share next to the limit; kept is false if the limit was missed.
func (b Bound) Check(s Simulated) (text string, kept bool) {
	r := b.Measure(s)
	allowance := r.Allowance(b.Share)
	word := "at most"
	kept = r.Value() <= b.Share+allowance
	if b.Least {
		word = "at least"
		kept = r.Value() >= b.Share-allowance
	}
	if r.Runs == 0 {
		return b.What + ": no experiment gave an answer", !b.Least
	}
	return fmt.Sprintf("%s in %.2f%% (standard error %.2f), expected %s %.4g%%", b.What, 100*r.Value(), 100*r.Error(), word, 100*b.Share), kept
}

const (
	alpha, slack = .05, .015 // the promise on errors: alpha, and what an asymptotic method may add

	// permuted is the promise on errors of a permutation test, which is exact: alpha, and what random draws and the
	// simulation add.
	permuted = .07

	// guardedRollback and guardedPass are the promises on guardrails: alpha/2 and alpha, and what an asymptotic method may
	// add.
	guardedRollback, guardedPass = .035, .065
)

func wrongRate(s Simulated) Rate    { return s.Wrong }
func naiveRate(s Simulated) Rate    { return s.Naive }
func coveredRate(s Simulated) Rate  { return s.Covered }
func wonRate(s Simulated) Rate      { return s.Won }
func redRate(s Simulated) Rate      { return s.Red }
func passedRate(s Simulated) Rate   { return s.Passed }
func breachedRate(s Simulated) Rate { return s.Breached }

// Promises returns what the readout promises. Worlds with more looks take longer.
func Promises() (all []Promise) {
	for _, promises := range [][]Promise{plainPromises(), userPromises(), communityPromises(), guardrailPromises()} {
		all = append(all, promises...)
	}
	for i := range all {
		all[i].Seed = uint64(i + 101) //nolint:gosec // never negative
	}
	return all
}

func changed(w World, change func(*World)) World {
	change(&w)
	return w
}

var falsePositives = []Bound{
	{"false positives", wrongRate, alpha + slack, false},
	{"intervals that contain the truth", coveredRate, 1 - alpha - slack, true},
	{"withheld as unsound", redRate, stats.SampleRatioAlarm, false},
}

// plainPromises has counts that are nearly normal. For comparison, some measure a t test that is repeated at every look.
func plainPromises() []Promise {
	users := Plain(4000)
	return []Promise{
		{World: changed(users, func(w *World) { w.Name, w.Looks, w.Every = "A/A, 20 looks", 0, 100 }), Bounds: append(falsePositives[:3:3],
			Bound{"false positives of a t test at every look", naiveRate, .24, true})},
		{World: changed(users, func(w *World) { w.Name = "A/A, a look every 10 units"; w.Looks, w.Every = 0, 10 }), Bounds: append(falsePositives[:3:3],
			Bound{"false positives of a t test at every look", naiveRate, .35, true})},
		{World: changed(users, func(w *World) { w.Name = "A/A, a ramp, with a past"; w.Steps, w.Known = []int{5, 25, 50}, true }), Bounds: falsePositives},
		{World: changed(users, func(w *World) {
			w.Name = "A/A, 60 communities of 50"
			w.Unit, w.Units, w.Members, w.ICC = experiment.Community, 60, 50, .05
		}), Bounds: append(falsePositives[:3:3], Bound{"false positives of a t test of users at every look", naiveRate, .25, true})},
		{World: changed(users, func(w *World) {
			w.Name = "+20%, 400 communities of 5"
			w.Unit, w.Units, w.Members, w.ICC, w.Mean, w.CV, w.Effect = experiment.Community, 400, 5, .05, 10, .5, .2
		}), Bounds: []Bound{{"found", wonRate, .99, true}, {"intervals that contain the truth", coveredRate, 1 - alpha - slack, true}}},
		{World: changed(users, func(w *World) { w.Name = "+10%, with a past"; w.Known, w.Effect = true, .1 }),
			Bounds: []Bound{{"found", wonRate, .80, true}, {"intervals that exclude the truth at any look", wrongRate, alpha + slack, false}}},
		{World: changed(users, func(w *World) { w.Name = "52:48"; w.Units, w.Looks, w.Tilt, w.Mean = 20_000, 4, .52, 1 }), Bounds: []Bound{{"withheld as unsound", redRate, .90, true}}},
	}
}

// userPromises has values that are far from normal, and values that change while the experiment runs.
func userPromises() (all []Promise) {
	const users = 4000
	for _, kind := range []unitworld.Users{
		{Name: "normal", Values: unitworld.Normal},
		{Name: "lognormal, sigma 2", Values: unitworld.Sigma2},
		{Name: "Pareto, shape 1.5", Values: unitworld.Pareto15},
		{Name: "1 of 100 does anything", Values: unitworld.ZeroInflated},
		{Name: "a level that grows threefold, with a week's cycle", Values: unitworld.Normal, Drifts: true},
		{Name: "half of them with a past", Values: unitworld.Normal, Past: true},
	} {
		kind.Users = users
		w := Plain(users)
		w.Name, w.Users, w.Mean = "A/A, users: "+kind.Name, &kind, kind.Values.Mean()
		all = append(all, Promise{World: w, Bounds: falsePositives[:2]})
	}
	return all
}

// communityPromises has communities that differ in size and in what they do.
func communityPromises() (all []Promise) {
	kinds := []unitworld.Communities{
		{Name: "of equal size"},
		{Name: "of lognormal sizes", Sizes: unitworld.Lognormal},
		{Name: "of Pareto sizes", Sizes: unitworld.Pareto},
		{Name: "of Pareto sizes, where more is done in larger ones", Sizes: unitworld.Pareto, Growth: .3},
	}
	world := func(n int, kind unitworld.Communities) World {
		w := Plain(n)
		w.Unit, w.Steps, w.Looks = experiment.Community, []int{5, 25, 50}, 8 // as unitworld.Shares has them
		w.Communities, w.Units, w.Effect = &kind, n, kind.Gain
		return w
	}
	for _, n := range []int{16, 60, 190, 400, 1000} {
		for _, icc := range []float64{.05, .3} {
			for _, kind := range kinds {
				kind.Units, kind.ICC = n, icc
				w := world(n, kind)
				w.Name = fmt.Sprintf("A/A, %d communities %s, ICC %g", n, kind.Name, icc)
				all = append(all, Promise{World: w, Bounds: []Bound{{"false positives", wrongRate, permuted, false}}})
				kind.Gain = .5
				w = world(n, kind)
				w.Name = fmt.Sprintf("+50%%, %d communities %s, ICC %g", n, kind.Name, icc)
				all = append(all, Promise{World: w, Bounds: []Bound{{"intervals that exclude the true lift", wrongRate, permuted, false}}})
			}
		}
		kind := kinds[1]
		kind.Units, kind.ICC, kind.Gain, kind.Cancels = n, .05, .5, true
		w := world(n, kind)
		w.Effect = 0
		w.Name = fmt.Sprintf("gains and losses that cancel, %d communities %s", n, kind.Name)
		all = append(all, Promise{World: w}) // without a promise
	}
	return all
}

// guardrailPromises has requests that depend on each other.
func guardrailPromises() (all []Promise) {
	const perPeriod, margin = 200, .005
	for _, kind := range []struct {
		name  string
		world statsworld.World
	}{
		{"independent requests", statsworld.Independent(perPeriod)},
		{"8 communities", statsworld.Communities(8, perPeriod)},
		{"30 communities", statsworld.Communities(30, perPeriod)},
		{"500 users", statsworld.Users(perPeriod)},
		{"arms that wander, AR(1) .5", statsworld.Wandering(.5, perPeriod)},
		{"arms that wander, AR(1) .8", statsworld.Wandering(.8, perPeriod)},
		{"arms that wander, AR(1) .95", statsworld.Wandering(.95, perPeriod)},
	} {
		harmless, harmful := kind.world, kind.world
		harmful.Harm = margin
		w := Plain(0)
		w.Unit, w.Margin, w.CountPeriods, w.Traffic = experiment.Request, margin, 360, &harmless
		w.Name = "errors, no harm: " + kind.name
		all = append(all, Promise{World: w, Bounds: []Bound{{"rolled back", breachedRate, guardedRollback, false}}})
		w.Traffic = &harmful
		w.Name = "errors, harm as large as the margin: " + kind.name
		all = append(all, Promise{World: w, Bounds: []Bound{{"passed", passedRate, guardedPass, false}}})
	}
	return all
}
