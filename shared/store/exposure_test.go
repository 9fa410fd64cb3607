package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/clocktest"
	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// column returns the first column of all rows, which must be text. It reads as the owner.
func column(t *testing.T, d pgtest.Database, sql string, args ...any) []string {
	t.Helper()
	found, err := pgtest.Column(t.Context(), d.URL(pgtest.Owner), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A user is exposed once, with the first values, no matter which process records it and how often.
func TestThereIsOneExposurePerExperimentAndUser(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	ada, bob := user(t, d, "ada", "gophers"), user(t, d, "bob", "gophers")
	first := store.Exposure{Experiment: "likes", UserID: ada, Unit: "gophers", Assigned: "treatment", Served: "treatment", Revision: "like-00002", Generation: 3}
	later := first
	later.Revision, later.Generation = "timeline-00002", 4
	other, another := first, first
	other.UserID, another.Experiment = bob, "colours"
	for _, db := range []*store.DB{d.Open(t, pgtest.API), d.Open(t, pgtest.API)} {
		for _, e := range []store.Exposure{first, later, first, other, another} {
			if err := db.Expose(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{
		"colours gophers treatment treatment like-00002 3 once",
		"likes gophers treatment treatment like-00002 3 once",
		"likes gophers treatment treatment like-00002 3 once",
	}
	got := column(t, d, `
		select concat_ws(' ', experiment, unit, assigned, served, revision, generation, case when crossed_at is null then 'once' end)
		from exposures
		order by experiment, user_id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A process does not ask the database about an exposure that it has recorded: it works even without the table.
func TestARecordedExposureNeedsNoStatement(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	e := store.Exposure{Experiment: "likes", UserID: user(t, d, "ada", ""), Unit: "1", Assigned: "control", Served: "control"}
	if err := db.Expose(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	exec(t, d, `drop table exposures cascade`)
	if err := db.Expose(t.Context(), e); err != nil {
		t.Error(err)
	}
	e.Assigned = "treatment"
	if err := db.Expose(t.Context(), e); err == nil {
		t.Error("the other arm was taken for the one that is written")
	}
}

func TestAUserSeenInBothArmsHasCrossed(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	dbs := []*store.DB{d.Open(t, pgtest.API), d.Open(t, pgtest.API)} // two processes: one would not ask twice
	const c, b, none = "control", "treatment", experiment.NotServed
	type seen struct{ assigned, served string }
	for i, tt := range []struct {
		first, later seen
		crossed      bool
	}{
		{seen{c, c}, seen{c, c}, false},
		{seen{c, c}, seen{c, none}, false},
		{seen{c, none}, seen{c, c}, false},
		{seen{c, none}, seen{c, none}, false},
		{seen{b, c}, seen{b, c}, false}, // served is not assigned, which is another matter
		{seen{c, c}, seen{b, b}, true},
		{seen{c, c}, seen{b, none}, true},
		{seen{c, c}, seen{c, b}, true},
		{seen{c, none}, seen{c, b}, true},
		{seen{b, c}, seen{b, b}, true},
	} {
		exec(t, d, `truncate exposures`)
		ada := user(t, d, fmt.Sprint("ada", i), "")
		var at []string // of crossing
		for i, s := range []seen{tt.first, tt.later, tt.first} {
			e := store.Exposure{Experiment: "likes", UserID: ada, Unit: "gophers", Assigned: s.assigned, Served: s.served}
			if err := dbs[i%2].Expose(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			at = append(at, column(t, d, `select crossed_at::text from exposures where crossed_at is not null`)...)
			row := column(t, d, `select assigned || served from exposures`)
			if diff := cmp.Diff([]string{tt.first.assigned + tt.first.served}, row); diff != "" {
				t.Errorf("%v, then %v: %s", tt.first, tt.later, diff)
			}
		}
		if crossed := len(at) > 0; crossed != tt.crossed || crossed && at[0] != at[len(at)-1] {
			t.Errorf("%v, then %v: crossed at %v", tt.first, tt.later, at)
		}
	}
}

func TestAMissingUserIsNotExposed(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t, pgtest.API)
	err := db.Expose(t.Context(), store.Exposure{Experiment: "likes", UserID: 1, Unit: "1", Assigned: "control", Served: "control"})
	if !errors.Is(err, problem.Unauthenticated) {
		t.Error(err)
	}
}

// The owner has no lock_timeout, so only the exposure's own limit ends the wait.
func TestAnExposureWaitsShorterThanOtherCalls(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Owner)
	e := store.Exposure{Experiment: "likes", UserID: user(t, d, "ada", ""), Unit: "1", Assigned: "control", Served: "control"}
	d.Hold(t, `lock table exposures in access exclusive mode`)
	db.Limit(store.CallTimeout)
	var err error
	if took := clocktest.Took(func() { err = db.Expose(t.Context(), e) }); !errors.Is(err, problem.Unavailable) || took > 1200*time.Millisecond {
		t.Errorf("%v after %s", err, took)
	}
}

// A period may come again with the same counts, with more, or, late, with fewer. One batch may have it twice.
func TestTheGreaterCountsOfAPeriodStay(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	like := d.Open(t, pgtest.API)
	for _, n := range []int64{1, 2, 2, 1} {
		latencies := []experiment.Latencies{
			{Experiment: "likes", Arm: experiment.Control, Service: "like", Start: at, Counts: []int64{0, n, 2 * n}},
			{Experiment: "likes", Arm: experiment.Control, Service: "like", Start: at, Counts: []int64{0, n, 2 * n}},
			{Experiment: "likes", Arm: experiment.Control, Service: "tweet", Start: at, Counts: []int64{7, 0, 0}},
		}
		if err := like.RecordLatencies(t.Context(), "like-1", latencies); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"like {0,2,4}", "tweet {7,0,0}"}
	got := column(t, d, `select service || ' ' || buckets::text from latencies where pod = 'like-1' and start = $1 order by service`, at)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

var noonAt = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// counted returns the counts of an edge for one period of the Service like, in an arm of likes with one bound: so many requests in
// bucket 3, half of them errors, and so many in bucket 31, all slow.
func counted(arm experiment.Arm, period int, requests int64) experiment.Outcomes {
	list := func(third, last int64) []int64 {
		counts := make([]int64, experiment.Buckets)
		counts[3], counts[31] = third, last
		return counts
	}
	return experiment.Outcomes{
		Experiment: "likes", Step: 1, Service: "like", Arm: arm, Start: noonAt.Add(time.Duration(period) * experiment.CountPeriod),
		Requests: list(requests, requests), Errors: list(requests/2, 0), Slow: [][]int64{list(0, requests)},
	}
}

const (
	periodRows = `
		select format('%s %s %s %s: %s, %s, %s', step, service, arm, to_char(start at time zone 'UTC', 'SS'), requests, errors, slow)
		from windows
		order by step, service, arm, start`
	bucketRows = `
		select format('%s %s %s %s: %s, %s, %s', step, service, arm, bucket, requests, errors, slow)
		from buckets
		order by step, service, arm, bucket`
)

// The counts of two edges add up. A period that an edge sends again, for example because the answer was lost, adds nothing.
func TestAPeriodOfAnEdgeIsCountedOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	record := func(pod string, counts ...experiment.Outcomes) {
		t.Helper()
		if err := db.RecordOutcomes(t.Context(), pod, counts); err != nil {
			t.Fatal(err)
		}
	}
	tweets := counted(experiment.Control, 0, 7)
	tweets.Service, tweets.Step, tweets.Slow = "tweet", 0, nil
	for range 2 {
		record("edge-1", counted(experiment.Control, 0, 10), counted(experiment.Treatment, 0, 4), tweets)
		record("edge-2", counted(experiment.Control, 0, 2))
		record("edge-1", counted(experiment.Treatment, 1, 6))
	}
	record("edge-1")
	want := []string{"0 tweet control 00: 14, 3, {}", "1 like control 00: 24, 6, {12}", "1 like treatment 00: 8, 2, {4}", "1 like treatment 10: 12, 3, {6}"}
	if diff := cmp.Diff(want, column(t, d, periodRows)); diff != "" {
		t.Error(diff)
	}
	want = []string{
		"0 tweet control 3: 7, 3, {}", "0 tweet control 31: 7, 0, {}", "1 like control 3: 12, 6, {0}", "1 like control 31: 12, 0, {12}",
		"1 like treatment 3: 10, 5, {0}", "1 like treatment 31: 10, 0, {10}",
	}
	if diff := cmp.Diff(want, column(t, d, bucketRows)); diff != "" {
		t.Error(diff)
	}
}

// A baseline is counted by bucket, separately from later requests, and only once if it comes again.
func TestABaselineIsCountedSeparately(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	before, later := counted(experiment.Treatment, 0, 10), counted(experiment.Treatment, 0, 4)
	before.Before = true
	for range 2 {
		if err := db.RecordOutcomes(t.Context(), "edge-1", []experiment.Outcomes{before, later}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.RecordOutcomes(t.Context(), "edge-2", []experiment.Outcomes{before}); err != nil {
		t.Fatal(err)
	}
	for rows, want := range map[string][]string{
		periodRows: {"1 like treatment 00: 8, 2, {4}"},
		bucketRows: {"1 like treatment 3: 4, 2, {0}", "1 like treatment 31: 4, 0, {4}"},
		strings.Replace(bucketRows, "buckets", "baselines", 1): {"1 like treatment 3: 20, 10, {0}", "1 like treatment 31: 20, 0, {20}"},
	} {
		if diff := cmp.Diff(want, column(t, d, rows)); diff != "" {
			t.Errorf("%s: %s", rows, diff)
		}
	}
}

// Edges post counts of the same rows at the same moment, in different orders. Everything is stored, and no two deadlock.
func TestEdgesCanWriteTheSameRowsAtTheSameTime(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	const edges, posts = 4, 40
	var all sync.WaitGroup
	for edge := range edges {
		db := d.Open(t, pgtest.Ops)
		all.Go(func() {
			for n := range posts {
				counts := make([]experiment.Outcomes, 0, 8)
				for i := range 8 {
					one := counted(experiment.Arms[i%2], n%3, 2)
					one.Service = []string{"like", "tweet", "timeline", "users"}[i/2]
					counts = append(counts, one)
				}
				if edge%2 == 0 {
					slices.Reverse(counts)
				}
				if err := db.RecordOutcomes(t.Context(), fmt.Sprint("edge-", edge, "-", n), counts); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	want := []string{fmt.Sprint(edges*posts*8*4, " ", edges*posts*8)}
	for _, table := range []string{"windows", "buckets"} {
		if diff := cmp.Diff(want, column(t, d, `select concat_ws(' ', sum(requests), sum(errors)) from `+table)); diff != "" {
			t.Errorf("%s: %s", table, diff)
		}
	}
}

// The counts of the previous release become periods of the step of their time, for all Services together.
func TestOldOutcomesBecomePeriods(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `insert into experiments (name, spec, salt, planned_units, started_at) values ('likes', '{}', 's', 0, $1)`, noonAt)
	for i, after := range []time.Duration{0, 15 * time.Second} {
		exec(t, d, `insert into experiment_transitions (experiment, id, phase, step, percent, at, actor, reason) values ('likes', $1, 'Running', $2, 10, $3, 'steer', '')`,
			fmt.Sprint(i), i, noonAt.Add(after))
	}
	exec(t, d, `insert into outcomes (experiment, arm, start, pod, requests, errors)
		select 'likes', arm, $1::timestamptz + interval '10 s' * n, pod, 5 + n, n
		from unnest(array['control', 'treatment']) arm, unnest(array['a', 'b']) pod, generate_series(1, 2) n`, noonAt)
	migration, err := os.ReadFile("migrations/014_count_by_service_and_bucket.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, copying, _ := strings.Cut(string(migration), "\ninsert into windows")
	exec(t, d, "insert into windows"+copying)
	want := []string{"0  control 10: 12, 2, {}", "0  treatment 10: 12, 2, {}", "1  control 20: 14, 4, {}", "1  treatment 20: 14, 4, {}"}
	if diff := cmp.Diff(want, column(t, d, periodRows)); diff != "" {
		t.Error(diff)
	}
}

// Exposures to guests are stored once, even if they come again or in another order.
func TestExposuresToGuestsAreStoredOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	ada := user(t, d, "ada", "")
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	first := func(unit, assigned, served string, after time.Duration) store.Exposure {
		return store.Exposure{Experiment: "checkout", Unit: unit, Assigned: assigned, Served: served, Revision: "shop-" + served, Generation: 2, At: at.Add(after)}
	}
	own := first(fmt.Sprint(ada), "control", "control", 0)
	own.UserID = ada
	gone := own
	gone.UserID = ada + 1
	sent := []store.Exposure{
		first("a", "control", "control", 0), first("b", "treatment", "none", time.Second), own, gone,
		first("a", "control", "none", 2*time.Second),        // no crossing
		first("b", "treatment", "treatment", 3*time.Second), // nor this
		first("c", "control", "control", 0), first("c", "treatment", "treatment", 4*time.Second),
	}
	const rows = `select format('%s %s %s %s %s %s %s', unit, subject, assigned, served, to_char(first_at at time zone 'UTC', 'SS'), to_char(crossed_at at time zone 'UTC', 'SS'), user_id >= 1::bigint << 62) from exposed order by unit`
	want := []string{
		fmt.Sprintf("%d %d control control 00  f", ada, ada), "a a control control 00  t", "b b treatment none 01  t", "c c control control 00 04 t",
	}
	for range 2 {
		if err := db.RecordExposures(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, column(t, d, rows)); diff != "" {
			t.Error(diff)
		}
	}
}

// An edge counts the latencies of guests: all steps of a period together, once, and not as a pod of the arm.
func TestLatenciesOfGuestsAreCountedOnceAndForNoPod(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	zero := func() []int64 { return make([]int64, experiment.Buckets) }
	counts := make([]experiment.Outcomes, 3)
	for step := range counts {
		requests := zero()
		requests[0] = 5
		counts[step] = experiment.Outcomes{Experiment: "checkout", Step: step, Service: "shop", Arm: experiment.Control, Start: noonAt, Requests: requests, Errors: zero(), Slow: [][]int64{}}
		if step < 2 {
			counts[step].Latency = []int64{1, 0, 4}
		}
	}
	for range 2 {
		if err := db.RecordOutcomes(t.Context(), "edge-1", counts); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"control shop edge/edge-1 {2,0,8}"}, column(t, d, `select concat_ws(' ', arm, service, pod, buckets::text) from latencies`)); diff != "" {
		t.Error(diff)
	}
	if err := db.Snapshot(t.Context(), func(ctx context.Context, s *store.Snapshot) error {
		n, err := s.PodPeriods(ctx, "checkout", noonAt.Add(time.Hour))
		if n != (experiment.Counts{}) {
			t.Errorf("%+v periods of pods", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Functions can write exposures and counts but not delete them. The readout can read them, and delete those of archived experiments.
func TestTheRightsOfLoginsOnExperiments(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	want := []string{
		"warble_api exposures: insert, select, update of crossed_at",
		"warble_api latencies: insert, select, update",
		"warble_ops baselines: delete, insert, select, update",
		"warble_ops buckets: delete, insert, select, update",
		"warble_ops event_metrics: delete, insert, select, update",
		"warble_ops experiment_transitions: insert, select, update",
		"warble_ops experiments: insert, select, update",
		"warble_ops exposed: select",
		"warble_ops exposures: delete, insert, select, update of crossed_at",
		"warble_ops guest_exposures: delete, insert, select, update of crossed_at",
		"warble_ops latencies: delete, insert, select, update",
		"warble_ops metric_events: delete, insert, select",
		"warble_ops outcomes: delete, insert, select, update",
		"warble_ops windows: delete, insert, select, update",
		"warble_ops windows_taken: delete, insert, select",
	}
	got := column(t, d, `
		with granted as (
			select relname, grantee::regrole::text as role, lower(privilege_type) as privilege
			from pg_class, aclexplode(relacl)
			where grantee <> relowner
			union all
			select relname, grantee::regrole::text, lower(privilege_type) || ' of ' || attname
			from pg_class c
			join pg_attribute a on a.attrelid = c.oid, aclexplode(attacl)
		)
		select format('%s %s: %s', role, relname, string_agg(privilege, ', ' order by privilege))
		from granted
		where relname in ('experiments', 'experiment_transitions', 'exposures', 'guest_exposures', 'exposed', 'outcomes', 'latencies', 'windows', 'buckets', 'baselines', 'windows_taken', 'event_metrics', 'metric_events')
		group by role, relname
		order by 1`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
