package stats

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/stat/distuv"
)

var harmTest = HarmTest{Margin: .005, Alpha: .05, Tests: 2}

// evenTraffic returns a Service with equal periods, and requests that are spread evenly over 32 buckets.
func evenTraffic(service string, periods int, control, treatment Proportion) Traffic {
	t := Traffic{Service: service, Periods: slices.Repeat([]Period{{control, treatment}}, periods)}
	for arm, p := range []Proportion{control, treatment} {
		n := int64(periods)
		t.Buckets[arm] = slices.Repeat([]Proportion{{p.Successes * n, p.N * n}}, 32)
	}
	return t
}

func TestWhenAGuardrailPassesAndBreaches(t *testing.T) {
	t.Parallel()
	none, all, few, more := Proportion{0, 1000}, Proportion{1000, 1000}, Proportion{10, 1000}, Proportion{30, 1000}
	onlyOne := evenTraffic("tweet", 100, none, none)
	for arm := range onlyOne.Buckets {
		clear(onlyOne.Buckets[arm][1:])
	}
	unknown := evenTraffic("tweet", 100, none, all)
	unknown.Buckets = [2][]Proportion{}
	good, manyGood := evenTraffic("read", 100, none, none), Proportion{0, 99000}
	for name, c := range map[string]struct {
		traffic []Traffic
		finding Finding
		early   bool
	}{
		"no Service":                            {nil, Inconclusive, true},
		"no periods":                            {[]Traffic{{Service: "tweet"}}, Inconclusive, true},
		"5 periods, all bad":                    {[]Traffic{evenTraffic("tweet", 5, none, all)}, Inconclusive, true},
		"6 periods, all bad":                    {[]Traffic{evenTraffic("tweet", 6, none, all)}, Breach, true},
		"29 periods, all good":                  {[]Traffic{evenTraffic("tweet", 29, none, none)}, Inconclusive, true},
		"100 periods, all good":                 {[]Traffic{evenTraffic("tweet", 100, none, none)}, Pass, false},
		"all good, few requests":                {[]Traffic{evenTraffic("tweet", 30, Proportion{0, 10}, Proportion{0, 10})}, Inconclusive, false},
		"199 requests in an arm, all bad":       {[]Traffic{evenTraffic("tweet", 199, none, Proportion{1, 1})}, Inconclusive, true},
		"200 requests in an arm, all bad":       {[]Traffic{evenTraffic("tweet", 200, none, Proportion{1, 1})}, Breach, false},
		"all requests of both arms fail":        {[]Traffic{evenTraffic("tweet", 100, all, all)}, Inconclusive, false},
		"one harmed Service of two":             {[]Traffic{evenTraffic("tweet", 100, few, more), evenTraffic("read", 100, manyGood, manyGood)}, Breach, false},
		"unknown buckets":                       {[]Traffic{unknown}, Inconclusive, false},
		"requests of one user only":             {[]Traffic{onlyOne}, Inconclusive, true},
		"one user in one Service of two":        {[]Traffic{good, onlyOne}, Pass, false},
		"unknown buckets in one Service of two": {[]Traffic{good, unknown}, Inconclusive, false},
		"no requests of the control":            {[]Traffic{evenTraffic("tweet", 1000, Proportion{}, Proportion{5, 5})}, Inconclusive, true},
	} {
		r, err := harmTest.Judge(c.traffic)
		if err != nil || r.Finding != c.finding || r.Early != c.early {
			t.Errorf("%s: %+v, %v; want %s, early %t", name, r, err, c.finding, c.early)
		}
	}
}

// The expected figures are computed by hand for 40 periods, 2 Services and 4 buckets.
func TestHarmIsComputedAsDescribed(t *testing.T) {
	t.Parallel()
	traffic := []Traffic{
		evenTraffic("read", 40, Proportion{6, 300}, Proportion{8, 200}),
		evenTraffic("tweet", 40, Proportion{5, 100}, Proportion{14, 200}),
	}
	traffic[0].Buckets = [2][]Proportion{{{100, 5000}, {60, 3000}, {20, 3000}, {60, 1000}}, {{160, 4000}, {100, 2000}, {60, 2000}, {0, 0}}}
	traffic[1].Buckets = [2][]Proportion{{{50, 1000}, {50, 1000}, {50, 1000}, {50, 1000}}, {{100, 2000}, {200, 2000}, {200, 2000}, {60, 2000}}}
	r := must(harmTest.Judge(traffic))(t)
	// w = 3/4, 1/4; pC = .02, .05; pT = .04, .07.
	if diff := cmp.Diff([2]float64{.0275, .0475}, r.Rates, near); diff != "" {
		t.Errorf("rates: %s", diff)
	}
	if diff := cmp.Diff([2]Proportion{{440, 16000}, {880, 16000}}, [2]Proportion{r.Control, r.Treatment}); diff != "" {
		t.Errorf("totals: %s", diff)
	}
	jackknife := func(thetas ...float64) (v float64) {
		var mean float64
		for _, theta := range thetas {
			mean += theta / float64(len(thetas))
		}
		k := float64(len(thetas))
		for _, theta := range thetas {
			v += (k - 1) / k * square(theta-mean)
		}
		return v
	}
	control := jackknife(.75*140/7000+.25*.05, .75*180/9000+.25*.05, .75*220/9000+.25*.05, .75*180/11000+.25*.05)
	treatment := jackknife(.75*160/4000+.25*460/6000, .75*220/6000+.25*360/6000, .75*260/6000+.25*360/6000, .75*320/8000+.25*500/6000)
	e := [2]float64{16 * 16. / (36 + 16 + 16 + 4), 16 * 16. / (36 + 16 + 16 + 4)} // of 6, 4, 4, 2 thousand requests
	df := square(control+treatment) / (square(control)/(e[0]-1) + square(treatment)/(e[1]-1))
	if diff := cmp.Diff(Estimate{.02, math.Sqrt(control + treatment), df, 40}, r.Harm, near); diff != "" {
		t.Errorf("harm: %s", diff)
	}
	half := math.Sqrt(control+treatment) * studentQuantile(.05/2/2*.8/2, df)
	if got := r.Harm.Value - r.Bounds.Lower; math.Abs(got/half-1) > 1e-9 {
		t.Errorf("half-width %v to the lower bound, want %v", got, half)
	}
	half = math.Sqrt(control+treatment) * studentQuantile(.05/2, df)
	if got := r.Bounds.Upper - r.Harm.Value; math.Abs(got/half-1) > 1e-9 {
		t.Errorf("half-width %v to the upper bound, want %v", got, half)
	}
}

// All buckets are equal, so the half-width comes from requests: first from independent ones, then from batches, because
// failures come in bursts.
func TestHalfWidthsOfIndependentRequestsAndOfBursts(t *testing.T) {
	t.Parallel()
	even := evenTraffic("tweet", 100, Proportion{20, 1000}, Proportion{20, 1000})
	r := must(harmTest.Judge([]Traffic{even}))(t)
	se := math.Sqrt(.02*.98/1e5 + .025*.975/1e5) // the treatment has the variance of a rate that is worse by the margin
	multiple := Sequence{100, .05 / 4 * .8}.oneSidedMultiple(100)
	want := Interval{-multiple * se, 2.7795 * se} // TestFiguresAgreeWithPublishedOnes has .27795 sigma, and sigma is 10 standard errors
	if math.Abs(r.Bounds.Lower/want.Lower-1) > 1e-7 || math.Abs(r.Bounds.Upper/want.Upper-1) > 1e-7 {
		t.Errorf("independent: %v, want %v", r.Bounds, want)
	}
	for i := range even.Periods { // the treatment fails only in every second batch of ten periods
		if i/10%2 == 0 {
			even.Periods[i].Treatment.Successes = 0
		} else {
			even.Periods[i].Treatment.Successes = 40
		}
	}
	r = must(harmTest.Judge([]Traffic{even}))(t)
	if diff := cmp.Diff(Estimate{0, .02 / 3, 9, 100}, r.Harm, near); diff != "" { // sqrt(10/9 10 (.02/10)^2)
		t.Errorf("bursts: %s", diff)
	}
}

func TestAServiceThatAloneIsHarmedIsNamed(t *testing.T) {
	t.Parallel()
	r := must(harmTest.Judge([]Traffic{
		evenTraffic("read", 100, Proportion{50, 5000}, Proportion{50, 5000}),
		evenTraffic("tweet", 100, Proportion{1, 100}, Proportion{4, 50}),
		evenTraffic("search", 100, Proportion{0, 1}, Proportion{1, 1}),
	}))(t)
	if r.Finding != Breach || !slices.Equal(r.Harmed, []string{"tweet"}) || r.Comparison.Bounds.Lower > harmTest.Margin {
		t.Errorf("%+v, want a breach by tweet alone", r)
	}
	if diff := cmp.Diff([]LeftOut{{"search", 1. / 5101}}, r.LeftOut, near); diff != "" {
		t.Error(diff)
	}
}

// The treatment sends four times as many requests to the Service that fails often.
func TestAnotherMixOfServicesIsNoHarm(t *testing.T) {
	t.Parallel()
	r := must(harmTest.Judge([]Traffic{
		evenTraffic("read", 100, Proportion{4, 800}, Proportion{2, 400}),
		evenTraffic("tweet", 100, Proportion{20, 200}, Proportion{80, 800}),
	}))(t)
	if math.Abs(r.Harm.Value) > 1e-12 || r.Treatment.share() < 2*r.Control.share() {
		t.Errorf("harm %v, want 0: no Service is harmed", r.Harm.Value)
	}
}

func TestTheDifferenceInTheBaselineIsSubtracted(t *testing.T) {
	t.Parallel()
	tweet := evenTraffic("tweet", 200, Proportion{10, 1000}, Proportion{30, 1000})
	if r := must(harmTest.Judge([]Traffic{tweet}))(t); r.Finding != Breach {
		t.Errorf("%+v without a baseline, want a breach", r)
	}
	tweet.Baseline = evenTraffic("", 200, Proportion{10, 1000}, Proportion{30, 1000}).Buckets
	r := must(harmTest.Judge([]Traffic{tweet}))(t)
	if r.Finding != Pass || r.Harm.Value != 0 || !r.HasBaseline || math.Abs(r.Baseline-.02) > 1e-12 {
		t.Errorf("%+v with a baseline, want a pass", r)
	}
	var tooFew [2][]Proportion // under 200 requests
	for arm := range tooFew {
		tooFew[arm] = make([]Proportion, 32)
		tooFew[arm][3], tooFew[arm][4] = Proportion{0, 50}, Proportion{50, 50}
	}
	tweet.Baseline = tooFew
	if r := must(harmTest.Judge([]Traffic{tweet}))(t); r.Baseline != 0 || r.HasBaseline {
		t.Errorf("%+v, want no baseline, because it has too few requests", r)
	}
}

// After two days of good periods, the step as a whole does not show the harm yet.
func TestAHarmThatBeginsAfterTwoDaysIsDetected(t *testing.T) {
	t.Parallel()
	good, bad := Period{Proportion{10, 1000}, Proportion{10, 1000}}, Period{Proportion{10, 1000}, Proportion{30, 1000}}
	step := evenTraffic("tweet", 2*8640+168, good.Control, good.Treatment)
	for i := 2 * 8640; i < len(step.Periods); i++ {
		step.Periods[i] = bad
	}
	r := must(harmTest.Judge([]Traffic{step}))(t)
	if r.Finding != Breach || r.Bounds.Lower > harmTest.Margin || r.Recent.Lower <= harmTest.Margin {
		t.Errorf("%+v, want a breach that only the last periods show", r)
	}
}

// The expected figures are computed by hand: 30 of 100 requests fail from the 67th of 78 periods on.
func TestRecentHarmIsComputedAsDescribed(t *testing.T) {
	t.Parallel()
	step := evenTraffic("tweet", 78, Proportion{20, 1000}, Proportion{20, 1000})
	for i := range step.Periods { // batches of two periods differ by a point from the mean before, or since, the onset
		failed := int64(10 + 20*(i/2%2))
		if i >= 66 {
			failed += 300
		}
		step.Periods[i].Treatment.Successes = failed
	}
	r := must(harmTest.Judge([]Traffic{step}))(t)
	alpha := .05 / 2 / 2 * .2 / 11 / 12                                              // of the 11th minute
	tail := distuv.UnitNormal.Survival(Sequence{100, alpha}.oneSidedMultiple(12))    // 12 periods
	half := 1.5 * studentQuantile(tail, 29+5) * math.Sqrt((30+6)*square(.01)/(29+5)) // 30 batches before the onset, without the 6 periods of the gap, and 6 since
	if r.Finding != Breach || math.Abs(r.Recent.Harm.Value-.3) > 1e-12 || math.Abs(r.Recent.Lower-(.3-half)) > 1e-9 {
		t.Errorf("%+v, want a recent harm of .3, and a lower bound of %v", r.Recent, .3-half)
	}
	if r.Bounds.Lower > 0 {
		t.Errorf("%v, want no harm shown by the whole step", r.Bounds)
	}
}

func TestRecentOnsetsAreCloserTogetherThanOlderOnes(t *testing.T) {
	t.Parallel()
	for periods, want := range map[int][]onset{
		11: nil,
		12: {{6, 6}},
		60: {{54, 6}, {48, 6}, {42, 6}, {36, 6}, {30, 6}, {24, 6}, {18, 6}, {12, 12}},
	} {
		if diff := cmp.Diff(want, onsets(periods), cmp.AllowUnexported(onset{})); diff != "" {
			t.Errorf("%d periods: %s", periods, diff)
		}
	}
	if n := len(onsets(30 * 8640)); n > 60 {
		t.Errorf("%d onsets in 30 days, want at most 60", n)
	}
}

func TestJudgeRefusesImpossibleTraffic(t *testing.T) {
	t.Parallel()
	good := evenTraffic("tweet", 40, Proportion{1, 10}, Proportion{1, 10})
	with := func(change func(*Traffic)) []Traffic {
		bad := evenTraffic("tweet", 40, Proportion{1, 10}, Proportion{1, 10})
		change(&bad)
		return []Traffic{bad}
	}
	for _, c := range []struct {
		test    HarmTest
		traffic []Traffic
		says    string
	}{
		{HarmTest{0, .05, 1}, nil, "margin 0"},
		{HarmTest{.1, .05, 0}, nil, "0 tests"},
		{HarmTest{.1, 1, 1}, nil, "alpha 1"},
		{harmTest, []Traffic{good, good}, `"tweet": listed twice`},
		{harmTest, []Traffic{good, evenTraffic("read", 39, Proportion{}, Proportion{})}, "read: 39 periods: expected 40, as tweet has"},
		{harmTest, with(func(t *Traffic) { t.Periods[7].Treatment = Proportion{2, 1} }), "tweet: period 7: treatment: 2 of 1"},
		{harmTest, with(func(t *Traffic) { t.Periods[7].Control.N = math.MaxInt64 }), "tweet: period 7: control"},
		{harmTest, with(func(t *Traffic) { t.Periods[7].Control.N, t.Periods[8].Control.N = maxCount, maxCount }), "2^53"},
		{harmTest, with(func(t *Traffic) { t.Buckets[1][3] = Proportion{-1, 1} }), "tweet: treatment: bucket 3: -1 of 1"},
		{harmTest, with(func(t *Traffic) { t.Buckets[1] = t.Buckets[1][1:] }), "32 and 31 buckets"},
		{harmTest, with(func(t *Traffic) { t.Baseline[0] = t.Buckets[0][1:] }), "baseline of 31 buckets: expected 32"},
		{harmTest, with(func(t *Traffic) { t.Baseline = good.Buckets; t.Baseline[0][2].N = -1 }), "tweet: baseline: control: bucket 2"},
	} {
		if r, err := c.test.Judge(c.traffic); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v, %v; want an error that says %q", r, err, c.says)
		}
	}
}
