package readout_test

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var begin = readouttest.Begin

const day = readouttest.Day

func TestVerdicts(t *testing.T) {
	t.Parallel()
	names := func(n int) (slugs []string) {
		for i := range n {
			slugs = append(slugs, "c"+strconv.Itoa(i))
		}
		return slugs
	}
	little := func(s *experiment.Spec) { s.Metrics.Primary.MinimumEffect = .02 }
	tests := []struct {
		name        string
		change      func(*experiment.Spec)
		people      int
		communities []string
		base, more  int
		after       time.Duration

		verdict  readout.Outcome
		method   string
		sentence string
	}{
		{"it helps", nil, 1000, nil, 5, 2, 20 * day, "win", readout.Sequence, "The feature helps. Tweets per person: "},
		{"it helps, seen before the planned end", nil, 1000, nil, 5, 2, 8 * day, "win", readout.Sequence, "The feature helps"},
		{"it harms", nil, 1000, nil, 5, -2, 20 * day, "harm", readout.Sequence, "The feature harms"},
		{"it is not worth it", func(s *experiment.Spec) { s.Metrics.Primary.MinimumEffect = .1 }, 3000, nil, 5, 0, 20 * day, "not worth it", readout.Sequence, " (10%) that would be worth it"},
		{"it is not known yet", little, 400, nil, 5, 0, 7*day + 12*time.Hour, "waiting", readout.Sequence, "Not yet decided"},
		{"nobody has completed", nil, 1000, nil, 5, 2, day, "waiting", readout.None, "no verdict is possible before 2026-10-15 00:00 UTC. 0 users in the control and 0 in the treatment have completed their window of 7d"},
		{"few, before the planned end", nil, 100, nil, 5, 9, 13 * day, "waiting", readout.Permutation, "Not yet decided: no verdict is possible before 2026-10-15 00:00 UTC"},
		{"few, at the planned end", nil, 150, nil, 5, 9, 14 * day, "win", readout.Welch, "by Welch's t interval over "},
		{"few, hardly an effect", little, 190, nil, 5, 1, 14 * day, "inconclusive", readout.Welch, "The experiment ended without an answer"},
		{"few of whom do anything", nil, 150, nil, -3, 9, 14 * day, "win", readout.Permutation, "by a permutation test over "},
		{"very few", nil, 20, nil, 5, 9, 14 * day, "win", readout.Permutation, "by a permutation test over "},
		{"hardly any", nil, 5, nil, 5, 9, 14 * day, "inconclusive", readout.None, "too few units with a value"},
		{"communities", func(s *experiment.Spec) { s.Unit = experiment.Community }, 600, names(20), 5, 9, 14 * day, "win", readout.Permutation, ", +112.2% (+109.7% to +114.7%), by a permutation test over "},
		{"many communities", func(s *experiment.Spec) { s.Unit = experiment.Community }, 1300, names(130), 5, 9, 14 * day, "win", readout.Sequence, "communities in the control"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := readouttest.New(t, tt.change)
			w.People(tt.people, tt.communities...)
			w.Exposed()
			w.Tweets(tt.base, tt.more)
			w.Traffic(100, 1, 1)
			r := w.Read(begin.Add(tt.after))
			if r.Verdict != tt.verdict || r.Method.Name != tt.method || !strings.Contains(r.Sentence, tt.sentence) {
				t.Errorf("%s by %s: %s\nwant %s by %s: %s\n%+v", r.Verdict, r.Method.Name, r.Sentence, tt.verdict, tt.method, tt.sentence, r.Health)
			}
		})
	}
}

// A method that judges once judges the planned end, even if it is asked much later.
func TestAMethodThatJudgesOnceKeepsItsResult(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(300)
	w.Exec(`
		insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, id::text, arm, arm, 'r', 1, $1::timestamptz + interval '1 hour' * (id >> 22 & 1023)
		from (select id, case when slot_of('pepper', id::text) < 5000 then 'control' else 'treatment' end as arm from users) u`, begin)
	w.Tweets(3, 1)
	w.Traffic(100, 0, 0)
	then, later := w.Read(begin.Add(14*day)), w.Read(begin.Add(40*day))
	if then.Method.Name != readout.Welch || then.Units.Completed.Min() < 25 {
		t.Fatalf("%s of %+v", then.Method.Name, then.Units)
	}
	if diff := cmp.Diff(then.Primary, later.Primary, cmpopts.IgnoreFields(readout.Effect{}, "Series")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(then.Units.Completed, later.Units.Completed); diff != "" {
		t.Error(diff)
	}
}

// If a method judges once, the split by community has only users who completed by the planned end, each of them once.
func TestTheSplitByCommunityStopsAtThePlannedEnd(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(60, "gophers", "sres")
	w.Exposed()
	w.Tweets(3, 1)
	w.Traffic(100, 0, 0)
	r := w.Read(begin.Add(40 * day))
	var users experiment.Counts
	for _, s := range r.Splits {
		users.Control, users.Treatment = users.Control+s.Control.Users, users.Treatment+s.Treatment.Users
	}
	if r.Method.Name != readout.Permutation || len(r.Splits) != 2 || users != r.Units.Completed || users.Control+users.Treatment != 60 {
		t.Errorf("%s: %d users in %+v, want all 60 of two communities", r.Method.Name, users.Control+users.Treatment, r.Splits)
	}
}

// A window that was cut short by the end of the experiment is not the outcome of an arm.
func TestWindowsThatEndAfterTheConclusionDoNotCount(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(1000)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(100, 1, 1)
	w.Transition("end", "Promoting", 0, 50, begin.Add(7*day+8*time.Hour))
	r := w.Read(begin.Add(30 * day))
	if n := r.Units.Completed.Control + r.Units.Completed.Treatment; n < 300 || n > 700 {
		t.Errorf("%d of 1000 completed, want those who entered in the first 8 of 17 hours", n)
	}
	if !r.Until.Equal(begin.Add(7*day+8*time.Hour)) || r.Phase != "Promoting" {
		t.Errorf("until %s, %s", r.Until, r.Phase)
	}
}

func TestHealthWithholdsTheVerdict(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		check string
		sql   string
		want  string
	}{
		"more users in one arm": {"sample ratio", `delete from exposures where assigned = 'control' and (user_id >> 22) % 3 = 0`, "p <0.0001"},
		"the wrong arm":         {"assignment", `update exposures set assigned = 'control', served = 'control' where user_id = (select min(user_id) from exposures where assigned = 'treatment')`, "1 of 1,000 users do not belong"},
		"another's unit":        {"assignment", `update exposures set unit = '7' where user_id = (select min(user_id) from exposures)`, "1 of 1,000 users do not belong"},
		"served by none":        {"served as assigned", `update exposures set served = 'none' where (user_id >> 22) % 50 = 0`, "20 of 1,000 users"},
		"in both arms":          {"one arm each", `update exposures set crossed_at = first_at where (user_id >> 22) % 50 = 0`, "20 of 1,000 users"},
		"kept from coming":      {"never exposed", `update exposures set first_at = '2026-10-01 00:01Z'; delete from exposures where assigned = 'treatment' and (user_id >> 22) % 9 = 0`, "0 of 487 users in control, "},
		"no requests":           {"traffic", `update windows set requests = 0, errors = 0 where arm = 'treatment'`, "one arm gets no requests"},
		"no requests at all":    {"traffic", `delete from windows`, "no request has reached either arm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := readouttest.New(t, nil)
			w.People(1000)
			w.Exposed()
			w.Tweets(5, 2)
			w.Traffic(100, 1, 1)
			for statement := range strings.SplitSeq(tt.sql, "; ") {
				w.Exec(statement)
			}
			r := w.Read(begin.Add(20 * day))
			v, err := r.Judged()
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != readout.Withheld || !strings.HasPrefix(v.Health, tt.check+": ") || !strings.Contains(v.Health, tt.want) || !strings.Contains(r.Sentence, "not sound") {
				t.Errorf("%s, %q: %s", r.Verdict, v.Health, r.Sentence)
			}
		})
	}
}

// All requests of one person are in one arm, so an arm without requests is no fault if few people came.
func TestAnArmWithoutRequestsIsNoFaultIfFewUsersCame(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(1000)
	w.Exposed()
	w.Traffic(100, 1, 1)
	w.Exec(`delete from windows where arm = 'treatment'`)
	w.Exec(`update windows set active = 1`)
	w.Exec(`delete from exposures where user_id not in (select user_id from exposures where assigned = 'control' limit 5)`)
	r := w.Read(begin.Add(20 * day))
	if c := r.Health[0]; c.Name != "traffic" || c.State != readout.OK || r.Units.Users.Control != 5 {
		t.Errorf("%+v of %+v", c, r.Units.Users)
	}
}

// At night one of 60 users may send 60 requests, all in one arm. If the units of half the buckets are in one arm only, that
// is a fault.
func TestAMissingArmIsAFaultOnlyIfTheOtherHasManyUnits(t *testing.T) {
	t.Parallel()
	for active, want := range map[int64]readout.State{1: readout.OK, 1<<16 - 1: readout.Red} {
		w := readouttest.New(t, nil)
		w.People(60)
		w.Exposed()
		w.Traffic(100, 1, 1)
		night := begin.Add(2 * day)
		w.Exec(`
			insert into windows (experiment, step, service, arm, start, requests, errors, active, slow)
			values ('likes', 0, 'like', 'control', $1, 60, 0, $2, '{}')`, night.Add(-time.Minute), active)
		if c := w.Read(night).Health[0]; c.Name != "traffic" || c.State != want {
			t.Errorf("%d: %+v, want %s", active, c, want)
		}
	}
}

// A larger value counts as the cap. Nothing else changes.
func TestACapLimitsEachValueOfThePrimaryMetric(t *testing.T) {
	t.Parallel()
	for most, want := range map[float64]float64{0: 15, 5: 5} {
		w := readouttest.New(t, func(s *experiment.Spec) { s.Metrics.Primary.Cap = most })
		w.People(400)
		w.Exposed()
		w.Exec(`
			insert into tweets (id, author_id, text)
			select id_at(first_at) + ((row_number() over ())::bigint % 86400000 << 22) + row_number() over () % 4096, user_id, 'hello'
			from exposures, generate_series(1, 15) n`)
		if e := w.Read(begin.Add(20 * day)).Primary; e.Control.Mean == nil || *e.Control.Mean != want || e.Control.Users+e.Treatment.Users != 400 {
			t.Errorf("cap %v: %+v, want a mean of %v", most, e.Control, want)
		}
	}
}

// The state is pass if the metric was shown to be no worse, and breach if it was shown to be worse.
func TestANoWorseMetricPassesOrIsBreached(t *testing.T) {
	t.Parallel()
	for more, want := range map[int]experiment.Guard{0: experiment.GuardPass, -3: experiment.GuardBreach} {
		w := readouttest.New(t, func(s *experiment.Spec) {
			s.Metrics.Primary.Name = "likes_per_user"
			s.Metrics.NoWorse = []experiment.NoWorse{{Name: "tweets_per_user", Margin: .1}}
		})
		w.People(3000)
		w.Exposed()
		w.Tweets(8, more)
		w.Traffic(100, 1, 1)
		r := w.Read(begin.Add(20 * day))
		if e := r.Secondary[0]; e.Metric != "tweets_per_user" || e.NoWorse == nil || e.NoWorse.State != want {
			t.Errorf("%+d: %+v of %+v, want %s", more, e.NoWorse, e.Interval, want)
		}
	}
}

// While pods come and go, a few users may be served by something else. The report says so, but still gives a verdict.
func TestAFewUsersServedByAnotherArmOnlyWarn(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(1000)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(100, 1, 1)
	w.Exec(`update exposures set served = 'none' where (user_id >> 22) % 200 = 0`)
	r := w.Read(begin.Add(20 * day))
	want := readout.Check{Name: "served as assigned", State: readout.Warning, Detail: "5 of 1,000 users were first served by something other than their arm"}
	if !cmp.Equal(want, r.Health[4]) || r.Verdict != "win" {
		t.Errorf("%s %+v", r.Verdict, r.Health)
	}
}

// An arm with more than twice as many pods is only a warning, because a treatment may need them.
func TestManyMorePodsInOneArmOnlyWarn(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(1000)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(100, 1, 1)
	wants := func(want readout.State) {
		t.Helper()
		r := w.Read(begin.Add(20 * day))
		i := slices.IndexFunc(r.Health, func(c readout.Check) bool { return c.Name == "autoscaling" })
		if i < 0 || r.Verdict != "win" || r.Health[i].State != want {
			t.Fatalf("%s, want %s: %+v", r.Verdict, want, r.Health)
		}
	}
	wants(readout.OK)
	w.Exec(`delete from latencies where arm = 'control' and (service = 'like' or start >= $1)`, begin.Add(800*time.Second))
	wants(readout.Warning) // 80 count periods of pods against 200
	w.Exec(`delete from latencies where start >= $1`, begin.Add(100*time.Second))
	wants(readout.Unknown) // 30 count periods
}

// If users are the unit, the report shows the largest communities and all other users.
func TestTheSplitByCommunityAddsUpToAllUsers(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.People(900, "gophers", "sres", "rustaceans")
	w.Exec(`update users set community = null where community = 'rustaceans'`)
	w.Exec(`update users set community = 'sres' where community = 'gophers' and (id >> 22) % 10 = 0`)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(100, 1, 1)
	r := w.Read(begin.Add(20 * day))
	var names []string
	var users, completed experiment.Counts
	for _, s := range r.Splits {
		names = append(names, s.Community)
		users.Control, users.Treatment = users.Control+s.Control.Users, users.Treatment+s.Treatment.Users
		if s.Difference == nil || *s.Difference < 1 || *s.Difference > 3 {
			t.Errorf("%s: %v, want the 2 tweets that were planted", s.Community, s.Difference)
		}
	}
	completed = r.Units.Completed
	if diff := cmp.Diff([]string{"sres", "gophers", ""}, names); diff != "" || users != completed || completed.Control+completed.Treatment != 900 {
		t.Errorf("%s: %+v of %+v", diff, users, completed)
	}
}

// Without history no sample size is set. The experiment then ends on a date, but a sequence can judge before that.
func TestWithoutASampleSizeTheExperimentEndsOnADate(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	w.Exec(`update experiments set planned_units = 0`)
	w.People(1000)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(100, 1, 1)
	for after, ended := range map[time.Duration]bool{8 * day: false, 14 * day: true} {
		if r := w.Read(begin.Add(after)); r.Method.Ended != ended || r.Verdict != "win" || r.Units.Planned != 0 {
			t.Errorf("after %s: %+v, %s", after, r.Method, r.Sentence)
		}
	}
}

// A breached guardrail rolls the experiment back, even if health is red.
func TestABreachedGuardrailComesBeforeAllElse(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: "slow_share", Over: experiment.Duration(250 * time.Millisecond), Margin: .01}, {Name: "error_share", Margin: .01}}
	})
	w.People(1000)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(300, 1, 20)
	w.Exec(`update exposures set served = 'none'`)
	r := w.Read(begin.Add(20 * day))
	v, err := r.Judged()
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != readout.Breach || v.Guardrails != experiment.GuardBreach || !strings.HasPrefix(v.Reason, "Failed requests: at least ") || v.Health == "" {
		t.Errorf("%s: %+v", r.Verdict, v)
	}
	if slow := r.Guardrails[0]; slow.State != experiment.GuardInconclusive || !slow.Stale || *slow.Bounds.Upper > slow.Margin {
		t.Errorf("%+v", slow)
	}
}

// The sentence of a win mentions the guardrail that does not pass yet. shared/rollout then does not promote.
func TestAWinWaitsForTheGuardrails(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: "error_share", Margin: .001}}
	})
	w.People(1000)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(40, 1, 1)
	r := w.Read(begin.Add(20 * day))
	v, err := r.Judged()
	if err != nil {
		t.Fatal(err)
	}
	if v.Decision != experiment.Win || v.Guardrails != experiment.GuardInconclusive || !strings.Contains(v.Sentence, "not promoted until every guardrail passes: Failed requests: between ") {
		t.Errorf("%+v", v)
	}
}

// A difference of the arms before anybody was treated is no harm. Each step subtracts the baseline of the units that
// entered at this step and before.
func TestTheBaselineIsSubtractedFromTheHarm(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Ramp.Steps = []int{25, 50}
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: "error_share", Margin: .01}}
		s.Metrics.Baseline = new(experiment.Duration(time.Hour))
	})
	w.People(1000)
	w.Exposed()
	w.Traffic(400, 1, 3)
	w.Exec(`
		insert into windows (experiment, step, service, arm, start, requests, errors, active, slow)
		select experiment, 1, service, arm, start + interval '7 days', requests, errors, active, slow from windows`)
	w.Exec(`
		insert into buckets (experiment, step, service, arm, bucket, requests, errors, slow)
		select experiment, 1, service, arm, bucket, requests, errors, slow from buckets`)
	now := begin.Add(7*day + time.Hour + 10*time.Minute)
	guard := func() readout.Guardrail { return w.Read(now).Guardrails[0] }
	if g := guard(); g.State != experiment.GuardBreach || g.Baseline != nil || !strings.Contains(g.Sentence, "the baseline has too few requests") {
		t.Errorf("nothing was counted before: %s", g.Sentence)
	}
	// Those whom the first step took differed by 2 points, and those of the second, three times as many, not at all.
	w.Exec(`
		insert into baselines (experiment, step, service, arm, bucket, requests, errors, slow)
		select 'likes', step, 'like', arm, bucket, 1000 * (1 + 2 * step), case when step = 0 and arm = 'treatment' then 30 else 10 * (1 + 2 * step) end, '{}'
		from generate_series(0, 1) step, unnest(array['control', 'treatment']) arm, generate_series(0, 31) bucket`)
	g := guard()
	for i, want := range []struct{ baseline, harm float64 }{{.02, 0}, {.005, .015}} {
		s := g.Steps[i]
		if s.Baseline == nil || math.Abs(*s.Baseline-want.baseline) > 1e-12 || math.Abs(s.Harm-want.harm) > 1e-12 || !strings.Contains(s.Sentence, "before anybody was treated, which is subtracted") {
			t.Errorf("step %d: %v, harm %v, want %+v: %s", i, s.Baseline, s.Harm, want, s.Sentence)
		}
	}
	if g.Steps[0].State == experiment.GuardBreach || g.Steps[1].State != experiment.GuardBreach {
		t.Errorf("%s; %s", g.Steps[0].Sentence, g.Steps[1].Sentence)
	}
}

func TestRequestsAreJudgedByGuardrailsAlone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		periods, control, treatment int
		verdict                     readout.Outcome
	}{
		"as good":   {300, 1, 1, readout.Safe},
		"worse":     {300, 1, 9, readout.Breach},
		"too early": {20, 1, 1, readout.Waiting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := readouttest.New(t, func(s *experiment.Spec) {
				s.Unit = experiment.Request
				s.Metrics.Guardrails = []experiment.Guardrail{{Name: "error_share", Margin: .02}}
			})
			w.Traffic(tt.periods, tt.control, tt.treatment)
			r := w.Read(begin.Add(time.Hour))
			v, err := r.Judged()
			if err != nil || r.Verdict != tt.verdict || r.Primary != nil || v.Decision != experiment.Undecided {
				t.Errorf("%s, %+v, %v", r.Verdict, v, err)
			}
		})
	}
}

func TestHandPickedCommunitiesAreAnObservation(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Unit, s.Assignment = experiment.Community, "list"
		s.List = &experiment.List{}
		for i := range 10 {
			s.List.Control, s.List.Treatment = append(s.List.Control, "a"+strconv.Itoa(i)), append(s.List.Treatment, "b"+strconv.Itoa(i))
		}
	})
	w.People(600, append(w.Spec.List.Control, w.Spec.List.Treatment...)...)
	w.Exec(`
		insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, community, arm, arm, 'r', 1, $1
		from (select id, community, case when community < 'b' then 'control' else 'treatment' end as arm from users) u`, begin)
	w.Tweets(5, 9)
	w.Traffic(100, 1, 1)
	r := w.Read(begin.Add(14 * day))
	if !r.Observational || r.Verdict != "inconclusive" || !strings.HasPrefix(r.Sentence, "This is an observation, not an experiment") || !strings.Contains(r.Sentence, "+112.4%") {
		t.Errorf("%s: %s\n%+v", r.Verdict, r.Sentence, r.Health)
	}
	w.Exec(`update exposures set assigned = 'control' where unit = 'b3'`)
	if r = w.Read(begin.Add(14 * day)); r.Verdict != readout.Withheld {
		t.Errorf("%s: %s", r.Verdict, r.Sentence)
	}
}

func TestReadRefusesUnknownNamesAndMetrics(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, nil)
	db := w.Open(t, pgtest.Ops)
	if _, err := readout.Read(t.Context(), db, "dislikes", begin); !errors.Is(err, problem.NotFound) || !strings.Contains(err.Error(), `"dislikes"`) {
		t.Errorf("no such experiment: %v", err)
	}
	if r := w.Read(begin.Add(-day)); r.Verdict != readout.Waiting || !strings.Contains(r.Sentence, "has not begun") {
		t.Errorf("before the start: %s: %s", r.Verdict, r.Sentence)
	}
	if r := w.Read(begin.Add(time.Second)); r.Verdict != readout.Waiting {
		t.Errorf("nobody yet: %s: %s", r.Verdict, r.Sentence)
	}
	w.Exec(`update experiments set spec = jsonb_set(spec, '{metrics,primary,name}', '"joy"')`)
	if _, err := readout.Read(t.Context(), db, "likes", begin.Add(day)); err == nil || !strings.Contains(err.Error(), `metric "joy": expected one of active_days, feedback_score, likes_per_user, returning_share, retweets_per_user, tweets_per_user`) {
		t.Errorf("an unknown metric: %v", err)
	}
}

// The board draws the lift from the text in an Experiment's status.
func TestParseLiftReadsWhatStringWrites(t *testing.T) {
	t.Parallel()
	share := func(v float64) *float64 { return &v }
	for _, l := range []readout.Lift{
		{Value: share(.041), Lower: share(.01), Upper: share(.073)},
		{Value: share(-.2), Lower: share(-.313), Upper: share(-.05)},
		{Value: share(0), Lower: share(-.02), Upper: share(.02)},
		{Value: share(1.5), Lower: share(.5)},
		{Value: share(.5), Upper: share(2.25)},
		{Value: share(.5)},
	} {
		read, ok := readout.ParseLift(l.String())
		if diff := cmp.Diff(l, read, cmpopts.EquateApprox(0, 1e-12)); !ok || diff != "" {
			t.Errorf("%s: %v %s", &l, ok, diff)
		}
	}
	for _, text := range []string{"", "–", "no bound (not known)"} {
		if read, ok := readout.ParseLift(text); ok {
			t.Errorf("%q is read as %+v", text, read)
		}
	}
}
