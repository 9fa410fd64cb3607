package stats

import (
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/stats/unitworld"
)

var simulated = flag.Int("simulated", 60, "how many experiments are simulated in each world of units; the promises are about 2000")

// drawCommunities draws the units of a world.
func drawCommunities(w unitworld.Communities, random *rand.Rand) (units []Unit) {
	for _, u := range w.Draw(random) {
		units = append(units, Unit(u))
	}
	return units
}

func TestPermuteLiftComparesAllArrangementsOrDrawsSome(t *testing.T) {
	t.Parallel()
	world := unitworld.Communities{Units: 20, Sizes: unitworld.Lognormal, ICC: .3}
	units := drawCommunities(world, seeded(60))
	for i := range units {
		units[i].Stratum, units[i].Treatment = 0, i%2 == 1
	}
	exact := must(PermuteLift(units, .05, 1))(t)
	if !exact.Exact || exact.Arrangements != 184_756 || exact.Smallest != 2./184_756 {
		t.Fatalf("%+v, want all 184,756 arrangements", exact)
	}
	if p := must(Permute(units, .05, 1))(t); p.P != exact.P || p.Difference != exact.Difference {
		t.Errorf("difference %v with p %v, by Permute %v with p %v", exact.Difference, exact.P, p.Difference, p.P)
	}
	units = append(units, Unit{Sum: 100, Size: 20}, Unit{Sum: 120, Size: 20, Treatment: true})
	drawn := must(PermuteLift(units, .05, 1))(t)
	if drawn.Exact || drawn.Arrangements != PermutationDraws+1 {
		t.Fatalf("%+v, want %d arrangements", drawn, PermutationDraws+1)
	}
	slices.Reverse(units)
	if diff := cmp.Diff(drawn, must(PermuteLift(units, .05, 1))(t)); diff != "" {
		t.Errorf("the order of units matters: %s", diff)
	}
	other := must(PermuteLift(units, .05, 2))(t)
	if math.Abs(other.P-drawn.P) > .01 || math.Abs(other.Interval.Lower-drawn.Interval.Lower) > .05 {
		t.Errorf("seeds disagree by more than the draws explain: %+v, %+v", drawn, other)
	}
	few := must(PermuteLiftDraws(units, .05, 1, 999))(t)
	if few.Arrangements != 1000 || few.Smallest != .002 || math.Abs(few.P-drawn.P) > .1 {
		t.Errorf("with 999 draws %+v, with %d %+v", few, PermutationDraws, drawn)
	}
	two := must(PermuteLift(singleUnits([]float64{1, 2}, []float64{8, 9}), .05, 1))(t)
	want := LiftPermutation{1.5, 8.5, 17./3 - 1, 7, 2. / 6, 2. / 6, Interval{-1, math.Inf(1)}, 6, true}
	if diff := cmp.Diff(want, two, near); diff != "" {
		t.Errorf("two against two: %s", diff)
	}
}

// If treated sums are 3 times as large, then so is 1 + lift, and both bounds of it.
func TestEffectMovesTheIntervalOfTheLift(t *testing.T) {
	t.Parallel()
	units := drawCommunities(unitworld.Communities{Units: 60, Sizes: unitworld.Pareto, ICC: .3}, seeded(61))
	before := must(PermuteLift(units, .05, 1))(t)
	for i := range units {
		if units[i].Treatment {
			units[i].Sum *= 3
		}
	}
	after := must(PermuteLift(units, .05, 1))(t)
	want := Interval{3*(1+before.Interval.Lower) - 1, 3*(1+before.Interval.Upper) - 1}
	if diff := cmp.Diff(want, after.Interval, near); diff != "" {
		t.Errorf("interval of an effect 3 times as large: %s", diff)
	}
}

// A third of the 30 members at level 1 are treated, and two thirds of the 30 at level 10. So the plain ratios are 4 and 7. At
// the same mix of steps they are both 5.5; with an effect of x1.5 they are 5.5 and 8.25, computed by hand.
func TestDifferentLevelsOfStepsAreNotTakenForAnEffect(t *testing.T) {
	t.Parallel()
	units := []Unit{{0, true, 10, 10}, {0, false, 10, 10}, {0, false, 10, 10}, {1, true, 100, 10}, {1, true, 100, 10}, {1, false, 100, 10}}
	if p, err := PermuteLift(units, .05, 1); !errors.Is(err, ErrNoVariance) {
		t.Errorf("levels that differ by step alone: %+v, %v", p, err)
	}
	for i := range units {
		if units[i].Treatment {
			units[i].Sum *= 1.5
		}
	}
	p := must(PermuteLift(units, .05, 1))(t)
	got := []float64{p.Control, p.Treatment, p.Difference, p.Lift}
	if diff := cmp.Diff([]float64{5.5, 8.25, 2.75, .5}, got, near); diff != "" {
		t.Error(diff)
	}
	if p.Arrangements != 9 || p.P != 2./9 {
		t.Errorf("%+v, want the outermost of 9 arrangements", p)
	}
}

// The test divides treated sums by lambda and tests again, for about 100 lifts of each set of units. It does not reject lifts
// inside the interval, and rejects those outside.
func TestIntervalOfTheLiftIsTheInvertedTest(t *testing.T) {
	t.Parallel()
	random := seeded(62)
	for _, sizes := range []unitworld.Sizes{unitworld.Equal, unitworld.Lognormal, unitworld.Pareto} {
		for range 4 {
			units := drawCommunities(unitworld.Communities{Units: 14, Sizes: sizes, ICC: .3, Gain: .5}, random)
			result, err := PermuteLift(units, .05, 1)
			if err != nil {
				t.Fatal(err)
			}
			for lambda := .05; lambda < 20; lambda *= 1.06 {
				divided := slices.Clone(units)
				for i := range divided {
					if divided[i].Treatment {
						divided[i].Sum /= lambda
					}
				}
				p := must(PermuteLift(divided, .05, 1))(t).P
				if inside := result.Interval.Contains(lambda - 1); inside != (p > .05) {
					t.Errorf("sizes %d: lift %v has p %v, interval %v", sizes, lambda-1, p, result.Interval)
				}
			}
		}
	}
}

// If an arrangement of whole numbers ties with the real one at lift 0, a bound of the interval is exactly 0, so 0 is inside.
func TestATieAtNoEffectIsNotTakenForAnEffect(t *testing.T) {
	t.Parallel()
	random := seeded(64)
	for range 1500 {
		var units []Unit
		for i := range 10 {
			gain := 2 * (i % 2)
			units = append(units, Unit{Treatment: i%2 == 1, Sum: float64(random.IntN(7) + gain), Size: float64(1 + random.IntN(3))})
		}
		if p := must(PermuteLift(units, .05, 1))(t); p.P > .05 && !p.Interval.Contains(0) {
			t.Errorf("p %v, interval of the lift %v", p.P, p.Interval)
		}
		for i := range units {
			units[i].Sum /= 10 // not exact in a float64
		}
		if p := must(Permute(units, .05, 1))(t); (p.P > .05) != p.Interval.Contains(0) {
			t.Errorf("p %v, interval of the difference %v", p.P, p.Interval)
		}
	}
}

func TestArmsWithoutVarianceCanDiffer(t *testing.T) {
	t.Parallel()
	five, zero := []float64{5, 5, 5, 5}, []float64{0, 0, 0, 0}
	lost := must(PermuteLift(singleUnits(five, zero), .05, 0))(t)
	if diff := cmp.Diff(LiftPermutation{5, 0, -1, -5, 2. / 70, 2. / 70, Interval{-1, -1}, 70, true}, lost); diff != "" {
		t.Errorf("all lost: %s", diff)
	}
	found := must(PermuteLift(singleUnits(zero, five), .05, 0))(t)
	if diff := cmp.Diff(LiftPermutation{0, 5, math.Inf(1), 5, 2. / 70, 2. / 70, Interval{math.Inf(1), math.Inf(1)}, 70, true}, found); diff != "" {
		t.Errorf("something from nothing: %s", diff)
	}
	few := must(PermuteLift(singleUnits(zero[:3], five[:3]), .05, 0))(t)
	if diff := cmp.Diff(Interval{-1, math.Inf(1)}, few.Interval); diff != "" {
		t.Errorf("three against three, p %v: %s", few.P, diff)
	}
	if p := must(Permute(singleUnits(zero, five), .05, 0))(t); p.P != 2./70 || p.Interval != (Interval{5, 5}) {
		t.Errorf("difference of single units: %+v", p)
	}
}

func TestSmallestPAgreesWithThePermutationTest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		design [][2]int
		want   float64
	}{
		{[][2]int{{2, 2}, {1, 1}, {1, 1}}, 2. / 24},
		{[][2]int{{4, 4}}, 2. / 70},
		{[][2]int{{4, 0}, {0, 4}}, 1},
		{nil, 1},
		{[][2]int{{10, 10}}, 2. / 184_756},
		{[][2]int{{11, 11}}, 2. / (PermutationDraws + 1)},
		{[][2]int{{500, 1000}, {500, 1000}}, 2. / 25_001},
		{[][2]int{{100_000, 100_000}}, 2. / (PermutationFewest + 1)},
	} {
		if diff := cmp.Diff(c.want, SmallestP(c.design), near); diff != "" {
			t.Errorf("%v: %s", c.design, diff)
		}
	}
	for _, n := range []int{4, 16, 60} {
		var design [3][2]int
		units := drawCommunities(unitworld.Communities{Units: n}, seeded(63))
		for _, u := range units {
			design[u.Stratum][oneIf(u.Treatment)]++
		}
		if got := must(PermuteLift(units, .05, 1))(t).Smallest; got != SmallestP(design[:]) {
			t.Errorf("%v: %v for the units, %v for the design", design, got, SmallestP(design[:]))
		}
	}
}

// communityWorlds returns worlds in which t tests and the delta method are wrong too often.
func communityWorlds() (worlds []unitworld.Communities) {
	for _, n := range []int{16, 60, 190, 400, 1000} {
		for _, icc := range []float64{.05, .3} {
			for _, w := range []unitworld.Communities{
				{Name: "equal sizes"},
				{Name: "lognormal 1.5", Sizes: unitworld.Lognormal},
				{Name: "Pareto 1.1", Sizes: unitworld.Pareto},
				{Name: "lognormal 1.5, rate ~ size^.3", Sizes: unitworld.Lognormal, Growth: .3},
				{Name: "Pareto 1.1, rate ~ size^.3", Sizes: unitworld.Pareto, Growth: .3},
			} {
				w.Units, w.ICC = n, icc
				w.Name = strconv.Itoa(n) + " communities, " + w.Name + ", ICC " + strconv.FormatFloat(icc, 'g', -1, 64)
				worlds = append(worlds, w)
			}
		}
	}
	return worlds
}

// At most 7 % of experiments without an effect are found to have one, and at most 7 % of intervals exclude a true x1.5. The test
// logs other rates as well: how often a bound is infinite, how often x1.5 is found, and how often an effect is found if half of
// the communities gain what the others lose, of which nothing is promised.
func TestPermuteLiftIsSeldomWrong(t *testing.T) {
	t.Parallel()
	const draws, most = 999, .07
	for seed, world := range communityWorlds() {
		if world.Units > *simulated {
			continue // large worlds take long, so they are only for -simulated 2000
		}
		t.Run(world.Name, func(t *testing.T) {
			t.Parallel()
			random := seeded(uint64(1000 + seed))
			var falsely, excluded, unbounded, found, cancelled, naive, gaps rate
			for range *simulated {
				simulate := func(gain float64, cancels bool) (LiftPermutation, []Unit, bool) {
					w := world
					w.Gain, w.Cancels = gain, cancels
					units := drawCommunities(w, random)
					p, err := PermuteLiftDraws(units, .05, 1, draws)
					return p, units, err == nil
				}
				if p, units, ok := simulate(0, false); ok {
					falsely.count(p.P <= .05)
					naive.count(clusterTFinds(t, units))
					gaps.count(p.P <= .05 && p.Interval.Contains(0))
					if p.P > .05 && !p.Interval.Contains(0) {
						t.Errorf("p %v, interval %v", p.P, p.Interval)
					}
				}
				if p, _, ok := simulate(.5, false); ok {
					excluded.count(!p.Interval.Contains(.5))
					unbounded.count(p.Interval.Lower == -1 || math.IsInf(p.Interval.Upper, 1))
					found.count(p.Interval.Lower > 0)
				}
				if p, _, ok := simulate(.5, true); ok {
					cancelled.count(p.P <= .05)
				}
			}
			falsely.atMost(t, "effect found without one", most)
			excluded.atMost(t, "interval excludes x1.5", most)
			t.Logf("t test of clusters without an effect %.1f %%; of x1.5 found %.1f %%, unbounded %.1f %%; gains that cancel %.1f %%; gaps %.2f %%",
				100*naive.value(), 100*found.value(), 100*unbounded.value(), 100*cancelled.value(), 100*gaps.value())
		})
	}
}

// clusterTFinds reports whether the t test of ratio estimators finds a difference.
func clusterTFinds(t *testing.T, units []Unit) bool {
	var arms [2]Pairs
	for _, u := range units {
		arms[oneIf(u.Treatment)].Add(u.Sum, u.Size)
	}
	a, errA := arms[0].Ratio()
	b, errB := arms[1].Ratio()
	if errA != nil || errB != nil {
		return false
	}
	test, err := clusterDifference(t, a, b).Test()
	return err == nil && test.P <= .05
}

// clusterDifference is Difference with K - 2 degrees of freedom over K clusters of both arms. Reports no longer use it, because it
// is wrong too often if clusters differ in size.
// Source: Donner, Klar, "Design and Analysis of Cluster Randomization Trials in Health Research", 2000.
func clusterDifference(t *testing.T, control, treatment Estimate) Estimate {
	t.Helper()
	d := must(Difference(control, treatment))(t)
	d.DF = float64(d.N - 2)
	return d
}
