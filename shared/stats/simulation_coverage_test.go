package stats

import (
	"math"
	"testing"
)

// Labels are drawn within two strata with different levels. Every treated member gains 1.
func TestPermutationIntervalsContainTheEffect(t *testing.T) {
	t.Parallel()
	random := seeded(8)
	var covered, found, falsely rate
	for range 400 {
		var units []Unit
		for stratum := range 2 {
			for i, label := range random.Perm(6) {
				size := float64(10 + 5*i)
				units = append(units, Unit{Stratum: stratum, Treatment: label < 3, Size: size, Sum: size * (float64(stratum) + random.ExpFloat64())})
			}
		}
		falsely.count(must(Permute(units, .05, 0))(t).P <= .05)
		for i := range units {
			if units[i].Treatment {
				units[i].Sum += units[i].Size
			}
		}
		p := must(Permute(units, .05, 0))(t)
		if !p.Exact || p.Arrangements != 400 {
			t.Fatalf("%+v, want the 20 x 20 arrangements", p)
		}
		covered.count(p.Interval.Contains(1))
		found.count(p.P <= .05)
	}
	falsely.atMost(t, "effect found without one", .05)
	covered.atLeast(t, "interval contains the effect", .95)
	covered.atMost(t, "interval contains the effect", .97) // 20 x 20 arrangements allow nothing closer to .95
}

// A history with a correlation of .8 removes .64 of the variance, and the interval contains the effect as often.
func TestCUPEDReducesTheVarianceAndKeepsTheCoverage(t *testing.T) {
	t.Parallel()
	random := seeded(9)
	const correlation, effect, units = .8, .2, 200
	var covered rate
	var reduction, theta float64
	for range 1000 {
		var arms [2]History
		for arm := range arms {
			for range units {
				x := random.NormFloat64()
				arms[arm].With.Add(3*(correlation*x+math.Sqrt(1-correlation*correlation)*random.NormFloat64())+effect*float64(arm), x)
			}
		}
		adjusted := must(CUPED(arms[0], arms[1]))(t)
		d := must(Difference(adjusted.Control, adjusted.Treatment))(t)
		covered.count(must(d.Interval(.05))(t).Contains(effect))
		reduction, theta = reduction+adjusted.Reduction/1000, theta+adjusted.Theta/1000
	}
	covered.closeTo(t, "interval contains the effect", .95)
	if math.Abs(reduction-correlation*correlation) > .01 || math.Abs(theta-3*correlation) > .01 {
		t.Errorf("variance reduced by %.3f with theta %.3f, want .64 and 2.4", reduction, theta)
	}
}

// The p95 of two arms with the same latency, whose level wanders from span to span.
func TestQuantileIntervalsContainTheDifference(t *testing.T) {
	t.Parallel()
	random := seeded(10)
	var bounds []float64
	for b := .001; b < 60; b *= 1.1 {
		bounds = append(bounds, b)
	}
	span := func() Histogram {
		h := Histogram{bounds, make([]int64, len(bounds)+1)}
		level := .05 * math.Exp(.2*random.NormFloat64())
		for range 100 {
			v := level * math.Exp(.5*random.NormFloat64())
			h.Counts[int(max(0, math.Ceil(math.Log(v/.001)/math.Log(1.1))))]++
		}
		return h
	}
	var covered rate
	for range 300 {
		var arms [2][]Histogram
		for range 20 {
			arms[0], arms[1] = append(arms[0], span()), append(arms[1], span())
		}
		covered.count(must(CompareQuantiles(.95, arms[0], arms[1], .05))(t).Interval.Contains(0))
	}
	covered.atLeast(t, "interval contains 0", .95)
}

// This also holds for arms of unequal size and variance. The test is Kolmogorov and Smirnov's at .001.
func TestPIsUniformWithoutAnEffect(t *testing.T) {
	t.Parallel()
	const runs = 10_000
	random := seeded(11)
	var below [100]int // p-values up to each hundredth
	for range runs {
		var a, b Moments
		for range 30 {
			a.Add(random.NormFloat64())
			b.Add(2 * random.NormFloat64())
		}
		for range 30 {
			a.Add(random.NormFloat64())
		}
		p := must(must(Difference(must(a.Mean())(t), must(b.Mean())(t)))(t).Test())(t).P
		for i := range below {
			if p <= float64(i)/100 {
				below[i]++
			}
		}
	}
	for i, n := range below {
		if gap := math.Abs(float64(n)/runs - float64(i)/100); gap > 1.95/math.Sqrt(runs) {
			t.Errorf("%d of %d p-values are at most %.2f: wrong by %.3f", n, runs, float64(i)/100, gap)
		}
	}
}
