package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// near lets figures differ by rounding.
var near = cmpopts.EquateApprox(1e-9, 1e-12)

// randomArms draws two arms of unequal size.
func randomArms(t *testing.T, random *rand.Rand) (control, treatment Estimate) {
	var a, b Moments
	for range 20 + random.IntN(50) {
		a.Add(5 + random.NormFloat64())
	}
	for range 20 + random.IntN(50) {
		b.Add(5 + 3*random.NormFloat64())
	}
	return must(a.Mean())(t), must(b.Mean())(t)
}

func TestSwappingTheArmsMirrorsTheEffect(t *testing.T) {
	t.Parallel()
	random := seeded(20)
	for range 50 {
		a, b := randomArms(t, random)
		effect, swapped := must(Difference(a, b))(t), must(Difference(b, a))(t)
		if diff := cmp.Diff(effect, Estimate{-swapped.Value, swapped.SE, swapped.DF, swapped.N}, near); diff != "" {
			t.Error(diff)
		}
		effect, swapped = must(LogRatio(a, b))(t), must(LogRatio(b, a))(t)
		if diff := cmp.Diff(effect, Estimate{-swapped.Value, swapped.SE, swapped.DF, swapped.N}, near); diff != "" {
			t.Error(diff)
		}
		p, q := Proportion{random.Int64N(50), 50}, Proportion{random.Int64N(80), 80}
		newcombe, swappedNewcombe := must(Newcombe(p, q, .05))(t), must(Newcombe(q, p, .05))(t)
		if diff := cmp.Diff(newcombe, Interval{-swappedNewcombe.Upper, -swappedNewcombe.Lower}, near); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(must(FisherExact(p, q))(t), must(FisherExact(q, p))(t), near); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEffectsScaleWithTheMetricAndLiftsDoNot(t *testing.T) {
	t.Parallel()
	scaled := func(e Estimate) Estimate { return Estimate{1000 * e.Value, 1000 * e.SE, e.DF, e.N} }
	a, b := randomArms(t, seeded(21))
	for name, pair := range map[string][2]Estimate{
		"difference": {scaled(must(Difference(a, b))(t)), must(Difference(scaled(a), scaled(b)))(t)},
		"lift":       {must(Lift(a, b))(t), must(Lift(scaled(a), scaled(b)))(t)},
		"log ratio":  {must(LogRatio(a, b))(t), must(LogRatio(scaled(a), scaled(b)))(t)},
	} {
		if diff := cmp.Diff(pair[0], pair[1], near); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Statistics of parts can be merged, like SQL's partial aggregates.
func TestMergedPartsEqualTheWhole(t *testing.T) {
	t.Parallel()
	random := seeded(22)
	var whole, left, right Moments
	var pairs, first, second Pairs
	for i := range 100 {
		x, y := random.ExpFloat64(), random.NormFloat64()
		whole.Add(x)
		pairs.Add(y, x)
		if i%3 == 0 {
			left.Add(x)
			first.Add(y, x)
		} else {
			right.Add(x)
			second.Add(y, x)
		}
	}
	if diff := cmp.Diff(whole, left.Merge(right), near); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(pairs, first.Merge(second), near); diff != "" {
		t.Error(diff)
	}
}

func TestTheRatioOfClustersOfOneMemberIsTheMean(t *testing.T) {
	t.Parallel()
	random := seeded(23)
	var moments Moments
	var ratio Pairs
	for range 80 {
		y := random.NormFloat64() + random.ExpFloat64()
		moments.Add(y)
		ratio.Add(y, 1)
	}
	if diff := cmp.Diff(must(moments.Mean())(t), must(ratio.Ratio())(t), near); diff != "" {
		t.Error(diff)
	}
}

// If no unit has a history, nothing is adjusted.
func TestAUnitWithoutHistoryCountsAsOneWithTheMeanOfThePast(t *testing.T) {
	t.Parallel()
	random := seeded(26)
	var missing, filled [2]History
	var plain [2]Moments
	for arm := range 2 {
		for _, x := range []float64{1, 2, 3, 4, 5} { // the mean of both arms is 3
			y := x + random.NormFloat64()
			missing[arm].With.Add(y, x)
			filled[arm].With.Add(y, x)
			plain[arm].Add(y)
		}
		for range 1 + arm {
			y := random.NormFloat64()
			missing[arm].Without.Add(y)
			filled[arm].With.Add(y, 3)
			plain[arm].Add(y)
		}
	}
	if diff := cmp.Diff(must(CUPED(missing[0], missing[1]))(t), must(CUPED(filled[0], filled[1]))(t), near); diff != "" {
		t.Error(diff)
	}
	a, b := must(plain[0].Mean())(t), must(plain[1].Mean())(t)
	if diff := cmp.Diff(Adjusted{Control: a, Treatment: b}, must(CUPED(History{Without: plain[0]}, History{Without: plain[1]}))(t), near); diff != "" {
		t.Error(diff)
	}
}

func TestIntervalsExcludeZeroExactlyIfPIsUnderAlpha(t *testing.T) {
	t.Parallel()
	random := seeded(24)
	sequence := Sequence{Planned: 100, Alpha: .05}
	for range 500 {
		e := Estimate{Value: 4 * random.NormFloat64(), SE: random.ExpFloat64(), DF: 1 + 50*random.Float64(), N: 1 + random.Int64N(300)}
		if outside := !must(e.Interval(.05))(t).Contains(0); outside != (must(e.Test())(t).P < .05) {
			t.Errorf("%+v: the t interval and its test disagree", e)
		}
		if outside := !must(sequence.Interval(e))(t).Contains(0); outside != (must(sequence.P(e))(t) < .05) {
			t.Errorf("%+v: the sequence and its p disagree", e)
		}
		units := singleUnits([]float64{random.NormFloat64(), random.NormFloat64(), random.NormFloat64(), random.NormFloat64()},
			[]float64{e.Value, e.Value + random.NormFloat64(), e.Value + random.NormFloat64(), e.Value + random.NormFloat64()})
		p := must(Permute(units, .05, 0))(t)
		if outside := !p.Interval.Contains(0); outside != (p.P <= .05) {
			t.Errorf("%+v: the permutation interval and its test disagree", p)
		}
	}
}

// More confidence makes an interval wider, and more units make it narrower. A sequence is wider than the interval of a single
// look, and narrowest at the number of units that it is planned for.
func TestWidthsOfIntervals(t *testing.T) {
	t.Parallel()
	width := func(i Interval) float64 { return i.Upper - i.Lower }
	last := math.Inf(1)
	for n := int64(100); n <= 1e6; n *= 10 {
		e := Estimate{SE: 1 / math.Sqrt(float64(n)), DF: float64(n - 2), N: n}
		sequence := width(must(Sequence{10_000, .05}.Interval(e))(t))
		strict := width(must(Sequence{10_000, .01}.Interval(e))(t))
		single := width(must(e.Interval(.05))(t))
		if !(single < sequence && sequence < strict && sequence < last) {
			t.Errorf("%d units: single look %v, sequence %v (%v at fewer units), at alpha .01 %v", n, single, sequence, last, strict)
		}
		last = sequence
	}
	for n := int64(10); n <= 1e5; n *= 10 {
		planned := must(Sequence{n, .05}.Interval(Estimate{SE: 1, DF: 1, N: n}))(t)
		for _, other := range []int64{n/10 + 1, 10 * n} {
			if i := must(Sequence{other, .05}.Interval(Estimate{SE: 1, DF: 1, N: n}))(t); width(i) < width(planned) {
				t.Errorf("a sequence planned for %d units is narrower at %d than one planned for these", other, n)
			}
		}
	}
}

func TestBatchesDoNotChangeTheEvidenceOfTheSampleRatio(t *testing.T) {
	t.Parallel()
	logE := func(batches ...[]int64) float64 {
		s := must(NewSampleRatio([]float64{1, 3}, 10_000))(t)
		for _, b := range batches {
			if err := s.Add(b...); err != nil {
				t.Fatal(err)
			}
		}
		return s.priors[1].logM1 - s.logM0
	}
	if diff := cmp.Diff(logE([]int64{300, 700}), logE([]int64{100, 0}, []int64{0, 0}, []int64{200, 700}), near); diff != "" {
		t.Error(diff)
	}
}

// An interval at a metric's own alpha excludes 0 exactly if the adjusted p is at most alpha.
func TestHolmAlphasAgreeWithHolm(t *testing.T) {
	t.Parallel()
	const alpha = .05
	random := rand.New(rand.NewPCG(1, 2))
	seen := make(map[bool]int)
	for range 20_000 {
		p := make([]float64, 1+random.IntN(6))
		for i := range p {
			p[i] = math.Pow(random.Float64(), 3) / float64(1+random.IntN(3))
			if random.IntN(4) == 0 { // like the p of a permutation test, which has few possible values
				p[i] = float64(random.IntN(11)) / 200
			}
		}
		adjusted := must(Holm(p))(t)
		alphas := must(HolmAlphas(p, alpha))(t)
		for i := range p {
			if least := alpha / float64(len(p)); alphas[i] < least || alphas[i] > alpha*(1+1e-9) {
				t.Fatalf("alpha %v of %v: expected %v to %v", alphas[i], p, least, alpha)
			}
			if tie := math.Abs(adjusted[i]-alpha) <= 1e-12; !tie && (p[i] <= alphas[i]) != (adjusted[i] <= alpha) {
				t.Fatalf("%v of %v: alpha %v, adjusted %v", p[i], p, alphas[i], adjusted[i])
			}
			seen[adjusted[i] <= alpha]++
		}
	}
	if seen[true] < 1000 || seen[false] < 1000 {
		t.Errorf("%v: expected many of each", seen)
	}
}

// At any alpha, the interval of a sequence excludes 0 exactly if p is at most this alpha.
func TestIntervalAtAgreesWithP(t *testing.T) {
	t.Parallel()
	s := Sequence{Planned: 1000, Alpha: .05}
	for _, alpha := range []float64{.05, .02, .001} {
		for value := 0.0; value < 6; value += .01 {
			e := Estimate{Value: value, SE: 1, DF: 698, N: 700}
			p, i := must(s.P(e))(t), must(s.IntervalAt(e, alpha))(t)
			if (p <= alpha) != (i.Lower > 0) {
				t.Errorf("alpha %v, value %v: p %v, interval %v", alpha, value, p, i)
			}
		}
	}
}
