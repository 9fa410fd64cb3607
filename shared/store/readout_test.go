package store_test

import (
	"context"
	"fmt"
	osexec "os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

var entry = time.Date(2026, 10, 8, 18, 0, 0, 0, time.UTC)

const window = 7 * 24 * time.Hour

// snapshot calls read with a Snapshot, with the rights of ops.
func snapshot(t *testing.T, d pgtest.Database, read func(context.Context, *store.Snapshot) error) {
	t.Helper()
	if err := d.Open(t, pgtest.Ops).Snapshot(t.Context(), read); err != nil {
		t.Fatal(err)
	}
}

// Which events count for which user, at the edges of the window and of the past.
func TestMetricsCountWithinTheWindowAndThePast(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `insert into users (id, username, name, community) values
		(id_at('2026-08-01Z'), 'old', 'Old', 'gophers'), (id_at('2026-10-07Z'), 'new', 'New', 'gophers'), (id_at('2026-08-02Z'), 'idle', 'Idle', 'sres')`)
	exec(t, d, `insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, id::text, 'control', 'control', 'r', 1, $1 from users`, entry)
	for _, event := range []struct {
		at      time.Duration // after the entry
		retweet bool
		deleted bool
	}{
		{-15 * 24 * time.Hour, false, false}, // before the past
		{-14 * 24 * time.Hour, false, false},
		{-time.Millisecond, false, true},
		{0, false, false}, // the window's first moment
		{time.Hour, false, true},
		{2 * time.Hour, true, false},
		{window - time.Millisecond, false, false},
		{window, false, false}, // past it
	} {
		exec(t, d, `insert into tweets (id, author_id, text, retweet_of, deleted_at)
			select id_at($1), id, case when $2 or $3 then '' else 'x' end, case when $2 then (select min(id) from tweets) end, case when $3 then now() end
			from users where username = 'old'`, entry.Add(event.at), event.retweet, event.deleted)
		exec(t, d, `insert into likes (id, user_id, tweet_id, deleted_at)
			select id_at($1), id, (select min(id) from tweets), now() from users where username = 'new'`, entry.Add(event.at))
	}
	exec(t, d, `insert into activity (user_id, day)
		select id, $1::date + n from users, unnest(array[-15, -14, -13, -1, 0, 1, 6, 7, 8]) n where username = 'old'`, entry)
	exec(t, d, `insert into feedback (id, user_id, score, text)
		select id_at($1::timestamptz + interval '1 hour' * n), id, n, case when n = 4 then 'good' else '' end
		from users, unnest(array[2, 4]) n where username = 'old'`, entry)
	exec(t, d, `insert into feedback (id, user_id, score, text) select id_at($1::timestamptz - interval '1 hour'), id, 1, 'before' from users where username = 'new'`, entry)

	type value struct{ Users, N, Y, X float64 }
	want := map[string]map[bool]value{ // by whether they have a past
		"tweets_per_user":   {true: {2, 2, 3, 2}, false: {1, 1, 0, 0}},
		"retweets_per_user": {true: {2, 2, 1, 0}, false: {1, 1, 0, 0}},
		"likes_per_user":    {true: {2, 2, 0, 0}, false: {1, 1, 4, 0}},
		"active_days":       {true: {2, 2, 2, 2}, false: {1, 1, 0, 0}},
		"returning_share":   {true: {2, 2, 1, 1}, false: {1, 1, 0, 0}},
		"feedback_score":    {false: {3, 1, 3, 0}},
	}
	members := store.Members{Experiment: "likes", Window: window, End: entry.Add(window)}
	looks := store.Looks{Start: entry.Add(-time.Hour), Every: 24 * time.Hour, End: members.End}
	snapshot(t, d, func(ctx context.Context, s *store.Snapshot) error {
		for _, metric := range store.Metrics() {
			if !metric.Kind.OfUsers() {
				continue
			}
			sums, err := s.UserSums(ctx, metric, members, looks, nil)
			if err != nil {
				return err
			}
			got := make(map[bool]value)
			for _, sum := range sums {
				if sum.Look != 7 || sum.Arm != experiment.Control {
					t.Errorf("%s: %+v", metric.Name, sum)
				}
				got[sum.Known] = value{float64(sum.Users), float64(sum.N), sum.SumY, sum.SumX}
			}
			if diff := cmp.Diff(want[metric.Name], got); diff != "" {
				t.Errorf("%s: %s", metric.Name, diff)
			}
			values, err := s.UserValues(ctx, metric, members, 10)
			if err != nil {
				return err
			}
			var total float64
			for _, v := range values {
				total += v.Value
			}
			if sum := got[true].Y + got[false].Y; total != sum {
				t.Errorf("%s: %v one by one, %v in sums", metric.Name, total, sum)
			}
		}
		// A moment earlier no window is over.
		early := members
		early.End = early.End.Add(-time.Millisecond)
		if sums, err := s.UserSums(ctx, store.Metrics()[0], early, looks, nil); err != nil || len(sums) > 0 {
			t.Errorf("before the window is over: %+v, %v", sums, err)
		}
		quotes, err := s.Quotes(ctx, members, 10)
		if err != nil || len(quotes) != 1 || quotes[0].Text != "good" {
			t.Errorf("%+v, %v", quotes, err)
		}
		// What was said before the entry counts for no arm.
		scores, err := s.Scores(ctx, members)
		if want := (store.Scores{Treatment: [5]int64{1: 1, 3: 1}}); err != nil || scores != want && scores != (store.Scores{Control: want.Treatment}) {
			t.Errorf("%+v, %v: want a 2 and a 4 of one user", scores, err)
		}
		return nil
	})
	exec(t, d, `insert into guest_exposures (experiment, unit, assigned, served, revision, generation, first_at)
		select 'shop', 'visitor-' || n, 'treatment', 'treatment', 'shop-1', 1, $1 from generate_series(1, 2) n`, entry)
	all, err := d.Open(t, pgtest.Ops).Exposed(t.Context())
	if n := all["likes"]; err != nil || len(all) != 2 || n.Control+n.Treatment != 3 || all["shop"].Treatment != 2 {
		t.Errorf("%+v, %v: want 3 users of likes and 2 visitors of shop", all, err)
	}
}

// A community has the members of the time of its entry, including those who were never active.
func TestMetricsOfCommunitiesCountTheMembersAtTheEntry(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `insert into users (id, username, name, community)
		select id_at(at), name, 'x', community
		from (values ('2026-08-01Z'::timestamptz, 'a', 'gophers'), ('2026-10-01Z', 'b', 'gophers'), ('2026-10-09Z', 'late', 'gophers'), ('2026-08-02Z', 'c', 'sres'), ('2026-08-03Z', 'none', null)) u (at, name, community)`)
	exec(t, d, `insert into tweets (id, author_id, text) select id_at($1) + row_number() over (), id, 'x' from users, generate_series(1, 3)`, entry.Add(time.Hour))
	members := store.Members{Window: window, End: entry.Add(window), Openings: []store.Opening{{Unit: "gophers", Arm: experiment.Treatment, Entry: entry}, {Unit: "sres", Arm: experiment.Control, Entry: entry.Add(time.Hour)}}}
	metric, err := store.MetricNamed("tweets_per_user", store.Mean)
	if err != nil {
		t.Fatal(err)
	}
	snapshot(t, d, func(ctx context.Context, s *store.Snapshot) error {
		sums, err := s.UnitSums(ctx, metric, members)
		if diff := cmp.Diff([]store.UnitSums{{Unit: "gophers", Arm: experiment.Treatment, Members: 2, N: 2, Sum: 6, SumSq: 18}}, sums); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
		sizes, err := s.UnitMembers(ctx, members)
		if diff := cmp.Diff(map[string]int64{"gophers": 2, "sres": 1}, sizes); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
		slugs, err := s.Communities(ctx, entry)
		if diff := cmp.Diff([]string{"gophers", "sres"}, slugs); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
		return nil
	})
}

// ratio returns a metric of requests.
func ratio(t testing.TB, name string) store.Metric {
	t.Helper()
	metric, err := store.MetricNamed(name, store.Ratio)
	if err != nil {
		t.Fatal(err)
	}
	return metric
}

// The counts of an experiment with two steps, two Services and two bounds. Rows of other experiments and other times are left out.
// Count periods without a request are included, as zeros.
func TestRequestsAreReadByStepAndService(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `insert into experiments (name, spec, salt, planned_units, started_at)
		select name, '{"metrics": {"guardrails": [{"name": "slow_share", "over": "500ms", "margin": "1pp"}, {"name": "slow_share", "over": "250ms", "margin": "1pp"}]}}', 's', 0, $1
		from unnest(array['likes', 'other']) name`, entry)
	exec(t, d, `insert into windows (experiment, step, service, arm, start, requests, errors, slow)
		select experiment, step, service, arm, $1::timestamptz + interval '10 s' * nth, requests, errors, slow::integer[]
		from (values
			('likes', 0, 'like',  'control',   -1, 9, 9, '{9,9}'),
			('likes', 0, 'like',  'treatment',  1, 5, 1, '{3,2}'),
			('likes', 0, 'like',  'control',    1, 4, 0, '{0,0}'),
			('likes', 0, 'like',  'control',    4, 6, 2, '{1,0}'),
			('likes', 0, 'tweet', 'control',    2, 1, 0, '{1,1}'),
			('likes', 0, '',      'control',    0, 2, 1, '{}'),
			('likes', 1, 'like',  'treatment',  5, 7, 0, '{7,7}'),
			('likes', 1, 'like',  'control',    6, 9, 9, '{9,9}'),
			('other', 0, 'like',  'control',    1, 9, 9, '{9,9}')) v (experiment, step, service, arm, nth, requests, errors, slow)`, entry)
	exec(t, d, `insert into buckets (experiment, step, service, arm, bucket, requests, errors, slow)
		select experiment, step, service, arm, bucket, 10 + bucket, 1, array[3, bucket]
		from (values ('likes', 1, 'like', 'control', 0), ('likes', 1, 'like', 'treatment', 31), ('likes', 0, 'tweet', 'control', 7), ('other', 0, 'like', 'control', 0))
			v (experiment, step, service, arm, bucket)`)
	period := func(control, treatment, badControl, badTreatment int64) store.Period {
		return store.Period{Requests: experiment.Counts{Control: control, Treatment: treatment}, Bad: experiment.Counts{Control: badControl, Treatment: badTreatment}}
	}
	at := func(step int, service string, nth int, periods ...store.Period) store.Periods {
		return store.Periods{Stratum: store.Stratum{Step: step, Service: service}, Start: entry.Add(time.Duration(nth) * experiment.CountPeriod), Periods: periods}
	}
	span := store.Span{Experiment: "likes", Begin: entry, End: entry.Add(time.Minute)}
	snapshot(t, d, func(ctx context.Context, s *store.Snapshot) error {
		for _, tt := range []struct {
			metric string
			over   time.Duration
			want   []store.Periods
		}{
			{"error_share", 0, []store.Periods{
				at(0, "", 0, period(2, 0, 1, 0)),
				at(0, "like", 1, period(4, 5, 0, 1), store.Period{}, store.Period{}, period(6, 0, 2, 0)),
				at(0, "tweet", 2, period(1, 0, 0, 0)),
				at(1, "like", 5, period(0, 7, 0, 0)),
			}},
			{"slow_share", 250 * time.Millisecond, []store.Periods{
				at(0, "like", 1, period(4, 5, 0, 3), store.Period{}, store.Period{}, period(6, 0, 1, 0)),
				at(0, "tweet", 2, period(1, 0, 1, 0)),
				at(1, "like", 5, period(0, 7, 0, 7)),
			}},
			{"slow_share", 500 * time.Millisecond, []store.Periods{
				at(0, "like", 1, period(4, 5, 0, 2), store.Period{}, store.Period{}, period(6, 0, 0, 0)),
				at(0, "tweet", 2, period(1, 0, 1, 0)),
				at(1, "like", 5, period(0, 7, 0, 7)),
			}},
		} {
			got, err := s.Periods(ctx, ratio(t, tt.metric), span, tt.over)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%s over %s: %s, %v", tt.metric, tt.over, diff, err)
			}
		}
		buckets, err := s.Buckets(ctx, ratio(t, "slow_share"), "likes", 500*time.Millisecond)
		tweet, like := store.Buckets{Stratum: store.Stratum{Service: "tweet"}}, store.Buckets{Stratum: store.Stratum{Step: 1, Service: "like"}}
		tweet.Arms[0][7], like.Arms[0][0], like.Arms[1][31] = store.Tally{Requests: 17, Bad: 7}, store.Tally{Requests: 10}, store.Tally{Requests: 41, Bad: 31}
		if diff := cmp.Diff([]store.Buckets{tweet, like}, buckets); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
		requests, err := s.Requests(ctx, "likes", entry.Add(40*time.Second), entry.Add(time.Minute))
		if diff := cmp.Diff([]store.Requested{{Arm: experiment.Control, Requests: 22, Recent: 6}, {Arm: experiment.Treatment, Requests: 12, Recent: 7}}, requests); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
		if _, err := s.Periods(ctx, ratio(t, "slow_share"), span, 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "over 300ms: expected one of the bounds of experiment likes: [250ms 500ms]") {
			t.Errorf("a bound that is none: %v", err)
		}
		if periods, err := s.Periods(ctx, ratio(t, "error_share"), store.Span{Experiment: "nobody", Begin: entry, End: entry.Add(time.Minute)}, 0); err != nil || len(periods) != 0 {
			t.Errorf("no rows: %v, %v", periods, err)
		}
		return nil
	})
}

// The histograms of processes are added up. An incomplete histogram is an error that names its time.
func TestHistogramsOfProcessesAreAddedUp(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	buckets := make([]int64, len(experiment.LatencyBounds)+1)
	for i := range buckets {
		buckets[i] = 1
	}
	for _, pod := range []string{"a", "b"} {
		exec(t, d, `insert into latencies (experiment, arm, start, service, pod, buckets) values ('likes', 'control', $1, 'like', $2, $3)`, entry, pod, buckets)
	}
	exec(t, d, `insert into latencies (experiment, arm, start, service, pod, buckets) values ('short', 'control', $1, 'like', 'a', '{1}')`, entry)
	span := store.Span{Experiment: "likes", Begin: entry, End: entry.Add(time.Minute)}
	metric, err := store.MetricNamed("latency", store.Quantiles)
	if err != nil {
		t.Fatal(err)
	}
	snapshot(t, d, func(ctx context.Context, s *store.Snapshot) error {
		histograms, err := s.Histograms(ctx, metric, span, time.Minute)
		if err != nil || len(histograms) != 1 || histograms[0].Requests[3] != 2 {
			t.Errorf("%+v, %v", histograms, err)
		}
		span.Experiment = "short"
		if _, err := s.Histograms(ctx, metric, span, time.Minute); err == nil || !strings.Contains(err.Error(), "expected 36 buckets in each") {
			t.Errorf("a row with one bucket: %v", err)
		}
		return nil
	})
}

// Two gophers, one of the sres and one user without a community were exposed; another gopher and another of the sres were not.
func TestUsersAreCountedByCommunity(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `insert into users (id, username, name, community)
		select id_at('2026-08-01Z') + n, 'u' || n, 'U', (array['gophers', 'gophers', 'gophers', 'sres', 'sres', null])[n] from generate_series(1, 6) n`)
	exec(t, d, `insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, id::text, case username when 'u4' then 'treatment' else 'control' end, 'none', 'r', 1, $1 from users where username in ('u1', 'u2', 'u4', 'u6')`, entry)
	exec(t, d, `insert into tweets (id, author_id, text) select id_at($1) + id % 10, id, 'x' from users where username <> 'u2'`, entry)
	exec(t, d, `insert into latencies (experiment, arm, start, service, pod, buckets)
		select 'likes', arm, $1, 'like', pod, '{1}' from (values ('control', 'a'), ('control', 'b'), ('treatment', 'c')) v (arm, pod)`, entry)
	end := entry.Add(window)
	members := store.Members{Experiment: "likes", Window: window, End: end}
	snapshot(t, d, func(ctx context.Context, s *store.Snapshot) error {
		var found []string
		if err := s.Candidates(ctx, "likes", []string{"sres"}, end, func(c store.Candidate) {
			found = append(found, fmt.Sprintf("%s %s %t", c.Community, c.Arm, c.Unit == fmt.Sprint(c.UserID)))
		}); err != nil {
			return err
		}
		slices.Sort(found)
		if diff := cmp.Diff([]string{" control true", "gophers control true", "gophers control true", "sres  false", "sres treatment true"}, found); diff != "" {
			t.Error(diff)
		}
		n := 0
		if err := s.Candidates(ctx, "likes", nil, entry, func(c store.Candidate) {
			if n++; c.Arm != "" {
				t.Errorf("%+v was exposed later", c)
			}
		}); err != nil || n != 6 {
			t.Errorf("%d of 6 users, %v", n, err)
		}
		for most, want := range map[int][]string{1: {"gophers"}, 5: {"gophers", "sres"}} {
			largest, err := s.LargestCommunities(ctx, "likes", end, most)
			if diff := cmp.Diff(want, largest); diff != "" || err != nil {
				t.Errorf("%d largest: %s, %v", most, diff, err)
			}
		}
		metric, err := store.MetricNamed("tweets_per_user", store.Mean)
		if err != nil {
			return err
		}
		sums, err := s.UserSums(ctx, metric, members, store.Looks{Start: entry, Every: 30 * 24 * time.Hour, End: end}, []string{"gophers", "sres"})
		want := []store.Sums{
			{Arm: experiment.Control, Known: true, Users: 1, N: 1, NonZero: 1, SumY: 1, SumYY: 1},
			{Arm: experiment.Control, Known: true, Community: "gophers", Users: 2, N: 2, NonZero: 1, SumY: 1, SumYY: 1},
			{Arm: experiment.Treatment, Known: true, Community: "sres", Users: 1, N: 1, NonZero: 1, SumY: 1, SumYY: 1},
		}
		if diff := cmp.Diff(want, sums); diff != "" || err != nil {
			t.Errorf("%s, %v", diff, err)
		}
		pods, err := s.PodPeriods(ctx, "likes", end)
		if (pods != experiment.Counts{Control: 2, Treatment: 1}) || err != nil {
			t.Errorf("%+v, %v", pods, err)
		}
		return nil
	})
}

// The file user_sums.sql runs in psql, as its comment says, and gives the same sums as the readout.
func TestUserSumsRunsInPsql(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `insert into users (id, username, name, community)
		select id_at('2026-08-01Z') + n, 'u' || n, 'U', (array['gophers', 'sres', null])[1 + n % 3] from generate_series(1, 30) n`)
	exec(t, d, `insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, id::text, case when id % 2 = 0 then 'treatment' else 'control' end, 'none', 'r', 1, $1::timestamptz + interval '1 day' * (id % 4) from users`, entry)
	exec(t, d, `insert into tweets (id, author_id, text) select id_at($1) + 40 * n + id % 40, id, 'x' from users, generate_series(1, 3) n where id % 5 > n`, entry)
	end := entry.Add(window + 2*24*time.Hour)
	metric, err := store.MetricNamed("tweets_per_user", store.Mean)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	snapshot(t, d, func(ctx context.Context, s *store.Snapshot) error {
		sums, err := s.UserSums(ctx, metric, store.Members{Experiment: "likes", Window: window, End: end},
			store.Looks{Start: entry, Every: 24 * time.Hour, End: end, Cut: end.Add(-24 * time.Hour)}, []string{"gophers"})
		for _, sum := range sums {
			fmt.Fprintf(&want, "%s|%d|%.1s|%.1s|%s|%d|%d|%d|%v|%v|%v|%v|%v\n", sum.Arm, sum.Look, strconv.FormatBool(sum.Late), strconv.FormatBool(sum.Known),
				sum.Community, sum.Users, sum.N, sum.NonZero, sum.SumY, sum.SumYY, sum.SumX, sum.SumXX, sum.SumXY)
		}
		return err
	})
	arguments := []string{"-d", d.URL(pgtest.Ops), "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "shared/store/readout/user_sums.sql"}
	for name, value := range map[string]string{
		"metric_name": "tweets_per_user", "experiment": "likes", "apart": "{gophers}", "window": fmt.Sprint(window.Milliseconds()), "past": fmt.Sprint(store.Past.Milliseconds()),
		"start": entry.Format(time.RFC3339), "every": fmt.Sprint((24 * time.Hour).Milliseconds()), "end": end.Format(time.RFC3339), "cut": end.Add(-24 * time.Hour).Format(time.RFC3339),
	} {
		arguments = append(arguments, "-v", name+"="+value)
	}
	psql := osexec.CommandContext(t.Context(), "psql", arguments...)
	psql.Dir = "../.."
	got, err := psql.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v: %s", err, got)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" || want.Len() == 0 {
		t.Errorf("the readout and psql: %s", diff)
	}
}

// A readout looks up each exposed user in indexes that have everything it needs. It does not read the big tables themselves.
func TestTheReadoutReadsIndexesOnly(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, crowd)
	exec(t, d, `insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
		select 'likes', id, id::text, 'control', 'control', 'r', 1, $1 from users where (id >> 22) % 10 = 0`, entry)
	exec(t, d, `vacuum analyze`)
	before := readsOf(t, d, pgtest.Ops)
	db, err := store.Open(d.URL(pgtest.Ops), 2)
	if err != nil {
		t.Fatal(err)
	}
	members := store.Members{Experiment: "likes", Window: window, End: entry.Add(window)}
	if err := db.Snapshot(t.Context(), func(ctx context.Context, s *store.Snapshot) error {
		for _, metric := range store.Metrics() {
			if metric.Kind.OfUsers() {
				if _, err := s.UserSums(ctx, metric, members, store.Looks{Start: entry, Every: time.Hour, End: members.End}, nil); err != nil {
					return fmt.Errorf("%s: %w", metric.Name, err)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	after := readsOf(t, d, pgtest.Ops)
	for _, table := range []string{"tweets", "likes", "activity", "users"} {
		if n := after.sequential[table] - before.sequential[table]; n > 0 {
			t.Errorf("%d scans of all of %s", n, table)
		}
	}
}

func TestAWrongMetricHeaderIsRefused(t *testing.T) {
	t.Parallel()
	for _, m := range store.Metrics() {
		if m.About == "" || m.Unit == "" || m.Name == "" {
			t.Errorf("%+v", m)
		}
	}
	if _, err := store.MetricNamed("error_share", store.Mean); err == nil || !strings.Contains(err.Error(), "active_days") {
		t.Errorf("%v", err)
	}
}

// Converting a time to an id and back gives the same time, to the millisecond.
func TestIdAtIsTheFirstIdOfItsMillisecond(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	if wrong := query[int](t, d, `
		select count(*)
		from generate_series(1, 100000) n, lateral (select n * 7919::bigint * 65537 << 22 as id) i
		where id_at(id_time(id)) <> id or id_at(id_time(id) + interval '999 microseconds') <> id`); wrong != 0 {
		t.Errorf("%d of 100000", wrong)
	}
}
