package stats

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/stat/distuv"
)

var harmTest = HarmTest{Margin: .005, Alpha: .05, Of: 2}

// evenly is a Service whose requests come evenly from 32 buckets, in windows that are all alike.
func evenly(service string, windows int, control, treatment Proportion) Traffic {
	t := Traffic{Service: service, Windows: slices.Repeat([]Window{{control, treatment}}, windows)}
	for arm, p := range []Proportion{control, treatment} {
		n := int64(windows)
		t.Buckets[arm] = slices.Repeat([]Proportion{{p.Successes * n, p.N * n}}, 32)
	}
	return t
}

func TestHarmVerdicts(t *testing.T) {
	t.Parallel()
	none, all, few, more := Proportion{0, 1000}, Proportion{1000, 1000}, Proportion{10, 1000}, Proportion{30, 1000}
	onlyOne := evenly("tweet", 100, none, none)
	for arm := range onlyOne.Buckets {
		clear(onlyOne.Buckets[arm][1:])
	}
	unknown := evenly("tweet", 100, none, all)
	unknown.Buckets = [2][]Proportion{}
	good, large := evenly("read", 100, none, none), Proportion{0, 99000}
	for name, c := range map[string]struct {
		traffic []Traffic
		verdict Verdict
		early   bool
	}{
		"no Service":                           {nil, Inconclusive, true},
		"no windows":                           {[]Traffic{{Service: "tweet"}}, Inconclusive, true},
		"5 windows, all bad":                   {[]Traffic{evenly("tweet", 5, none, all)}, Inconclusive, true},
		"6 windows, all bad":                   {[]Traffic{evenly("tweet", 6, none, all)}, Breach, true},
		"29 windows, all good":                 {[]Traffic{evenly("tweet", 29, none, none)}, Inconclusive, true},
		"100 windows, all good":                {[]Traffic{evenly("tweet", 100, none, none)}, Pass, false},
		"all good, few requests":               {[]Traffic{evenly("tweet", 30, Proportion{0, 10}, Proportion{0, 10})}, Inconclusive, false},
		"199 requests in an arm, all bad":      {[]Traffic{evenly("tweet", 199, none, Proportion{1, 1})}, Inconclusive, true},
		"200 requests in an arm, all bad":      {[]Traffic{evenly("tweet", 200, none, Proportion{1, 1})}, Breach, false},
		"all requests of both arms fail":       {[]Traffic{evenly("tweet", 100, all, all)}, Inconclusive, false},
		"a breach beside much that passes":     {[]Traffic{evenly("tweet", 100, few, more), evenly("read", 100, large, large)}, Breach, false},
		"buckets are not known":                {[]Traffic{unknown}, Inconclusive, false},
		"one user":                             {[]Traffic{onlyOne}, Inconclusive, true},
		"one user beside a Service of many":    {[]Traffic{good, onlyOne}, Pass, false},
		"unknown buckets beside known ones":    {[]Traffic{good, unknown}, Inconclusive, false},
		"windows in which one arm is not seen": {[]Traffic{evenly("tweet", 1000, Proportion{}, Proportion{5, 5})}, Inconclusive, true},
	} {
		r, err := harmTest.Judge(c.traffic)
		if err != nil || r.Verdict != c.verdict || r.Early != c.early {
			t.Errorf("%s: %+v, %v; want %s, early %t", name, r, err, c.verdict, c.early)
		}
	}
}

// figures are worked by hand from these: 40 windows, 2 Services, 4 buckets.
func TestHarmFigures(t *testing.T) {
	t.Parallel()
	traffic := []Traffic{
		evenly("read", 40, Proportion{6, 300}, Proportion{8, 200}),
		evenly("tweet", 40, Proportion{5, 100}, Proportion{14, 200}),
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

// TestHarmHalfWidths: of a harm whose buckets are all alike, by requests that fail independently, and in bursts.
func TestHarmHalfWidths(t *testing.T) {
	t.Parallel()
	even := evenly("tweet", 100, Proportion{20, 1000}, Proportion{20, 1000})
	r := must(harmTest.Judge([]Traffic{even}))(t)
	se := math.Sqrt(.02*.98/1e5 + .025*.975/1e5) // the treatment may be worse by the margin
	multiple := Sequence{100, .05 / 4 * .8}.oneSided(100)
	want := Interval{-multiple * se, 2.7795 * se} // of the reference values: .27795 sigma, and sigma is 10 standard errors
	if math.Abs(r.Bounds.Lower/want.Lower-1) > 1e-7 || math.Abs(r.Bounds.Upper/want.Upper-1) > 1e-7 {
		t.Errorf("independent: %v, want %v", r.Bounds, want)
	}
	for i := range even.Windows { // the treatment fails in every second ten of the windows
		if i/10%2 == 0 {
			even.Windows[i].Treatment.Successes = 0
		} else {
			even.Windows[i].Treatment.Successes = 40
		}
	}
	r = must(harmTest.Judge([]Traffic{even}))(t)
	if diff := cmp.Diff(Estimate{0, .02 / 3, 9, 100}, r.Harm, near); diff != "" { // sqrt(10/9 10 (.02/10)^2)
		t.Errorf("bursts: %s", diff)
	}
}

func TestAHarmedServiceIsNamed(t *testing.T) {
	t.Parallel()
	r := must(harmTest.Judge([]Traffic{
		evenly("read", 100, Proportion{50, 5000}, Proportion{50, 5000}),
		evenly("tweet", 100, Proportion{1, 100}, Proportion{4, 50}),
		evenly("search", 100, Proportion{0, 1}, Proportion{1, 1}),
	}))(t)
	if r.Verdict != Breach || !slices.Equal(r.Harmed, []string{"tweet"}) || r.Comparison.Bounds.Lower > harmTest.Margin {
		t.Errorf("%+v, want a breach by tweet alone", r)
	}
	if diff := cmp.Diff([]LeftOut{{"search", 1. / 5101}}, r.LeftOut, near); diff != "" {
		t.Error(diff)
	}
}

// TestAnotherMixIsNoHarm: the treatment asks what fails often four times as much.
func TestAnotherMixIsNoHarm(t *testing.T) {
	t.Parallel()
	r := must(harmTest.Judge([]Traffic{
		evenly("read", 100, Proportion{4, 800}, Proportion{2, 400}),
		evenly("tweet", 100, Proportion{20, 200}, Proportion{80, 800}),
	}))(t)
	if math.Abs(r.Harm.Value) > 1e-12 || r.Treatment.share() < 2*r.Control.share() {
		t.Errorf("harm %v, want 0 of every Service", r.Harm.Value)
	}
}

func TestABaselineIsTakenOff(t *testing.T) {
	t.Parallel()
	tweet := evenly("tweet", 200, Proportion{10, 1000}, Proportion{30, 1000})
	if r := must(harmTest.Judge([]Traffic{tweet}))(t); r.Verdict != Breach {
		t.Errorf("%+v without a baseline, want a breach", r)
	}
	tweet.Baseline = evenly("", 200, Proportion{10, 1000}, Proportion{30, 1000}).Buckets
	r := must(harmTest.Judge([]Traffic{tweet}))(t)
	if r.Verdict != Pass || r.Harm.Value != 0 || !r.Based || math.Abs(r.Baseline-.02) > 1e-12 {
		t.Errorf("%+v with a baseline, want a pass", r)
	}
	var little [2][]Proportion // under 200 requests
	for arm := range little {
		little[arm] = make([]Proportion, 32)
		little[arm][3], little[arm][4] = Proportion{0, 50}, Proportion{50, 50}
	}
	tweet.Baseline = little
	if r := must(harmTest.Judge([]Traffic{tweet}))(t); r.Baseline != 0 || r.Based {
		t.Errorf("%+v, want no baseline of so few requests", r)
	}
}

// TestALateHarmIsNoticed: after two days of good windows, the whole of the step shows nothing yet.
func TestALateHarmIsNoticed(t *testing.T) {
	t.Parallel()
	good, bad := Window{Proportion{10, 1000}, Proportion{10, 1000}}, Window{Proportion{10, 1000}, Proportion{30, 1000}}
	step := evenly("tweet", 2*8640+168, good.Control, good.Treatment)
	for i := 2 * 8640; i < len(step.Windows); i++ {
		step.Windows[i] = bad
	}
	r := must(harmTest.Judge([]Traffic{step}))(t)
	if r.Verdict != Breach || r.Bounds.Lower > harmTest.Margin || r.Recent.Lower <= harmTest.Margin {
		t.Errorf("%+v, want a breach by the last windows only", r)
	}
}

// TestRecentHarmFigures is worked by hand: 30 of 100 requests fail from the 67th of 78 windows on.
func TestRecentHarmFigures(t *testing.T) {
	t.Parallel()
	step := evenly("tweet", 78, Proportion{20, 1000}, Proportion{20, 1000})
	for i := range step.Windows { // batches of two windows differ by a point from their side's mean
		failed := int64(10 + 20*(i/2%2))
		if i >= 66 {
			failed += 300
		}
		step.Windows[i].Treatment.Successes = failed
	}
	r := must(harmTest.Judge([]Traffic{step}))(t)
	alpha := .05 / 2 / 2 * .2 / 11 / 12                                              // of the 11th minute
	tail := distuv.UnitNormal.Survival(Sequence{100, alpha}.oneSided(12))            // 12 windows
	half := 1.5 * studentQuantile(tail, 29+5) * math.Sqrt((30+6)*square(.01)/(29+5)) // 30 batches before, without the 6 windows between, and 6 after
	if r.Verdict != Breach || math.Abs(r.Recent.Harm.Value-.3) > 1e-12 || math.Abs(r.Recent.Lower-(.3-half)) > 1e-9 {
		t.Errorf("%+v, want a harm of .3 of late, and %v at least", r.Recent, .3-half)
	}
	if r.Bounds.Lower > 0 {
		t.Errorf("%v, want nothing shown by the whole step", r.Bounds)
	}
}

func TestOnsetsAreDenseLateInAStep(t *testing.T) {
	t.Parallel()
	for windows, want := range map[int][]onset{
		11: nil,
		12: {{6, 6}},
		60: {{54, 6}, {48, 6}, {42, 6}, {36, 6}, {30, 6}, {24, 6}, {18, 6}, {12, 12}},
	} {
		if diff := cmp.Diff(want, onsets(windows), cmp.AllowUnexported(onset{})); diff != "" {
			t.Errorf("%d windows: %s", windows, diff)
		}
	}
	if n := len(onsets(30 * 8640)); n > 60 {
		t.Errorf("%d onsets in 30 days, want few", n)
	}
}

func TestHarmRefusesWhatIsNoTraffic(t *testing.T) {
	t.Parallel()
	good := evenly("tweet", 40, Proportion{1, 10}, Proportion{1, 10})
	with := func(change func(*Traffic)) []Traffic {
		bad := evenly("tweet", 40, Proportion{1, 10}, Proportion{1, 10})
		change(&bad)
		return []Traffic{bad}
	}
	for _, c := range []struct {
		test    HarmTest
		traffic []Traffic
		says    string
	}{
		{HarmTest{0, .05, 1}, nil, "margin 0"},
		{HarmTest{.1, .05, 0}, nil, "one of 0"},
		{HarmTest{.1, 1, 1}, nil, "alpha 1"},
		{harmTest, []Traffic{good, good}, `"tweet": given twice`},
		{harmTest, []Traffic{good, evenly("read", 39, Proportion{}, Proportion{})}, "read: 39 windows: expected 40, as tweet has"},
		{harmTest, with(func(t *Traffic) { t.Windows[7].Treatment = Proportion{2, 1} }), "tweet: window 7: treatment: 2 of 1"},
		{harmTest, with(func(t *Traffic) { t.Windows[7].Control.N = math.MaxInt64 }), "tweet: window 7: control"},
		{harmTest, with(func(t *Traffic) { t.Windows[7].Control.N, t.Windows[8].Control.N = maxCount, maxCount }), "2^53"},
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
