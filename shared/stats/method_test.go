package stats

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The expected figures are sums of exact binomial coefficients, from a cup of tea to a million units.
func TestFisherExactAgreesWithExactSums(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		control, treatment Proportion
		want               float64
	}{
		{Proportion{3, 4}, Proportion{1, 4}, 34. / 70}, // Fisher's tea, two-sided
		{Proportion{8, 10}, Proportion{1, 6}, 0.03496503496503497},
		{Proportion{5, 83}, Proportion{12, 99}, 0.20410342329154865},
		{Proportion{30, 1000}, Proportion{60, 1000}, 0.0016206190187386922},
		{Proportion{2, 5000}, Proportion{30, 5000}, 2.3712764865720966e-07},
		{Proportion{0, 10}, Proportion{0, 20}, 1},
		{Proportion{10, 10}, Proportion{20, 20}, 1},
		{Proportion{5, 10}, Proportion{10, 20}, 1},
	} {
		if diff := cmp.Diff(c.want, must(FisherExact(c.control, c.treatment))(t).P, near); diff != "" {
			t.Errorf("%v, %v: %s", c.control, c.treatment, diff)
		}
	}
	// With many units, P is close to that of the z test.
	a, b := Proportion{100_300, 500_000}, Proportion{99_700, 500_000}
	if fisher, z := must(FisherExact(a, b))(t).P, must(TwoProportions(a, b))(t).P; math.Abs(fisher-z) > .01*z {
		t.Errorf("a million units: Fisher's p is %v, that of the z test %v", fisher, z)
	}
}

// At the computed size, the z test has the power that the design asks for.
func TestSampleSizeFindsTheEffect(t *testing.T) {
	t.Parallel()
	n := must(Design{Alpha: .05, Power: .8}.Proportions(.1, .12))(t)
	random := seeded(25)
	var found rate
	for range 2000 {
		a, b := Proportion{binomial(random, int(n), .10), n}, Proportion{binomial(random, int(n), .12), n}
		found.count(must(TwoProportions(a, b))(t).P < .05)
	}
	found.closeTo(t, "effect found", .8)
	design := Design{Alpha: .05, Power: .9, ClusterSize: 20, ClusterSizeCV: .5, ICC: .02, Sequence: true}
	size := must(design.Means(2, .05))(t)
	if effect := must(design.DetectableEffect(2, size))(t); effect > .05 || effect < .0499 {
		t.Errorf("%d members detect %v, want .05", size, effect)
	}
	last := int64(0)
	for _, d := range []Design{{Alpha: .05, Power: .8}, {Alpha: .05, Power: .9}, {Alpha: .01, Power: .9}, {Alpha: .01, Power: .9, Sequence: true},
		{Alpha: .01, Power: .9, Sequence: true, ClusterSize: 20, ICC: .05}, {Alpha: .01, Power: .9, Sequence: true, ClusterSize: 20, ICC: .05, ClusterSizeCV: 1}} {
		size := must(d.Means(1, .05))(t)
		if size <= last {
			t.Errorf("%+v needs %d members, want more than for a weaker design, %d", d, size, last)
		}
		last = size
	}
}

func TestPermuteComparesAllArrangementsOrDrawsSome(t *testing.T) {
	t.Parallel()
	random := seeded(27)
	var control, treatment []float64
	for range 10 {
		control, treatment = append(control, random.NormFloat64()), append(treatment, 1+random.NormFloat64())
	}
	exact := must(Permute(singleUnits(control, treatment), .05, 1))(t)
	if !exact.Exact || exact.Arrangements != 184_756 {
		t.Fatalf("%+v, want all 184,756 arrangements", exact)
	}
	units := singleUnits(append(control, 0), append(treatment, 1))
	drawn := must(Permute(units, .05, 1))(t)
	if drawn.Exact || drawn.Arrangements != PermutationDraws+1 {
		t.Fatalf("%+v, want %d arrangements", drawn, PermutationDraws+1)
	}
	slices.Reverse(units)
	if diff := cmp.Diff(drawn, must(Permute(units, .05, 1))(t)); diff != "" {
		t.Errorf("the order of units matters: %s", diff)
	}
	other := must(Permute(units, .05, 2))(t)
	if math.Abs(other.P-drawn.P) > .005 || math.Abs(other.Interval.Lower-drawn.Interval.Lower) > .05 {
		t.Errorf("seeds disagree by more than the draws explain: %+v, %+v", drawn, other)
	}
	// An effect that is added to each treated member moves the interval by the effect.
	for i := range units {
		if units[i].Treatment {
			units[i].Sum += 3
		}
	}
	moved := must(Permute(units, .05, 1))(t)
	want := Interval{drawn.Interval.Lower + 3, drawn.Interval.Upper + 3}
	if diff := cmp.Diff(want, moved.Interval, near); diff != "" {
		t.Errorf("interval of an effect that is 3 larger: %s", diff)
	}
	few := must(Permute(singleUnits([]float64{1, 2}, []float64{8, 9}), .05, 1))(t)
	if diff := cmp.Diff(Permutation{7, 2. / 6, Interval{math.Inf(-1), math.Inf(1)}, 6, true}, few); diff != "" {
		t.Errorf("two against two: %s", diff)
	}
	// A stratum with only one arm has no labels to exchange, so there are still 70 arrangements.
	alone := append(singleUnits([]float64{1, 2, 3, 4}, []float64{5, 6, 7, 9}), Unit{Stratum: 1, Treatment: true, Sum: 4, Size: 1})
	if p := must(Permute(alone, .05, 1))(t); p.Arrangements != 70 {
		t.Errorf("%d arrangements, want 70", p.Arrangements)
	}
}

func TestQuantilesAndTheirDifference(t *testing.T) {
	t.Parallel()
	h := Histogram{[]float64{.1, .2, .5}, []int64{50, 30, 15, 5}}
	for q, want := range map[float64]float64{.25: .05, .5: .1, .65: .15, .8: .2, .9: .4, .95: .5} {
		if diff := cmp.Diff(want, must(h.Quantile(q))(t), near); diff != "" {
			t.Errorf("quantile %v: %s", q, diff)
		}
	}
	if _, err := h.Quantile(.99); !errors.Is(err, ErrBeyondBounds) {
		t.Errorf("p99: %v, want %v", err, ErrBeyondBounds)
	}
	slower := Histogram{h.Bounds, []int64{5, 50, 40, 5}}
	d := must(CompareQuantiles(.5, slices.Repeat([]Histogram{h}, 10), slices.Repeat([]Histogram{slower}, 10), .05))(t)
	if diff := cmp.Diff(.09, d.Difference, near); diff != "" || d.Interval.Lower <= 0 || !d.Interval.Contains(.09) {
		t.Errorf("%+v: %s", d, diff)
	}
	if d := must(CompareQuantiles(.94, slices.Repeat([]Histogram{h}, 2), slices.Repeat([]Histogram{h}, 2), .05))(t); !math.IsInf(d.Interval.Upper, 1) || !math.IsInf(d.Interval.Lower, -1) {
		t.Errorf("%+v, want infinite bounds, because the finite ones would be above the last bound of the histogram", d)
	}
}

// Quantiles agree with published ones, and do not jump where the normal distribution replaces t.
func TestQuantilesAndTailsOfStudentsT(t *testing.T) {
	t.Parallel()
	for df, want := range map[float64]float64{1: 12.706205, 2: 4.302653, 10: 2.228139, 58: 2.001717, 1000: 1.962339, 1e8: 1.959964} {
		if got := studentQuantile(.025, df); math.Abs(got-want) > 1e-6 {
			t.Errorf("t(.975, %v) = %v, want %v", df, got, want)
		}
	}
	for df := 1.0; df < 2*normalDF; df *= 1.5 {
		for tail := .4; tail >= minAlpha/2; tail /= 10 {
			if back := studentTail(studentQuantile(tail, df), df); math.Abs(back/tail-1) > 1e-4 { // the error of the normal distribution itself in the far tail
				t.Errorf("t with %v degrees of freedom: the quantile of tail %v has tail %v", df, tail, back)
			}
		}
	}
	if below, above := studentTail(3, normalDF), studentTail(3, normalDF+1); math.Abs(below/above-1) > 1e-5 {
		t.Errorf("tails at 3: %v by t, %v by the normal distribution", below, above)
	}
}
