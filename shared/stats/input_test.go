package stats

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// TestBadInput: what cannot be computed is an error that names it, with the sentinel that a caller decides by.
func TestBadInput(t *testing.T) {
	t.Parallel()
	nan, inf := math.NaN(), math.Inf(1)
	good := Estimate{Value: 1, SE: .1, DF: 10, N: 12}
	half, none := Proportion{5, 10}, Proportion{}
	spans := []Histogram{{[]float64{1}, []int64{5, 0}}, {[]float64{1}, []int64{5, 0}}}
	design := Design{Alpha: .05, Power: .8}
	for _, c := range []struct {
		name string
		err  error
		is   error  // nil: a mistake in the arguments
		says string // what the message must name
	}{
		{"alpha 0", second(good.Interval(0)), nil, "alpha 0"},
		{"alpha 1", second(Sequence{100, 1}.Interval(good)), nil, "alpha 1"},
		{"alpha NaN", second(Newcombe(half, half, nan)), nil, "alpha NaN"},
		{"alpha past any use", second(good.Interval(1e-12)), nil, "alpha 1e-12: expected 1e-09 or more"},
		{"nothing planned", second(Sequence{0, .05}.P(good)), nil, "0 units planned"},
		{"no noise", second(Estimate{Value: 1, DF: 1, N: 2}.Test()), ErrNoVariance, "of 2 units"},
		{"negative standard error", second(Estimate{SE: -1, DF: 1, N: 2}.Test()), nil, "SE:-1"},
		{"NaN estimate", second(Difference(Estimate{Value: nan, SE: 1, DF: 1, N: 2}, good)), nil, "control"},
		{"no units", second(Moments{}.Mean()), ErrTooFew, "0 units"},
		{"one unit", second(Moments{1, 5, 25}.Mean()), ErrTooFew, "1 units"},
		{"impossible sums", second(Moments{10, 100, 1}.Mean()), nil, "no data has these sums"},
		{"infinite sum", second(Moments{10, inf, 1}.Mean()), nil, "finite"},
		{"sums past float64", second(Moments{10, 1e300, math.MaxFloat64}.Mean()), nil, "too large"},
		{"one cluster", second(Pairs{N: 1, SumX: 1, SumXX: 1}.Ratio()), ErrTooFew, "1 clusters"},
		{"no members", second(Pairs{N: 3}.Ratio()), ErrTooFew, "without members"},
		{"lift over 0", second(Lift(Estimate{SE: 1, DF: 1, N: 2}, good)), ErrUnstable, "control mean 0"},
		{"lift over noise", second(LogRatio(Estimate{Value: 4.9, SE: 1, DF: 1, N: 2}, good)), ErrUnstable, "4.9"},
		{"more successes than units", second(TwoProportions(Proportion{3, 2}, half)), nil, "3 of 2"},
		{"no treatment", second(FisherExact(half, none)), ErrTooFew, "treatment"},
		{"no control", second(Newcombe(none, half, .05)), ErrTooFew, "control"},
		{"one arm", second(ChiSquare([]int64{1}, []float64{1})), nil, "1 arms"},
		{"counts of another number of arms", second(ChiSquare([]int64{1, 2, 3}, []float64{1, 1})), nil, "3 arms"},
		{"negative count", second(ChiSquare([]int64{1, -1}, []float64{1, 1})), nil, "0 or more"},
		{"nobody", second(ChiSquare([]int64{0, 0}, []float64{1, 1})), ErrTooFew, "no units"},
		{"weight 0", second(NewSampleRatio([]float64{1, 0}, 1000)), nil, "weights"},
		{"planned below 0", second(NewSampleRatio([]float64{1, 1}, -1)), nil, "-1 units planned"},
		{"a block of 0", second(NewEqualShares(1, 0)), nil, "1 : 0"},
		{"a block too large", second(NewEqualShares(1001, 1)), nil, "1000 units"},
		{"no cluster", second(JackknifeDifference(nil, []Cluster{{Size: 1}, {Size: 1}})), ErrTooFew, "control: 0 clusters"},
		{"one cluster with members", second(JackknifeDifference([]Cluster{{Size: 1}, {}}, []Cluster{{Size: 1}, {Size: 1}})), ErrTooFew, "1 clusters"},
		{"one cluster that is nearly all", second(JackknifeDifference([]Cluster{{5, 1e9}, {1, 1}}, []Cluster{{5, 1e9}, {1, 1}})), ErrTooFew, "degrees of freedom of 4 clusters"},
		{"infinite cluster", second(JackknifeDifference([]Cluster{{Size: inf}}, []Cluster{{Size: 1}, {Size: 1}})), nil, "cluster 0"},
		{"log ratio over nothing", second(JackknifeLogRatio([]Cluster{{Size: 1}, {Sum: 1, Size: 1}}, []Cluster{{Sum: 1, Size: 1}, {Sum: 1, Size: 1}})), ErrUnstable, "ratio 0"},
		{"log ratio over noise", second(JackknifeLogRatio([]Cluster{{Sum: 1, Size: 1}, {Sum: 2, Size: 1}}, []Cluster{{Sum: 1, Size: 1}, {Sum: 1, Size: 1}})), ErrUnstable, "relative standard error"},
		{"one value", second(Shape{Moments: Moments{N: 1}}.Spread()), ErrTooFew, "1 units"},
		{"more values than units", second(Shape{Moments: Moments{N: 2}, NonZero: 3}.Spread()), nil, "3 of 2"},
		{"counts of one arm", must(NewSampleRatio([]float64{1, 1}, 1000))(t).Add(1), nil, "counts of 1 arms"},
		{"p over 1", second(Holm([]float64{.1, 1.1})), nil, "1.1"},
		{"p NaN", second(Holm([]float64{nan})), nil, "NaN"},
		{"no history, no units", second(CUPED(History{}, History{})), ErrTooFew, "control"},
		{"only treated units", second(Permute(singles(nil, []float64{1, 2}), .05, 0)), ErrTooFew, "2 are treated"},
		{"no units to permute", second(Permute(nil, .05, 0)), ErrTooFew, "0 units"},
		{"unit of size 0", second(Permute([]Unit{{}}, .05, 0)), nil, "size"},
		{"units all alike", second(Permute(singles([]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}), .05, 0)), ErrNoVariance, "8 units"},
		{"only treated communities", second(PermuteLift(singles(nil, []float64{1, 2}), .05, 0)), ErrTooFew, "2 are treated"},
		{"communities all alike", second(PermuteLift(singles([]float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}), .05, 0)), ErrNoVariance, "8 units"},
		{"communities that do nothing", second(PermuteLift([]Unit{{Size: 1}, {Size: 1, Treatment: true}}, .05, 0)), ErrNoVariance, "2 units"},
		{"no step with both arms", second(PermuteLift([]Unit{{Sum: 1, Size: 1}, {Stratum: 1, Size: 1, Treatment: true}}, .05, 0)), ErrTooFew, "no stratum with both arms"},
		{"lift of a loss", second(PermuteLift(singles([]float64{1}, []float64{-2}), .05, 0)), nil, "0 or more"},
		{"no draws", second(PermuteLiftDraws(singles([]float64{1}, []float64{2}), .05, 0, 0)), nil, "0 draws"},
		{"power 1", second(Design{Alpha: .05, Power: 1}.Means(1, .1)), nil, "power 1"},
		{"power of no effect", second(Design{Alpha: .05, Power: .02}.Means(1, .1)), nil, "power 0.02"},
		{"no effect", second(design.Means(1, 0)), nil, "effect 0"},
		{"equal shares", second(design.Proportions(.1, .1)), nil, "0.1 and 0.1"},
		{"share 0", second(design.Proportions(0, .1)), nil, "share p1 0"},
		{"uncountable units", second(design.Means(1, 1e-300)), nil, "more than can be counted"},
		{"cluster of a half", second(Design{Alpha: .05, Power: .8, ClusterSize: .5}.Inflation()), nil, "cluster size 0.5"},
		{"ICC over 1", second(Design{Alpha: .05, Power: .8, ICC: 2}.Inflation()), nil, "correlation 2"},
		{"nobody to detect by", second(design.DetectableEffect(1, 0)), ErrTooFew, "0 members"},
		{"intrinsic time below 0", second(NormalMixture{1, .05}.Bound(-1)), nil, "time -1"},
		{"no histograms", second(CompareQuantiles(.5, nil, spans, .05)), ErrTooFew, "control"},
		{"one span", second(CompareQuantiles(.5, spans[:1], spans, .05)), ErrTooFew, "control"},
		{"other bounds", second(CompareQuantiles(.5, spans, []Histogram{{[]float64{2}, []int64{5, 0}}}, .05)), nil, "same bounds"},
		{"bounds that fall", second(Histogram{[]float64{2, 1}, []int64{1, 1, 1}}.Quantile(.5)), nil, "ascending"},
		{"a count too few", second(Histogram{[]float64{1, 2}, []int64{1, 1}}.Quantile(.5)), nil, "2 bounds and 2 counts"},
		{"quantile 1", second(spans[0].Quantile(1)), nil, "quantile 1"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", c.name, c.err, c.says)
		}
		for _, sentinel := range []error{ErrTooFew, ErrNoVariance, ErrUnstable, ErrBeyondBounds} {
			if errors.Is(c.err, sentinel) != (sentinel == c.is) {
				t.Errorf("%s: %v: is %q: %t", c.name, c.err, sentinel, sentinel != c.is)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestRounding: values that are all alike have no variance, whatever is left of it by rounding.
func TestRounding(t *testing.T) {
	t.Parallel()
	var m Moments
	for range 1_000_000 {
		m.Add(.1)
	}
	if e := must(m.Mean())(t); e.SE != 0 {
		t.Errorf("standard error %v of a million equal values", e.SE)
	}
}
