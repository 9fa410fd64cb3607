package stats

import (
	"math"
	"strconv"
	"strings"
	"testing"
)

// The expected figures are published or were computed independently. All their digits must agree.
func TestFiguresAgreeWithPublishedOnes(t *testing.T) {
	t.Parallel()
	for name, figures := range map[string][]figure{
		"sample ratio, 821588 to 815482": chiSquare(t, "22.774369", "1.82179e-06", 821588, 815482),
		"sample ratio, 44000 to 45000":   chiSquare(t, "11.235955", "8.02278e-04", 44000, 45000),
		"sample ratio, 5200 to 4800":     chiSquare(t, "16", "6.33425e-05", 5200, 4800),
		"chi-square of six":              chiSquare(t, "2.0", "0.8491450360846096", 16, 18, 16, 14, 12, 12),
		"sequential sample ratio":        sequentialSampleRatio(t),
		"two proportions": func() []figure { // the reference subtracts the second share from the first
			test := must(TwoProportions(Proportion{12, 99}, Proportion{5, 83}))(t)
			return []figure{{"-1.4078304151258787", test.Statistic}, {"0.15918129181156992", test.P}}
		}(),
		"Newcombe": func() []figure { // the same
			interval := must(Newcombe(Proportion{48, 80}, Proportion{56, 70}, .05))(t)
			return []figure{{"0.0524315", interval.Lower}, {"0.3338727", interval.Upper}}
		}(),
		"lift of means": func() []figure {
			e := must(Lift(
				must(Moments{3407, 1396.87, 52377.9767}.Mean())(t),
				must(Moments{3461, 2422.7, 134698.29}.Mean())(t)))(t)
			interval := must(e.Interval(.05))(t)
			return []figure{{"0.70732", e.Value}, {"0.378794", e.SE}, {"-0.03526", interval.Lower}, {"1.44989", interval.Upper},
				{"0.06191", must(e.Test())(t).P}}
		}(),
		"lift of proportions": func() []figure {
			e := must(Lift(must(Proportion{14, 28}.Mean())(t), must(Proportion{16, 30}.Mean())(t)))(t)
			interval := must(e.Interval(.05))(t)
			return []figure{{"0.06667", e.Value}, {"-.47767", interval.Lower}, {".61101", interval.Upper}, {".80707", must(e.Test())(t).P}}
		}(),
		"confidence sequence of the lift": func() []figure {
			e := must(Lift(must(Proportion{1396, 3000}.Mean())(t), must(Proportion{2422, 3461}.Mean())(t)))(t)
			interval := must(Sequence{5000, .05}.Interval(e))(t)
			return []figure{{".50386", e.Value}, {".40098", interval.Lower}, {".60675", interval.Upper}}
		}(),
		"GrowthBook, absolute difference": func() []figure { // its frequentist test-suite, test_two_sided_ttest_absolute
			e := must(Difference(
				must(Moments{3407, 1396.87, 52377.9767}.Mean())(t),
				must(Moments{3461, 2422.7, 134698.29}.Mean())(t)))(t)
			interval := must(e.Interval(.05))(t)
			return []figure{{".29", e.Value}, {".12478", e.SE}, {".04538", interval.Lower}, {".53462", interval.Upper}, {".02016", must(e.Test())(t).P}}
		}(),
		"GrowthBook, sequence of the lift of means": func() []figure { // test_sequential_test_runs, tuned for 1000 units
			e := must(Lift(
				must(Moments{3000, 1396.87, 52377.9767}.Mean())(t),
				must(Moments{3461, 2422.7, 134698.29}.Mean())(t)))(t)
			interval := must(Sequence{1000, .05}.Interval(e))(t)
			return []figure{{".50336", e.Value}, {".33341", e.SE}, {"-.55844", interval.Lower}, {"1.56516", interval.Upper}}
		}(),
		// GrowthBook divides the adjusted difference by the control's mean without adjustment (test_sequential_test_runs_ra),
		// so this test does the same. LogRatio of the adjusted levels differs from .50338 by definition.
		"GrowthBook, CUPED": func() []figure {
			pre, post := [2]Moments{{3000, 16.87, 527.9767}, {3461, 22.7, 1348.29}}, [2]Moments{{3000, 1396.87, 52377.9767}, {3461, 2422.7, 134698.29}}
			var arms [2]History
			for i := range arms {
				arms[i].With = Pairs{N: pre[i].N, SumY: post[i].Sum, SumYY: post[i].SumSq, SumX: pre[i].Sum, SumXX: pre[i].SumSq, SumXY: 1}
			}
			adjusted := must(CUPED(arms[0], arms[1]))(t)
			d := must(Difference(adjusted.Control, adjusted.Treatment))(t)
			return []figure{{".50338", d.Value / (1396.87 / 3000)}}
		}(),
		"R, t.test of sleep, group 2 minus group 1": func() []figure {
			var group [2]Moments
			for i, values := range [2][]float64{{.7, -1.6, -.2, -1.2, -.1, 3.4, 3.7, .8, 0, 2}, {1.9, .8, 1.1, .1, -.1, 4.4, 5.5, 1.6, 4.6, 3.4}} {
				for _, v := range values {
					group[i].Add(v)
				}
			}
			e := must(Difference(must(group[0].Mean())(t), must(group[1].Mean())(t)))(t)
			test := must(e.Test())(t)
			return []figure{{"1.8608", test.Statistic}, {"17.776", test.DF}, {".07939", test.P}}
		}(),
		"R, fisher.test of 6 2 and 1 4": {{".1025641", must(FisherExact(Proportion{6, 8}, Proportion{1, 5}))(t).P}},
		"Newcombe 1998, table II, 9/10 minus 3/10": func() []figure {
			interval := must(Newcombe(Proportion{3, 10}, Proportion{9, 10}, .05))(t)
			return []figure{{".1705", interval.Lower}, {".8090", interval.Upper}}
		}(),
		// Ernst's days of recovery: in 3 of 35 arrangements, the four treated have a sum of 92 or less. P is twice this lower tail.
		"Ernst 2004, recovery": func() []figure {
			p := must(Permute(singleUnits([]float64{23, 33, 40}, []float64{19, 22, 25, 26}), .05, 0))(t)
			return []figure{{"35", float64(p.Arrangements)}, {"-9", p.Difference}, {"0.17142857142857143", p.P}} // 6/35
		}(),
		"normal mixture": func() []figure {
			m := NormalMixture{Planned: 100, Alpha: .05}
			return []figure{{"12.60056", must(m.Rho())(t)}, {"30.35209", must(m.Bound(100))(t)}}
		}(),
		"one-sided sequence": func() []figure {
			e := Estimate{SE: .1, DF: 99, N: 100} // sigma 1
			s := Sequence{100, .05}
			return []figure{{".27795000", must(s.Upper(e))(t)}, {"-.27795000", must(s.Lower(e))(t)}}
		}(),
		"multiple of a sequence": {{"3.04", must(Sequence{5000, .05}.Multiple())(t)}},
		"ratio": func() []figure {
			var p Pairs
			for i, s := range []float64{10, 14, 8, 20} {
				p.Add(s, []float64{5, 6, 5, 8}[i])
			}
			e := must(p.Ratio())(t)
			return []figure{{"2.1666667", e.Value}, {".03896605", e.SE * e.SE}}
		}(),
		"permutation": func() []figure {
			p := must(Permute(singleUnits([]float64{1, 2, 3, 4}, []float64{5, 6, 7, 9}), .05, 0))(t)
			return []figure{{"70", float64(p.Arrangements)}, {"0.02857142857142857", p.P}} // 2/70
		}(),
		"sample size": func() []figure {
			design := Design{Alpha: .05, Power: .8}
			single := must(design.Proportions(.1, .12))(t)
			means := must(design.Means(1, .05))(t)
			design.ICC, design.ClusterSize = .05, 20
			return []figure{{"3841", float64(single)}, {"7490", float64(must(design.Proportions(.1, .12))(t))}, {"6280", float64(means)}}
		}(),
		"Holm": func() []figure {
			p := must(Holm([]float64{.01, .02, .03, .04}))(t)
			return []figure{{".04", p[0]}, {".06", p[1]}, {".06", p[2]}, {".06", p[3]}}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, f := range figures {
				if !f.agrees() {
					t.Errorf("figure %d is %v, want %s", i, f.got, f.want)
				}
			}
		})
	}
}

// figure has the published digits, and the figure that we compute.
type figure struct {
	want string
	got  float64
}

// agrees reports whether the figure rounds to the published digits. If these are 15 or more, the last one may differ, because
// another order of operations rounds differently.
func (f figure) agrees() bool {
	want, err := strconv.ParseFloat(f.want, 64)
	if err != nil {
		panic(err)
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(f.want), "e")
	_, decimals, _ := strings.Cut(mantissa, ".")
	power, _ := strconv.Atoi(exponent)
	unit := math.Pow10(power - len(decimals))
	return math.Abs(f.got-want) <= max(unit/2*(1+1e-9), 1e-14*math.Abs(want))
}

func chiSquare(t *testing.T, statistic, p string, observed ...int64) []figure {
	weights := make([]float64, len(observed))
	for i := range weights {
		weights[i] = 1
	}
	test := must(ChiSquare(observed, weights))(t)
	return []figure{{statistic, test.Statistic}, {p, test.P}}
}

// sequentialSampleRatio computes the example of the authors' package ssrm. Its prior is 1 for each arm.
func sequentialSampleRatio(t *testing.T) (figures []figure) {
	s := must(newSampleRatio([]float64{.4, .4, .2}, 1))(t)
	s.priors[0].arms = []float64{1, 1, 1}
	want := []string{"-7.0282014", "-11.9478477", "-15.4714020", "-19.96484521"} // after each row of counts
	for i, row := range [][]int64{{20, 17, 9}, {18, 21, 8}, {4, 6, 4}, {18, 19, 11}} {
		if err := s.Add(row...); err != nil {
			t.Fatal(err)
		}
		figures = append(figures, figure{want[i], s.priors[0].logM1})
	}
	return append(figures, figure{"-15.78103123", s.logM0})
}

// singleUnits returns units of one member each, all in one stratum.
func singleUnits(control, treatment []float64) (units []Unit) {
	for _, v := range control {
		units = append(units, Unit{Sum: v, Size: 1})
	}
	for _, v := range treatment {
		units = append(units, Unit{Sum: v, Size: 1, Treatment: true})
	}
	return units
}

// must is used as must(f())(t). It returns the result of f; an error ends the test.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
