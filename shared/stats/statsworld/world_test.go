package statsworld_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/stats"
	"warble/shared/stats/statsworld"
)

// draw draws this many periods of a step.
func draw(w statsworld.World, periods int, seed uint64) []stats.Traffic {
	s := w.Start(rand.New(rand.NewPCG(seed, 0)))
	for range periods {
		s.Next()
	}
	return s.Traffic()
}

func worlds() []statsworld.World {
	before := statsworld.Communities(8, 400)
	before.Before = 20
	return []statsworld.World{
		statsworld.Independent(400), statsworld.Communities(30, 400), before, statsworld.Users(400),
		statsworld.Wandering(.8, 400), statsworld.OtherMix(400), statsworld.Independent(400).Late(.3, 10),
	}
}

func TestTheSameSeedDrawsTheSameTraffic(t *testing.T) {
	t.Parallel()
	for _, w := range worlds() {
		first := draw(w, 30, 1)
		if diff := cmp.Diff(first, draw(w, 30, 1)); diff != "" {
			t.Errorf("%s: %s", w.Name, diff)
		}
		if cmp.Equal(first, draw(w, 30, 2)) {
			t.Errorf("%s: another seed draws the same traffic", w.Name)
		}
	}
}

func TestBucketsHaveTheRequestsOfThePeriods(t *testing.T) {
	t.Parallel()
	for _, w := range worlds() {
		for _, traffic := range draw(w, 30, 3) {
			var periods, buckets [2]stats.Proportion
			for _, period := range traffic.Periods {
				add(&periods[0], period.Control)
				add(&periods[1], period.Treatment)
			}
			for arm := range buckets {
				for _, b := range traffic.Buckets[arm] {
					add(&buckets[arm], b)
				}
			}
			if periods != buckets || len(traffic.Periods) != 30 || (traffic.Baseline[0] != nil) != (w.Before > 0) {
				t.Errorf("%s: %v in periods, %v in buckets", w.Name, periods, buckets)
			}
		}
	}
}

// Rates may differ by four standard deviations of the draws.
func TestRatesAreThoseOfTheWorld(t *testing.T) {
	t.Parallel()
	traffic := draw(statsworld.Independent(400).Late(.3, 100), 200, 4)[0]
	var arms [3]stats.Proportion // control, and treatment before the harm and since
	for i, w := range traffic.Periods {
		add(&arms[0], w.Control)
		add(&arms[1+i/100], w.Treatment)
	}
	for i, want := range []float64{.01, .01, .31} {
		n := float64(arms[i].N)
		if got := float64(arms[i].Successes) / n; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/n) {
			t.Errorf("%d: %v of the requests are bad, want %v", i, got, want)
		}
	}
	if n := float64(arms[0].N); math.Abs(n-200*200) > 4*math.Sqrt(200*200) {
		t.Errorf("%v requests of the control, want about %v", n, 200*200)
	}
}

func add(to *stats.Proportion, more stats.Proportion) {
	to.Successes, to.N = to.Successes+more.Successes, to.N+more.N
}
