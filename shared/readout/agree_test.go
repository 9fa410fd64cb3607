package readout_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/stats/unitworld"
)

var reports = flag.Int("reports", 300, "reports whose sentences are compared with their figures; the promise is about 10000")

// The verdict, the sentence and what to do must agree with all figures, in the JSON that a program reads.
func TestReportsAgreeWithThemselves(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	read := 0
	for seed := uint64(1); read < *reports; seed++ {
		w := anyWorld(rand.New(rand.NewPCG(seed, 7)))
		all, err := readout.Reports(t.Context(), w, seed)
		if err != nil {
			t.Fatalf("%s, seed %d: %v", w.Name, seed, err)
		}
		for i := range all {
			text, err := json.Marshal(all[i])
			if err != nil {
				t.Fatal(err)
			}
			var r readout.Report
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range disagreements(&r) {
				t.Errorf("%s, seed %d, look %d: %s\n%s: %s\n%s", w.Name, seed, i, wrong, r.Verdict, r.Sentence, text)
			}
			seen[string(r.Verdict)]++
			if r.Primary != nil {
				seen[r.Primary.Method]++
				seen[string(r.Primary.By)]++
			}
			read++
		}
		if t.Failed() {
			return
		}
	}
	for _, kind := range []string{"win", "harm", "not worth it", "inconclusive", "waiting", readout.Permutation, readout.Sequence, readout.Welch, "difference", "lift"} {
		if seen[kind] == 0 {
			t.Errorf("no report of %q among %d: they prove nothing of it", kind, read)
		}
	}
	t.Logf("%d reports: %v", read, seen)
}

// anyWorld draws a world of any kind. Every kind of verdict is possible.
func anyWorld(random *rand.Rand) readout.World {
	units := []int{6, 30, 150, 150, 600, 1200}[random.IntN(6)]
	w := readout.Plain(units)
	w.Secondary = []string{"retweets_per_user", "likes_per_user", "feedback_score"}[:random.IntN(4)]
	w.Looks, w.MinimumEffect = 6, []float64{.02, .1, .3}[random.IntN(3)]
	effect := []float64{-.6, -.2, 0, 0, .2, .6, 2}[random.IntN(7)]
	switch random.IntN(3) {
	case 0:
		w.Name, w.Effect, w.Mean, w.Known = "counts", effect, []float64{1.5, 5}[random.IntN(2)], random.IntN(2) == 0
	case 1:
		of := unitworld.Users{Users: units, Gain: effect, Values: []unitworld.Values{unitworld.Normal, unitworld.Sigma2, unitworld.Pareto15, unitworld.ZeroInflated}[random.IntN(4)], Past: random.IntN(2) == 0}
		if of.Values != unitworld.Normal {
			of.Past = false
		}
		w.Name, w.Users, w.Mean = "users", &of, of.Values.Mean()
	default:
		of := unitworld.Communities{Units: min(units, 300), Gain: effect, Sizes: []unitworld.Sizes{unitworld.Equal, unitworld.Lognormal, unitworld.Pareto}[random.IntN(3)], ICC: .05}
		w.Name, w.Unit, w.Communities, w.Units, w.Steps = "communities", experiment.Community, &of, of.Units, []int{5, 25, 50}
	}
	return w
}

// disagreements returns where the parts of a report contradict each other.
func disagreements(r *readout.Report) (all []string) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	e := r.Primary
	lower, upper, value := e.Interval.Lower, e.Interval.Upper, e.Difference
	worth := float64(r.Spec.Metrics.Primary.MinimumEffect)
	if e.By == readout.ByLift {
		lower, upper, value = nil, nil, nil
		if e.Lift != nil {
			lower, upper, value = e.Lift.Lower, e.Lift.Upper, e.Lift.Value
		}
	} else if e.Control.Mean != nil {
		worth *= *e.Control.Mean
	}
	above := lower != nil && *lower > 0
	below := upper != nil && *upper < 0
	short := upper != nil && *upper < worth
	starts := map[readout.Outcome]string{"win": "The feature helps", "harm": "The feature harms", "not worth it": "The feature is not worth having", "inconclusive": "The experiment ended without an answer", "waiting": "Not yet decided", "withheld": "No verdict"}
	if start := starts[r.Verdict]; start == "" || !strings.HasPrefix(r.Sentence, start) {
		wrong("the sentence does not begin as %q", start)
	}
	switch r.Verdict {
	case "win":
		if !above || below {
			wrong("a win whose interval is not above 0")
		}
	case "harm":
		if !below || above {
			wrong("a harm whose interval is not below 0")
		}
	case "not worth it":
		if !short || above || below {
			wrong("not worth it, and the interval does not say so")
		}
	case "inconclusive", "waiting":
		if e.Speaks && (above || below || short) {
			wrong("no verdict, and the interval decides")
		}
		if ended := r.Method.Ended; ended != (r.Verdict == "inconclusive") {
			wrong("ended %v", ended)
		}
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*(1+math.Abs(a)+math.Abs(b)) }
	if e.Control.Mean != nil && e.Treatment.Mean != nil && value != nil {
		shown := *e.Treatment.Mean - *e.Control.Mean
		if e.By == readout.ByLift {
			shown = *e.Treatment.Mean / *e.Control.Mean - 1
		}
		if e.Speaks && !near(shown, *value) {
			wrong("the levels are apart by %v, and the effect is %v", shown, *value)
		}
		if lower != nil && *lower > *value+1e-9 || upper != nil && *upper < *value-1e-9 {
			wrong("the interval does not hold the effect")
		}
		if decided := r.Verdict == "win" || r.Verdict == "harm" || r.Verdict == "not worth it"; decided && (!strings.Contains(r.Sentence, e.Figure(e.Control.Mean)) || !strings.Contains(r.Sentence, e.Figure(e.Treatment.Mean))) {
			wrong("the sentence has other levels")
		}
	}
	if l := e.Lift; l != nil && e.By == readout.ByDifference {
		if above != (l.Lower != nil && *l.Lower > 0) || below != (l.Upper != nil && *l.Upper < 0) {
			wrong("difference and lift say different things")
		}
	}
	all = append(all, contradictions(e, e.P, r.Spec.Alpha)...)
	for i := range r.Secondary {
		e := &r.Secondary[i]
		if (e.Holm == nil) != (e.P == nil) {
			wrong("%s: p %v, adjusted %v", e.Metric, e.P, e.Holm)
		}
		all = append(all, contradictions(e, e.Holm, r.Spec.Alpha)...)
	}
	if at := r.Method.SpeaksAt; at != nil && (!at.After(r.At) || !strings.Contains(r.Sentence, "no verdict is possible before")) {
		wrong("decisive from %s on, and it is %s", at, r.At)
	}
	want := map[readout.Outcome]readout.Action{"win": readout.Promote, "harm": readout.RollBack, "not worth it": readout.RollBack, "inconclusive": readout.Decide, "waiting": readout.Wait, "withheld": readout.Fix}[r.Verdict]
	if r.Next.Do != want {
		wrong("to do: %s, want %s", r.Next.Do, want)
	}
	if n := e.Control.Units; e.Speaks && e.Method == readout.Sequence && e.By == readout.ByDifference && min(n, e.Treatment.Units) < 100 {
		wrong("a sequence over %d units", n)
	}
	return all
}

// If a metric is significant alone, but not among several metrics, the interval in the report must contain 0 too, for each
// method.
func TestAdjustedIntervalsAgreeWithAdjustedP(t *testing.T) {
	t.Parallel()
	communities := func(units int, sizes unitworld.Sizes) func(w *readout.World) {
		return func(w *readout.World) {
			w.Unit, w.Communities, w.Units, w.Steps = experiment.Community, &unitworld.Communities{Units: units, Gain: w.Effect, Sizes: sizes, ICC: .05}, units, []int{5, 25, 50}
		}
	}
	for _, tt := range []struct {
		name, method string
		users        int
		effect       float64
		change       func(w *readout.World)
	}{
		{"many users", readout.Sequence, 1200, .18, nil},
		{"few users", readout.Welch, 150, .35, nil},
		{"very few users", readout.Permutation, 30, .8, nil},
		{"communities", readout.Permutation, 40, .25, communities(40, unitworld.Lognormal)},
		{"equal communities", readout.Sequence, 300, .1, communities(300, unitworld.Equal)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const enough, most = 3, 400
			found := 0
			for seed := uint64(1); found < enough; seed++ {
				if seed > most {
					t.Fatalf("%d of %d experiments are sure of one metric alone: expected %d", found, most, enough)
				}
				w := readout.Plain(tt.users)
				w.Looks, w.Effect, w.Secondary = 6, tt.effect, []string{"retweets_per_user", "likes_per_user", "feedback_score"}
				if tt.change != nil {
					tt.change(&w)
				}
				all, err := readout.Reports(t.Context(), w, seed)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range all {
					for i := range r.Secondary {
						e := &r.Secondary[i]
						if e.Method != tt.method || e.P == nil || *e.P > r.Spec.Alpha || *e.Holm <= r.Spec.Alpha {
							continue
						}
						found++
						for _, wrong := range contradictions(e, e.Holm, r.Spec.Alpha) {
							t.Errorf("seed %d: %s (alone p is %v)", seed, wrong, *e.P)
						}
					}
				}
			}
		})
	}
}

// contradictions returns where a metric's p contradicts its interval: p must be at most alpha exactly if the interval
// excludes 0. If an earlier look of a sequence had a smaller p, a note says so. The interval of a permutation test may
// contain a lift of 0 that the test rejects.
func contradictions(e *readout.Effect, p *float64, alpha float64) (all []string) {
	if p == nil || !e.Speaks {
		return nil
	}
	intervals := []readout.Interval{e.Interval}
	if e.Lift != nil {
		intervals = append(intervals, readout.Interval{Lower: e.Lift.Lower, Upper: e.Lift.Upper})
	}
	if e.By == readout.ByLift {
		intervals = intervals[1:]
	}
	for _, i := range intervals {
		out := i.Lower != nil && *i.Lower > 0 || i.Upper != nil && *i.Upper < 0
		significant := *p <= alpha
		if out && !significant {
			all = append(all, fmt.Sprintf("%s: p %v, and the interval does not hold 0", e.Metric, *p))
		}
		if significant && !out && e.Method != readout.Permutation && e.Note == "" {
			all = append(all, fmt.Sprintf("%s: p %v, and the interval holds 0", e.Metric, *p))
		}
	}
	return all
}
