package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// randomTraffic draws this many periods of two Services.
func randomTraffic(random *rand.Rand, periods int) []Traffic {
	traffic := []Traffic{{Service: "read"}, {Service: "tweet"}}
	for i := range traffic {
		for arm := range 2 {
			traffic[i].Buckets[arm] = make([]Proportion, 8)
		}
		for range periods {
			var w [2]Proportion
			for arm := range w {
				for b := range traffic[i].Buckets[arm] {
					n := random.Int64N(10 * int64(b+1))
					p := Proportion{binomial(random, int(n), .02*float64(1+b)), n}
					w[arm], traffic[i].Buckets[arm][b] = plus(w[arm], p), plus(traffic[i].Buckets[arm][b], p)
				}
			}
			traffic[i].Periods = append(traffic[i].Periods, Period{w[0], w[1]})
		}
	}
	return traffic
}

// Neither the order of Services or of buckets changes the result, nor does a Service without requests. Periods without requests
// at the end do not change the harm.
func TestTheResultDependsOnlyOnTheRequests(t *testing.T) {
	t.Parallel()
	random := seeded(40)
	for _, periods := range []int{7, 25, 40, 111, 400} {
		traffic := randomTraffic(random, periods)
		want := must(harmTest.Judge(traffic))(t)
		expectSame := func(what string, got HarmResult) {
			slices.SortFunc(got.Services, func(a, b ServiceHarm) int { return strings.Compare(a.Service, b.Service) })
			got.LeftOut = nil
			if diff := cmp.Diff(want, got, near); diff != "" {
				t.Errorf("%d periods, %s: %s", periods, what, diff)
			}
		}
		expectSame("other order of Services", must(harmTest.Judge([]Traffic{traffic[1], traffic[0]}))(t))
		expectSame("a Service without requests", must(harmTest.Judge(append(traffic, Traffic{Service: "idle", Periods: make([]Period, periods)})))(t))
		for i := range traffic {
			for arm := range traffic[i].Buckets {
				slices.Reverse(traffic[i].Buckets[arm])
			}
		}
		expectSame("other order of buckets", must(harmTest.Judge(traffic))(t))
		for i := range traffic {
			traffic[i].Periods = append(traffic[i].Periods, make([]Period, 5)...)
		}
		if got := must(harmTest.Judge(traffic))(t); got.Harm.Value != want.Harm.Value || got.Harm.N != want.Harm.N || got.Rates != want.Rates {
			t.Errorf("%d periods: harm %+v, and %+v with periods of no requests", periods, want.Harm, got.Harm)
		}
	}
}

// With 100 times as many requests at the same rates, the harm is the same and the bounds are no wider. If the arms are exchanged,
// the harm is the opposite.
func TestMoreRequestsNarrowTheBoundsAndExchangedArmsNegateTheHarm(t *testing.T) {
	t.Parallel()
	random := seeded(41)
	for range 20 {
		traffic := randomTraffic(random, 31+random.IntN(100))[:1]
		small := must(harmTest.Judge(traffic))(t)
		exchanged := Traffic{Service: "read", Buckets: [2][]Proportion{traffic[0].Buckets[1], traffic[0].Buckets[0]}}
		hundredfold := Traffic{Service: "read"}
		times100 := func(p Proportion) Proportion { return Proportion{100 * p.Successes, 100 * p.N} }
		for _, w := range traffic[0].Periods {
			exchanged.Periods = append(exchanged.Periods, Period{w.Treatment, w.Control})
			hundredfold.Periods = append(hundredfold.Periods, Period{times100(w.Control), times100(w.Treatment)})
		}
		for arm, buckets := range traffic[0].Buckets {
			for _, p := range buckets {
				hundredfold.Buckets[arm] = append(hundredfold.Buckets[arm], times100(p))
			}
		}
		if r := must(harmTest.Judge([]Traffic{exchanged}))(t); math.Abs(r.Harm.Value+small.Harm.Value) > 1e-12 {
			t.Errorf("harm %v, and %v with exchanged arms", small.Harm.Value, r.Harm.Value)
		}
		r := must(harmTest.Judge([]Traffic{hundredfold}))(t)
		wider := r.Bounds.Lower < small.Bounds.Lower-1e-12 || r.Bounds.Upper > small.Bounds.Upper+1e-12
		if wider || math.Abs(r.Harm.Value-small.Harm.Value) > 1e-12 {
			t.Errorf("%+v, and %+v with 100 times the requests", small, r)
		}
	}
}

func TestSizesOfBatches(t *testing.T) {
	t.Parallel()
	for periods, want := range map[int][]int{30: {10}, 100: {10, 20, 30}, 303: {10, 20, 30, 45, 67, 100}} {
		if diff := cmp.Diff(want, batchSizes(periods, 3)); diff != "" {
			t.Errorf("%d periods: %s", periods, diff)
		}
	}
	m := newMix([]part{must(newPart(&Traffic{Service: "tweet", Periods: evenTraffic("", 39, Proportion{1, 10}, Proportion{1, 10}).Periods}))(t)}, .01)
	if _, df := m.batchVariance(10); math.Abs(df-2) > 1e-12 {
		t.Errorf("%v degrees of freedom of 39 periods in 3 batches, want 2", df)
	}
}

// For any traffic, Judge returns an error or a result without NaN.
func FuzzJudgeNeverReturnsNaN(f *testing.F) {
	f.Add([]byte{}, .005, .05, 1, uint16(0), uint8(0))
	f.Add([]byte{1, 9, 1, 9, 0, 9, 2, 9}, .005, .05, 1, uint16(40), uint8(2))
	f.Add([]byte{0, 255, 255, 255, 7, 0, 0, 0, 3, 1}, 1e-300, 1e-9, 100, uint16(400), uint8(32))
	f.Add([]byte{255, 255, 0, 0, 255, 255}, .999, .9, 15, uint16(200), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, margin, alpha float64, tests int, periods uint16, buckets uint8) {
		next := 0
		draw := func() Proportion {
			if len(data) < 2 {
				return Proportion{}
			}
			next = (next + 2) % len(data)
			n := int64(data[next])
			return Proportion{int64(data[(next+1)%len(data)]) % (n + 1), n}
		}
		traffic := []Traffic{{Service: "a"}, {Service: "b"}}
		for i := range traffic {
			for range periods % 1000 {
				traffic[i].Periods = append(traffic[i].Periods, Period{draw(), draw()})
			}
			for arm := range 2 {
				for range buckets % 40 {
					traffic[i].Buckets[arm] = append(traffic[i].Buckets[arm], draw())
					if buckets%2 == 1 {
						traffic[i].Baseline[arm] = append(traffic[i].Baseline[arm], draw())
					}
				}
			}
		}
		r, err := HarmTest{margin, alpha, tests}.Judge(traffic)
		noNaN(t, "Judge", r, err)
		noNaN(t, "Judge", r.Rates[0]+r.Rates[1], err)
	})
}

// BenchmarkHarm measures one look at 30 days of two Services: without a harm, and with a harm that makes it compute the bound of
// every onset.
func BenchmarkHarm(b *testing.B) {
	for name, failed := range map[string]int64{"none": 1, "some": 2} {
		traffic := []Traffic{
			evenTraffic("read", 30*8640, Proportion{1, 100}, Proportion{failed, 100}),
			evenTraffic("tweet", 30*8640, Proportion{1, 10}, Proportion{failed, 10}),
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(harmTest.Judge(traffic))(b)
			}
		})
	}
}
