package stats

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// The error says what cannot be computed, and wraps the sentinel by which a caller decides.
func TestFiguresThatCannotBeComputedAreErrors(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	good := Estimate{Value: 1, SE: .1, DF: 10, N: 12}
	half, none := Proportion{5, 10}, Proportion{}
	spans := []Histogram{{[]float64{1}, []int64{5, 0}}, {[]float64{1}, []int64{5, 0}}}
	design := Design{Alpha: .05, Power: .8}
	for _, c := range []struct {
		name string
		err  error
		is   error  // the sentinel; nil if the mistake is in the arguments
		says string // what the message must contain
	}{
		{"alpha 0", errorOf(good.Interval(0)), nil, "alpha 0"},
		{"alpha 1", errorOf(Sequence{100, 1}.Interval(good)), nil, "alpha 1"},
		{"alpha NaN", errorOf(Newcombe(half, half, nan)), nil, "alpha NaN"},
		{"alpha too small to be of use", errorOf(good.Interval(1e-12)), nil, "alpha 1e-12: expected 1e-09 or more"},
		{"nothing planned", errorOf(Sequence{0, .05}.P(good)), nil, "0 units planned"},
		{"no variance", errorOf(Estimate{Value: 1, DF: 1, N: 2}.Test()), ErrNoVariance, "of 2 units"},
		{"negative standard error", errorOf(Estimate{SE: -1, DF: 1, N: 2}.Test()), nil, "SE:-1"},
		{"NaN estimate", errorOf(Difference(Estimate{Value: nan, SE: 1, DF: 1, N: 2}, good)), nil, "control"},
		{"no units", errorOf(Moments{}.Mean()), ErrTooFew, "0 units"},
		{"one unit", errorOf(Moments{1, 5, 25}.Mean()), ErrTooFew, "1 units"},
		{"impossible sums", errorOf(Moments{10, 100, 1}.Mean()), nil, "no data has these sums"},
		{"infinite sum", errorOf(Moments{10, inf, 1}.Mean()), nil, "finite"},
		{"sums too large for a float64", errorOf(Moments{10, 1e300, math.MaxFloat64}.Mean()), nil, "too large"},
		{"one cluster", errorOf(Pairs{N: 1, SumX: 1, SumXX: 1}.Ratio()), ErrTooFew, "1 clusters"},
		{"no members", errorOf(Pairs{N: 3}.Ratio()), ErrTooFew, "without members"},
		{"lift with a control mean of 0", errorOf(Lift(Estimate{SE: 1, DF: 1, N: 2}, good)), ErrUnstable, "control mean 0"},
		{"log ratio with a control mean near 0", errorOf(LogRatio(Estimate{Value: 4.9, SE: 1, DF: 1, N: 2}, good)), ErrUnstable, "4.9"},
		{"more successes than units", errorOf(TwoProportions(Proportion{3, 2}, half)), nil, "3 of 2"},
		{"no treatment", errorOf(FisherExact(half, none)), ErrTooFew, "treatment"},
		{"no control", errorOf(Newcombe(none, half, .05)), ErrTooFew, "control"},
		{"one arm", errorOf(ChiSquare([]int64{1}, []float64{1})), nil, "1 arms"},
		{"counts of the wrong number of arms", errorOf(ChiSquare([]int64{1, 2, 3}, []float64{1, 1})), nil, "3 arms"},
		{"negative count", errorOf(ChiSquare([]int64{1, -1}, []float64{1, 1})), nil, "0 or more"},
		{"no units in any arm", errorOf(ChiSquare([]int64{0, 0}, []float64{1, 1})), ErrTooFew, "no units"},
		{"weight 0", errorOf(NewSampleRatio([]float64{1, 0}, 1000)), nil, "weights"},
		{"planned below 0", errorOf(NewSampleRatio([]float64{1, 1}, -1)), nil, "-1 units planned"},
		{"a block of 0", errorOf(NewEqualShares(1, 0)), nil, "1 : 0"},
		{"a block too large", errorOf(NewEqualShares(1001, 1)), nil, "1000 units"},
		{"no cluster", errorOf(JackknifeDifference(nil, []Cluster{{Size: 1}, {Size: 1}})), ErrTooFew, "control: 0 clusters"},
		{"one cluster with members", errorOf(JackknifeDifference([]Cluster{{Size: 1}, {}}, []Cluster{{Size: 1}, {Size: 1}})), ErrTooFew, "1 clusters"},
		{"one cluster with nearly all members", errorOf(JackknifeDifference([]Cluster{{5, 1e9}, {1, 1}}, []Cluster{{5, 1e9}, {1, 1}})), ErrTooFew, "degrees of freedom of 4 clusters"},
		{"cluster of infinite size", errorOf(JackknifeDifference([]Cluster{{Size: inf}}, []Cluster{{Size: 1}, {Size: 1}})), nil, "cluster 0"},
		{"log ratio of a sum of 0", errorOf(JackknifeLogRatio([]Cluster{{Size: 1}, {Sum: 1, Size: 1}}, []Cluster{{Sum: 1, Size: 1}, {Sum: 1, Size: 1}})), ErrUnstable, "ratio 0"},
		{"log ratio with a noisy control", errorOf(JackknifeLogRatio([]Cluster{{Sum: 1, Size: 1}, {Sum: 2, Size: 1}}, []Cluster{{Sum: 1, Size: 1}, {Sum: 1, Size: 1}})), ErrUnstable, "relative standard error"},
		{"one value", errorOf(Shape{Moments: Moments{N: 1}}.Spread()), ErrTooFew, "1 units"},
		{"more values than units", errorOf(Shape{Moments: Moments{N: 2}, NonZero: 3}.Spread()), nil, "3 of 2"},
		{"counts of one arm", must(NewSampleRatio([]float64{1, 1}, 1000))(t).Add(1), nil, "counts of 1 arms"},
		{"p over 1", errorOf(Holm([]float64{.1, 1.1})), nil, "1.1"},
		{"p NaN", errorOf(Holm([]float64{nan})), nil, "NaN"},
		{"no history, no units", errorOf(CUPED(History{}, History{})), ErrTooFew, "control"},
		{"only treated units", errorOf(Permute(singleUnits(nil, []float64{1, 2}), .05, 0)), ErrTooFew, "2 are treated"},
		{"no units to permute", errorOf(Permute(nil, .05, 0)), ErrTooFew, "0 units"},
		{"unit of size 0", errorOf(Permute([]Unit{{}}, .05, 0)), nil, "size"},
		{"units all alike", errorOf(Permute(singleUnits([]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}), .05, 0)), ErrNoVariance, "8 units"},
		{"only treated communities", errorOf(PermuteLift(singleUnits(nil, []float64{1, 2}), .05, 0)), ErrTooFew, "2 are treated"},
		{"communities all alike", errorOf(PermuteLift(singleUnits([]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}), .05, 0)), ErrNoVariance, "8 units"},
		{"communities that do nothing", errorOf(PermuteLift([]Unit{{Size: 1}, {Size: 1, Treatment: true}}, .05, 0)), ErrNoVariance, "2 units"},
		{"no step with both arms", errorOf(PermuteLift([]Unit{{Sum: 1, Size: 1}, {Stratum: 1, Size: 1, Treatment: true}}, .05, 0)), ErrTooFew, "no stratum with both arms"},
		{"lift of a negative sum", errorOf(PermuteLift(singleUnits([]float64{1}, []float64{-2}), .05, 0)), nil, "0 or more"},
		{"no draws", errorOf(PermuteLiftDraws(singleUnits([]float64{1}, []float64{2}), .05, 0, 0)), nil, "0 draws"},
		{"power 1", errorOf(Design{Alpha: .05, Power: 1}.Means(1, .1)), nil, "power 1"},
		{"power that is under alpha/2", errorOf(Design{Alpha: .05, Power: .02}.Means(1, .1)), nil, "power 0.02"},
		{"no effect", errorOf(design.Means(1, 0)), nil, "effect 0"},
		{"equal shares", errorOf(design.Proportions(.1, .1)), nil, "0.1 and 0.1"},
		{"share 0", errorOf(design.Proportions(0, .1)), nil, "share p1 0"},
		{"more units than can be counted", errorOf(design.Means(1, 1e-300)), nil, "more than can be counted"},
		{"cluster of a half", errorOf(Design{Alpha: .05, Power: .8, ClusterSize: .5}.Inflation()), nil, "cluster size 0.5"},
		{"ICC over 1", errorOf(Design{Alpha: .05, Power: .8, ICC: 2}.Inflation()), nil, "correlation 2"},
		{"detectable effect of no members", errorOf(design.DetectableEffect(1, 0)), ErrTooFew, "0 members"},
		{"intrinsic time below 0", errorOf(NormalMixture{1, .05}.Bound(-1)), nil, "time -1"},
		{"no histograms", errorOf(CompareQuantiles(.5, nil, spans, .05)), ErrTooFew, "control"},
		{"one span", errorOf(CompareQuantiles(.5, spans[:1], spans, .05)), ErrTooFew, "control"},
		{"other bounds", errorOf(CompareQuantiles(.5, spans, []Histogram{{[]float64{2}, []int64{5, 0}}}, .05)), nil, "same bounds"},
		{"bounds that fall", errorOf(Histogram{[]float64{2, 1}, []int64{1, 1, 1}}.Quantile(.5)), nil, "ascending"},
		{"a count too few", errorOf(Histogram{[]float64{1, 2}, []int64{1, 1}}.Quantile(.5)), nil, "2 bounds and 2 counts"},
		{"quantile 1", errorOf(spans[0].Quantile(1)), nil, "quantile 1"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", c.name, c.err, c.says)
		}
		for _, sentinel := range []error{ErrTooFew, ErrNoVariance, ErrUnstable, ErrBeyondBounds} {
			if errors.Is(c.err, sentinel) != (sentinel == c.is) {
				t.Errorf("%s: %v: is %q: %t, want %t", c.name, c.err, sentinel, sentinel != c.is, sentinel == c.is)
			}
		}
	}
}

// errorOf returns the error of a call.
func errorOf[T any](_ T, err error) error { return err }

func TestRoundingOfEqualValuesIsNotTakenForVariance(t *testing.T) {
	t.Parallel()
	var m Moments
	for range 1_000_000 {
		m.Add(.1)
	}
	if e := must(m.Mean())(t); e.SE != 0 {
		t.Errorf("standard error %v of a million equal values", e.SE)
	}
}
