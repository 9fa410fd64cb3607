package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/stat/distuv"

	"warble/shared/stats/unitworld"
)

// With clusters of one member, the standard error is that of the mean. For three clusters of different sizes it is computed by
// hand.
func TestJackknifeStandardErrors(t *testing.T) {
	t.Parallel()
	random := seeded(70)
	var moments [2]Moments
	var clusters [2][]Cluster
	for arm := range 2 {
		for range 30 + 10*arm {
			y := 5 + random.NormFloat64()
			moments[arm].Add(y)
			clusters[arm] = append(clusters[arm], Cluster{Sum: y, Size: 1})
		}
	}
	want := must(Difference(must(moments[0].Mean())(t), must(moments[1].Mean())(t)))(t)
	if diff := cmp.Diff(want, must(JackknifeDifference(clusters[0], clusters[1]))(t), near); diff != "" {
		t.Errorf("clusters of one: %s", diff)
	}
	// The ratios without each cluster are 5/4, 4/5, 3/3; V is 2/3 of their sum of squares about 61/60. The effective number is 36/14.
	three := []Cluster{{Sum: 1, Size: 2}, {Sum: 2, Size: 1}, {Sum: 3, Size: 3}, {}}
	a := must(jackknife(three, func(r float64) (float64, error) { return r, nil }))(t)
	v := 2. / 3 * (square(5./4-61./60) + square(4./5-61./60) + square(1-61./60))
	if diff := cmp.Diff(Estimate{1, math.Sqrt(v), 36./14 - 1, 3}, a, near); diff != "" {
		t.Errorf("three by hand: %s", diff)
	}
	// The log ratio is the difference of logarithms. With many clusters its error is close to that of the delta method.
	var pairs [2]Pairs
	for arm := range clusters {
		for i := range 400 {
			size := float64(1 + i%7)
			c := Cluster{Sum: size * (3 + random.Float64()), Size: size}
			clusters[arm] = append(clusters[arm], c)
		}
		for _, c := range clusters[arm] {
			pairs[arm].Add(c.Sum, c.Size)
		}
	}
	delta := must(LogRatio(must(pairs[0].Ratio())(t), must(pairs[1].Ratio())(t)))(t)
	e := must(JackknifeLogRatio(clusters[0], clusters[1]))(t)
	if math.Abs(e.Value-delta.Value) > 1e-12 || math.Abs(e.SE/delta.SE-1) > .02 {
		t.Errorf("log ratio %+v, by the delta method %+v", e, delta)
	}
	equal := []Cluster{{Sum: .1, Size: 1}, {Sum: .2, Size: 2}, {Sum: .3, Size: 3}}
	if e := must(JackknifeDifference(equal, equal))(t); e.SE != 0 {
		t.Errorf("clusters with equal ratios have a standard error of %v, want 0", e.SE)
	}
}

func TestEffectiveNumberOfSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sizes []float64
		want  float64
	}{
		{nil, 0}, {[]float64{0, 0}, 0}, {[]float64{7}, 1}, {[]float64{5, 5, 5, 5}, 4}, {[]float64{3, 1, 1, 1}, 3}, {[]float64{1e300, 1e300}, 2}, {[]float64{2, 2, -1e300, math.NaN()}, 2}, {[]float64{math.Inf(1), 1}, 0},
	} {
		if diff := cmp.Diff(c.want, EffectiveNumber(c.sizes), near); diff != "" {
			t.Errorf("%v: %s", c.sizes, diff)
		}
	}
}

// There is a look after every 50 communities, once each arm has the effective number 50. Without an effect, at most 5 % of
// sequences find one, plus 1.5 points because a sequence is asymptotic.
func TestASequenceOfCommunitiesIsSeldomWrong(t *testing.T) {
	t.Parallel()
	for seed, world := range []unitworld.Communities{
		{Name: "equal", Units: 400, ICC: .3}, {Name: "lognormal", Units: 1000, Sizes: unitworld.Lognormal, ICC: .3},
	} {
		random, sequence := seeded(uint64(80+seed)), Sequence{Planned: int64(world.Units), Alpha: .05}
		var falsely, judged rate
		for range *simulated {
			var arms [2][]Cluster
			var sizes [2][]float64
			found, looked := false, false
			for i, u := range world.Draw(random) {
				arm := oneIf(u.Treatment)
				arms[arm], sizes[arm] = append(arms[arm], Cluster{Sum: u.Sum, Size: u.Size}), append(sizes[arm], u.Size)
				if (i+1)%50 == 0 && min(EffectiveNumber(sizes[0]), EffectiveNumber(sizes[1])) >= 50 {
					looked = true
					found = found || must(sequence.P(must(JackknifeDifference(arms[0], arms[1]))(t)))(t) <= .05
				}
			}
			judged.count(looked)
			falsely.count(found)
		}
		falsely.atMost(t, world.Name+" communities: effect found without one", .065)
		judged.atLeast(t, world.Name+" communities: had a look", .7)
	}
}

// The expectation of E after one block, over all outcomes of the block, is at most 1 for any common share and any earlier units.
func TestEqualSharesIsAnEVariable(t *testing.T) {
	t.Parallel()
	random := seeded(71)
	for range 200 {
		sizes := [2]int{1 + random.IntN(3), 1 + random.IntN(3)}
		past := [2]blocks{{size: sizes[0], n: 30, failed: float64(random.IntN(31))}, {size: sizes[1], n: 20, failed: float64(random.IntN(21))}}
		p, expectation := random.Float64(), 0.0
		for a := range sizes[0] + 1 {
			for b := range sizes[1] + 1 {
				s := EqualShares{control: past[0], treatment: past[1]}
				s.control.waiting, s.treatment.waiting = []int{a}, []int{b}
				s.compare()
				likely := distuv.Binomial{N: float64(sizes[0]), P: p}.Prob(float64(a)) * distuv.Binomial{N: float64(sizes[1]), P: p}.Prob(float64(b))
				expectation += likely * math.Exp(s.logE)
			}
		}
		if expectation > 1+1e-9 {
			t.Errorf("blocks of %v, share %v, past %+v: E has the expectation %v", sizes, p, past, expectation)
		}
	}
}

// After the first pair that differs E is 1, because nothing is known before it. After the second pair E is 1.71.
func TestEqualSharesAgreeWithAHandComputation(t *testing.T) {
	t.Parallel()
	s := must(NewEqualShares(50, 50))(t)
	s.Add(false, true)
	s.Add(false, true) // waits for a unit of the treatment
	s.Add(true, false)
	if s.logE != 0 || s.P() != 1 {
		t.Errorf("log E %v and p %v after the first pair, want 0 and 1", s.logE, s.P())
	}
	s.Add(true, false)
	a, b := 1.18/1.36, .18/1.36
	if diff := cmp.Diff(a*(1-b)/.25, math.Exp(s.logE), near); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(.25/(a*(1-b)), s.P(), near); diff != "" {
		t.Error(diff)
	}
	unequal := must(NewEqualShares(90, 10))(t)
	unequal.Add(true, true)
	for range 8 {
		unequal.Add(false, false)
	}
	if unequal.control.n != 0 {
		t.Error("a block of 9 : 1 is compared before it is complete")
	}
	if unequal.Add(false, false); unequal.control.n != 9 || unequal.treatment.n != 1 {
		t.Errorf("a block of 9 : 1: %+v", unequal)
	}
}

// With a look after each block, at most .1 % are false alarms, at any share and any weights.
func TestEqualSharesSeldomAlarmFalselyAndFindDifferences(t *testing.T) {
	t.Parallel()
	for seed, c := range []struct {
		share              float64
		control, treatment int
	}{{.01, 1, 1}, {.1, 1, 1}, {.5, 1, 1}, {.1, 9, 1}} {
		equalSharesAlarms(t, seeded(uint64(90+seed)), 2000, c.control, c.treatment, c.share, c.share).atMost(t, "false alarms", EqualSharesAlarm)
	}
	equalSharesAlarms(t, seeded(95), 200, 1, 1, .10, .20).closeTo(t, "20 % against 10 % of 500 units each found", .5)
	equalSharesAlarms(t, seeded(96), 200, 9, 1, .02, .30).atLeast(t, "30 % of 100 units against 2 % of 900 found", .95)
	// Of one arm 100 of 513 assigned units were never exposed, of the other none of 487.
	random := seeded(97)
	for range 20 {
		s := must(NewEqualShares(1, 1))(t)
		for range 487 {
			s.Add(true, false)
		}
		for _, i := range random.Perm(513) {
			s.Add(false, i < 100)
		}
		if s.P() > 1e-12 {
			t.Errorf("100 of 513 against 0 of 487: p %v", s.P())
		}
	}
}

// equalSharesAlarms simulates experiments of about 1000 units, and counts alarms.
func equalSharesAlarms(t *testing.T, random *rand.Rand, runs, control, treatment int, shareA, shareB float64) (r rate) {
	for range runs {
		s := must(NewEqualShares(control, treatment))(t)
		for range 1000 / (control + treatment) {
			for range control {
				s.Add(false, random.Float64() < shareA)
			}
			for range treatment {
				s.Add(true, random.Float64() < shareB)
			}
		}
		r.count(s.P() <= EqualSharesAlarm)
	}
	return r
}

func TestSpreadAgreesWithTheDefinition(t *testing.T) {
	t.Parallel()
	random := seeded(72)
	var whole, left, right Shape
	var values []float64
	for i := range 500 {
		x := 0.0
		if random.IntN(3) > 0 {
			x = 100 + math.Exp(random.NormFloat64())
		}
		values = append(values, x)
		whole.Add(x)
		if i%2 == 0 {
			left.Add(x)
		} else {
			right.Add(x)
		}
	}
	mean := whole.Sum / 500
	var m2, m3 float64
	for _, x := range values {
		m2, m3 = m2+square(x-mean)/500, m3+(x-mean)*square(x-mean)/500
	}
	spread := must(whole.Spread())(t)
	if math.Abs(spread.Skewness-m3/math.Pow(m2, 1.5)) > 1e-9 || spread.NonZero != whole.NonZero || spread.NonZero < 300 || spread.NonZero > 370 {
		t.Errorf("%+v, want a skewness of %v", spread, m3/math.Pow(m2, 1.5))
	}
	if diff := cmp.Diff(whole, left.Merge(right), near); diff != "" {
		t.Error(diff)
	}
	if s := must(Shape{Moments: Moments{5, 10, 20}, SumCubes: 40, NonZero: 5}.Spread())(t); s != (Spread{NonZero: 5}) {
		t.Errorf("equal values: %+v", s)
	}
	for _, c := range []struct {
		spread          Spread
		sequence, welch bool
	}{{Spread{49, 0}, false, false}, {Spread{50, 0}, true, true}, {Spread{50, -4.1}, true, false}, {Spread{1000, 30}, true, false}} {
		if c.spread.Sequence() != c.sequence || c.spread.Welch() != c.welch {
			t.Errorf("%+v: sequence %t, Welch %t", c.spread, c.spread.Sequence(), c.spread.Welch())
		}
	}
}

// In experiments that Spread.Welch admits, the interval of Welch's test excludes the true difference in at most 5 % plus 1.5
// points, unless the values are very skewed. Of these, few are admitted.
func TestWelchIsSeldomWrongIfItMayJudge(t *testing.T) {
	t.Parallel()
	lognormal := func(sigma float64) func(*rand.Rand) float64 {
		return func(random *rand.Rand) float64 { return math.Exp(sigma*random.NormFloat64() - sigma*sigma/2) }
	}
	for seed, c := range []struct {
		name        string
		draw        func(*rand.Rand) float64
		least, most float64 // share of the experiments that are admitted
	}{
		{"lognormal .5", lognormal(.5), .97, 1}, {"exponential", (*rand.Rand).ExpFloat64, .97, 1},
		{"lognormal 1", lognormal(1), .60, .82}, {"lognormal 2", lognormal(2), 0, .25},
	} {
		for _, n := range []int{50, 75, 99} {
			for _, factor := range []float64{1, 1.5} {
				random := seeded(uint64(300 + 10*seed + n))
				var admitted, excluded rate
				for range 1000 {
					var a, b Shape
					for range n {
						a.Add(c.draw(random))
						b.Add(factor * c.draw(random))
					}
					ok := must(a.Spread())(t).Welch() && must(b.Spread())(t).Welch()
					if admitted.count(ok); ok {
						d := must(Difference(must(a.Mean())(t), must(b.Mean())(t)))(t)
						excluded.count(!must(d.Interval(.05))(t).Contains(factor - 1))
					}
				}
				admitted.atLeast(t, c.name+": admitted", c.least)
				admitted.atMost(t, c.name+": admitted", c.most)
				if c.most > .5 {
					excluded.atMost(t, c.name+": interval excludes the difference", .065)
				}
			}
		}
	}
}

// The package confseq inverts the one-sided normal mixture
// ln(4 r/(v + r))/2 + s^2/(2 (v + r)) + ln Phi(s/sqrt(v + r)) = ln(1/alpha) numerically; its r is 1/rho^2 of Sequence. Sequence
// uses the closed form of Waudby-Smith et al., which is an upper bound: never narrower, and at most 2 % wider.
func TestAOneSidedSequenceIsAtMostSlightlyWiderThanTheExactMixture(t *testing.T) {
	t.Parallel()
	for _, alpha := range []float64{.05, .01, .001} {
		for _, n := range []int64{50, 100, 1000} {
			s := Sequence{100, alpha}
			v, rho := float64(n), 1/s.rho2()
			low, high := 0.0, 100*math.Sqrt(v)
			for range 100 {
				bound := (low + high) / 2
				if math.Log(4*rho/(v+rho))/2+bound*bound/2/(v+rho)+math.Log(distuv.UnitNormal.CDF(bound/math.Sqrt(v+rho))) < -math.Log(alpha) {
					low = bound
				} else {
					high = bound
				}
			}
			ours := s.oneSidedMultiple(n) * math.Sqrt(v)
			if ours < low || ours > 1.02*low {
				t.Errorf("alpha %v, %d units: bound %v, by the exact mixture %v", alpha, n, ours, low)
			}
		}
	}
}
