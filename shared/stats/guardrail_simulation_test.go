package stats_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"warble/shared/stats"
	"warble/shared/stats/statsworld"
)

// These tests measure what docs/verdicts.md promises of guardrails: go test ./shared/stats -run TestHarm -v -judged 2000
var judged = flag.Int("judged", 12, "how many steps of a ramp are simulated in each world of a guardrail; the promises are about 2000")

const margin = .005

// scenario is a step of a ramp in a world. There is a look after each of the first 30 periods, and then after every few periods.
type scenario struct {
	name    string
	world   statsworld.World
	periods int
	every   int // number of periods between looks, after the first 30
	test    stats.HarmTest
	tests   int // number of independent tests that share the alpha for rolling back
}

// hourStep is one guardrail in a step of an hour, with the looks of a readout that runs each minute.
func hourStep(name string, world statsworld.World) scenario {
	return scenario{name, world, 360, 6, stats.HarmTest{Margin: margin, Alpha: .05, Tests: 1}, 1}
}

// fifteenTestsStep is five guardrails in three steps of ten minutes.
func fifteenTestsStep(name string, world statsworld.World) scenario {
	return scenario{name, world, 60, 6, stats.HarmTest{Margin: margin, Alpha: .05, Tests: 15}, 15}
}

// moreVaried doubles the deviations of units' and arms' error rates.
func moreVaried(w statsworld.World) statsworld.World {
	w.Spread, w.Wander = 2*w.Spread, 2*w.Wander
	return w
}

func scenarios() []scenario {
	smallMargin := hourStep("independent, margin 100 times smaller", statsworld.Independent(400))
	smallMargin.test.Margin = margin / 100
	long := hourStep("independent, 12 h", statsworld.Independent(40))
	long.periods, long.every, long.test.Margin = 12*360, 30, margin/100
	withBaseline := hourStep("8 communities, 100 requests/s, baseline", statsworld.Communities(8, 2000))
	withBaseline.world.Before = 360
	return []scenario{
		hourStep("independent", statsworld.Independent(400)),
		hourStep("independent, 20 requests a period", statsworld.Independent(40)),
		smallMargin,
		long,
		hourStep("8 communities", statsworld.Communities(8, 400)),
		hourStep("8 communities that differ more", moreVaried(statsworld.Communities(8, 400))),
		hourStep("30 communities", statsworld.Communities(30, 400)),
		hourStep("30 communities that differ more", moreVaried(statsworld.Communities(30, 400))),
		withBaseline,
		hourStep("500 users", statsworld.Users(400)),
		hourStep("wandering, .5", statsworld.Wandering(.5, 2000)),
		hourStep("wandering, .8", statsworld.Wandering(.8, 2000)),
		hourStep("wandering, .95", statsworld.Wandering(.95, 2000)),
		hourStep("wandering further, .95", moreVaried(statsworld.Wandering(.95, 2000))),
		hourStep("another mix", statsworld.OtherMix(400)),
		fifteenTestsStep("independent, 20 requests, 15 tests", statsworld.Independent(40)),
		fifteenTestsStep("8 communities, 15 tests", statsworld.Communities(8, 400)),
		fifteenTestsStep("wandering, .95, 15 tests", statsworld.Wandering(.95, 2000)),
	}
}

func TestHarmlessTreatmentsAreNotRolledBack(t *testing.T) {
	t.Parallel()
	for i, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			o := sc.run(t, *judged, uint64(i))
			t.Log(o)
			o.atMost(t, "rolled back without harm", o.rolledBack, .035)
		})
	}
}

func TestHarmOfTheMarginDoesNotPass(t *testing.T) {
	t.Parallel()
	for i, sc := range scenarios() {
		if sc.tests > 1 { // the promise is about the pass of a single test
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			sc.world = sc.world.Late(sc.test.Margin, 0)
			o := sc.run(t, *judged, uint64(100+i))
			t.Log(o)
			o.atMost(t, "passed with a harm of the margin", o.passed, .065)
		})
	}
}

// A harm is detected at 100 requests/s in each arm, and a large one at 17, also if fifteen tests share the alpha.
func TestHarmIsDetectedInTime(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		points   float64
		requests float64 // of both arms, in a period
		periods  int
	}{{30, 2000, 15}, {5, 2000, 60}, {1, 2000, 120}, {20, 340, 18}} {
		for _, tests := range []int{1, 15} {
			t.Run(fmt.Sprintf("%v points of %v requests, one of %d tests", c.points, c.requests, tests), func(t *testing.T) {
				sc := hourStep("", statsworld.Independent(c.requests).Late(c.points/100, 0))
				sc.periods, sc.every, sc.test.Tests = c.periods, 1, tests
				o := sc.run(t, *judged, uint64(200+i))
				t.Log(o)
				o.atMost(t, "not detected in time", o.runs-o.rolledBack, .1)
			})
		}
	}
}

func TestTheHarmedServiceIsNamedDespiteAnotherMix(t *testing.T) {
	t.Parallel()
	w := statsworld.OtherMix(2000)
	w.Services[1].Harm = .02
	wrong := 0
	for run := range *judged {
		s := w.Start(rand.New(rand.NewPCG(300, uint64(run))))
		for range 360 {
			s.Next()
		}
		r, err := hourStep("", w).test.Judge(s.Traffic())
		if err != nil {
			t.Fatal(err)
		}
		if r.Finding != stats.Breach || !slices.Equal(r.Harmed, []string{"tweet"}) {
			wrong++
		}
	}
	outcomes{runs: *judged}.atMost(t, "the harmed Service is not named, or another one is", wrong, .05)
}

// outcomes counts how simulated experiments ended.
type outcomes struct {
	runs, rolledBack, passed, decided int
	periods                           float64 // mean number of periods until the decision, over the experiments with one
}

func (o outcomes) String() string {
	return fmt.Sprintf("%d runs: rolled back %s, passed %s, inconclusive %s, decided after %.0f periods",
		o.runs, o.share(o.rolledBack), o.share(o.passed), o.share(o.runs-o.decided), o.periods)
}

func (o outcomes) share(n int) string {
	p := float64(n) / float64(o.runs)
	return fmt.Sprintf("%.2f ± %.2f %%", 100*p, 100*math.Sqrt(p*(1-p)/float64(o.runs)))
}

// atMost allows three binomial standard errors.
func (o outcomes) atMost(t *testing.T, what string, n int, p float64) {
	t.Helper()
	if float64(n)/float64(o.runs) > p+3*math.Sqrt(p*(1-p)/float64(o.runs)) {
		t.Errorf("%s in %s, want at most %.1f %%", what, o.share(n), 100*p)
	}
}

// run counts an experiment as rolled back if any look at any test is a breach, and as passed if any look is a pass. It can be
// counted as both.
func (sc scenario) run(t *testing.T, runs int, seed uint64) (o outcomes) {
	t.Helper()
	for run := range runs {
		random := rand.New(rand.NewPCG(seed, uint64(run)))
		var breach, pass int
		for range sc.tests {
			b, p := sc.firstFindings(t, random)
			breach, pass = earlierPeriod(breach, b), earlierPeriod(pass, p)
		}
		o.count(breach, pass)
	}
	return o
}

// firstFindings returns after how many periods a look at a step is first a breach, and first a pass; 0 for never. It ends at the
// first breach.
func (sc scenario) firstFindings(t *testing.T, random *rand.Rand) (breach, pass int) {
	s := sc.world.Start(random)
	for n := 1; n <= sc.periods && breach == 0; n++ {
		s.Next()
		if n > 30 && n%sc.every != 0 {
			continue
		}
		r, err := sc.test.Judge(s.Traffic())
		if err != nil {
			t.Fatal(err)
		}
		switch r.Finding {
		case stats.Breach:
			breach = n
		case stats.Pass:
			pass = earlierPeriod(pass, n)
		}
	}
	return breach, pass
}

// earlierPeriod returns the smaller of two numbers of periods, where 0 means never.
func earlierPeriod(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (o *outcomes) count(breach, pass int) {
	o.runs++
	if breach > 0 {
		o.rolledBack++
	}
	if pass > 0 {
		o.passed++
	}
	if at := earlierPeriod(breach, pass); at > 0 {
		o.decided++
		o.periods += (float64(at) - o.periods) / float64(o.decided)
	}
}
