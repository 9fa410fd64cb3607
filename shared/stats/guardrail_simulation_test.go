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

// The promises of a guardrail, measured: go test ./shared/stats -run 'Harmless|OfTheMargin|IsNoticed' -v -judged 2000
var judged = flag.Int("judged", 12, "steps of a ramp that are simulated in each world of a guardrail; the promises are about 2000")

const margin = .005

// trial is a step of a ramp in a world, looked at after each of the first 30 windows, and after every few from then on.
type trial struct {
	name    string
	world   statsworld.World
	windows int
	every   int
	test    stats.HarmTest
	tests   int // independent ones that share the alpha for rolling back
}

// of is an hour's step with the looks of a readout that runs each minute.
func of(name string, world statsworld.World) trial {
	return trial{name, world, 360, 6, stats.HarmTest{Margin: margin, Alpha: .05, Of: 1}, 1}
}

// fifteen is five guardrails in three steps of ten minutes.
func fifteen(name string, world statsworld.World) trial {
	return trial{name, world, 60, 6, stats.HarmTest{Margin: margin, Alpha: .05, Of: 15}, 15}
}

func wide(w statsworld.World) statsworld.World {
	w.Spread, w.Wander = 2*w.Spread, 2*w.Wander
	return w
}

func trials() []trial {
	tight := of("independent, margin 100 times smaller", statsworld.Independent(400))
	tight.test.Margin = margin / 100
	late := of("independent, 12 h", statsworld.Independent(40))
	late.windows, late.every, late.test.Margin = 12*360, 30, margin/100
	known := of("8 communities, 100 requests/s, baseline", statsworld.Communities(8, 2000))
	known.world.Before = 360
	return []trial{
		of("independent", statsworld.Independent(400)),
		of("independent, 20 requests a window", statsworld.Independent(40)),
		tight,
		late,
		of("8 communities", statsworld.Communities(8, 400)),
		of("8 communities, more unlike", wide(statsworld.Communities(8, 400))),
		of("30 communities", statsworld.Communities(30, 400)),
		of("30 communities, more unlike", wide(statsworld.Communities(30, 400))),
		known,
		of("500 users", statsworld.Users(400)),
		of("wandering, .5", statsworld.Wandering(.5, 2000)),
		of("wandering, .8", statsworld.Wandering(.8, 2000)),
		of("wandering, .95", statsworld.Wandering(.95, 2000)),
		of("wandering, .95, further", wide(statsworld.Wandering(.95, 2000))),
		of("another mix", statsworld.OtherMix(400)),
		fifteen("independent, 20 requests, 15 tests", statsworld.Independent(40)),
		fifteen("8 communities, 15 tests", statsworld.Communities(8, 400)),
		fifteen("wandering, .95, 15 tests", statsworld.Wandering(.95, 2000)),
	}
}

func TestHarmlessIsNotRolledBack(t *testing.T) {
	t.Parallel()
	for i, tr := range trials() {
		t.Run(tr.name, func(t *testing.T) {
			g := tr.run(t, *judged, uint64(i))
			t.Log(g)
			g.atMost(t, "no harm is rolled back", g.rolledBack, .035)
		})
	}
}

func TestHarmOfTheMarginIsNotPassed(t *testing.T) {
	t.Parallel()
	for i, tr := range trials() {
		if tr.tests > 1 { // a pass is each test's own
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			tr.world = tr.world.Late(tr.test.Margin, 0)
			g := tr.run(t, *judged, uint64(100+i))
			t.Log(g)
			g.atMost(t, "a harm of the margin is passed", g.passed, .065)
		})
	}
}

// TestHarmIsNoticed, at 100 requests/s in each arm, and a large one at 17, and as one of fifteen tests.
func TestHarmIsNoticed(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		points   float64
		requests float64 // of both arms, in a window
		windows  int
	}{{30, 2000, 15}, {5, 2000, 60}, {1, 2000, 120}, {20, 340, 18}} {
		for _, tests := range []int{1, 15} {
			t.Run(fmt.Sprintf("%v points of %v requests, one of %d tests", c.points, c.requests, tests), func(t *testing.T) {
				tr := of("", statsworld.Independent(c.requests).Late(c.points/100, 0))
				tr.windows, tr.every, tr.test.Of = c.windows, 1, tests
				g := tr.run(t, *judged, uint64(200+i))
				t.Log(g)
				g.atMost(t, "not noticed in time", g.runs-g.rolledBack, .1)
			})
		}
	}
}

// TestTheHarmedServiceIsNamed, though the treatment changes how often each is asked.
func TestTheHarmedServiceIsNamed(t *testing.T) {
	t.Parallel()
	w := statsworld.OtherMix(2000)
	w.Services[1].Harm = .02
	var named guarded
	for run := range *judged {
		s := w.Start(rand.New(rand.NewPCG(300, uint64(run))))
		for range 360 {
			s.Next()
		}
		r, err := of("", w).test.Judge(s.Traffic())
		if err != nil {
			t.Fatal(err)
		}
		named.runs++
		if r.Verdict != stats.Breach || !slices.Equal(r.Harmed, []string{"tweet"}) {
			named.passed++
		}
	}
	named.atMost(t, "the harmed Service is not named, or another one", named.passed, .05)
}

// guarded is what came of many simulated experiments, and when.
type guarded struct {
	runs, rolledBack, passed, decided int
	windows                           float64 // mean until it decided, of those that did
}

func (g guarded) String() string {
	return fmt.Sprintf("%d runs: rolled back %s, passed %s, inconclusive %s, decided after %.0f windows",
		g.runs, g.share(g.rolledBack), g.share(g.passed), g.share(g.runs-g.decided), g.windows)
}

func (g guarded) share(n int) string {
	p := float64(n) / float64(g.runs)
	return fmt.Sprintf("%.2f ± %.2f %%", 100*p, 100*math.Sqrt(p*(1-p)/float64(g.runs)))
}

// atMost allows three binomial standard errors.
func (g guarded) atMost(t *testing.T, what string, n int, p float64) {
	t.Helper()
	if float64(n)/float64(g.runs) > p+3*math.Sqrt(p*(1-p)/float64(g.runs)) {
		t.Errorf("%s in %s, want at most %.1f %%", what, g.share(n), 100*p)
	}
}

// run counts an experiment as rolled back if any look at any test is a breach, and as passed if any look is a pass. It may
// be both.
func (tr trial) run(t *testing.T, runs int, seed uint64) (g guarded) {
	t.Helper()
	for run := range runs {
		random := rand.New(rand.NewPCG(seed, uint64(run)))
		var breach, pass int
		for range tr.tests {
			b, p := tr.look(t, random)
			breach, pass = first(breach, b), first(pass, p)
		}
		g.count(breach, pass)
	}
	return g
}

// look tells after how many windows a step is first seen to breach and to pass; 0 for never.
func (tr trial) look(t *testing.T, random *rand.Rand) (breach, pass int) {
	s := tr.world.Start(random)
	for n := 1; n <= tr.windows && breach == 0; n++ {
		s.Next()
		if n > 30 && n%tr.every != 0 {
			continue
		}
		r, err := tr.test.Judge(s.Traffic())
		if err != nil {
			t.Fatal(err)
		}
		switch r.Verdict {
		case stats.Breach:
			breach = n
		case stats.Pass:
			pass = first(pass, n)
		}
	}
	return breach, pass
}

// first is the earlier of two, of which either may be 0 for never.
func first(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (g *guarded) count(breach, pass int) {
	g.runs++
	if breach > 0 {
		g.rolledBack++
	}
	if pass > 0 {
		g.passed++
	}
	if at := first(breach, pass); at > 0 {
		g.decided++
		g.windows += (float64(at) - g.windows) / float64(g.decided)
	}
}
