package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/clocktest"
	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// column returns the first column of all rows, text, as the owner sees it.
func column(t *testing.T, d pgtest.Database, sql string, args ...any) []string {
	t.Helper()
	found, err := pgtest.Column(t.Context(), d.URL(pgtest.Owner), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A user is exposed once, whoever writes it and however often, and by what they were first.
func TestOneExposurePerExperimentAndUser(t *testing.T) {
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

// What a process has written it does not ask the database about: the table may be gone.
func TestAnExposureThatWasWrittenCostsNoStatement(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	e := store.Exposure{Experiment: "likes", UserID: user(t, d, "ada", ""), Unit: "1", Assigned: "control", Served: "control"}
	if err := db.Expose(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	exec(t, d, `drop table exposures`)
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

func TestNobodyIsNotExposed(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t, pgtest.API)
	err := db.Expose(t.Context(), store.Exposure{Experiment: "likes", UserID: 1, Unit: "1", Assigned: "control", Served: "control"})
	if !errors.Is(err, problem.Unauthenticated) {
		t.Error(err)
	}
}

// An owner has no lock_timeout, so that nothing but the exposure's own time ends the wait.
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

// Windows come again: repeated, counted further, or late and counted less far. One batch may hold one twice.
func TestTheGreaterCountOfAWindowStays(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	edge, like := d.Open(t, pgtest.Ops), d.Open(t, pgtest.API)
	for _, n := range []int64{1, 2, 2, 1} {
		outcomes := []experiment.Outcomes{
			{Experiment: "likes", Arm: experiment.Control, Start: at, Requests: 10 * n, Errors: n},
			{Experiment: "likes", Arm: experiment.Control, Start: at, Requests: 10 * n, Errors: n},
			{Experiment: "likes", Arm: experiment.Treatment, Start: at, Requests: 5},
			{Experiment: "likes", Arm: experiment.Treatment, Start: at.Add(experiment.Window), Requests: 6},
		}
		if err := edge.RecordOutcomes(t.Context(), "edge-1", outcomes); err != nil {
			t.Fatal(err)
		}
		latencies := []experiment.Latencies{
			{Experiment: "likes", Arm: experiment.Control, Service: "like", Start: at, Buckets: []int64{0, n, 2 * n}},
			{Experiment: "likes", Arm: experiment.Control, Service: "tweet", Start: at, Buckets: []int64{7, 0, 0}},
		}
		if err := like.RecordLatencies(t.Context(), "like-1", latencies); err != nil {
			t.Fatal(err)
		}
	}
	if err := edge.RecordOutcomes(t.Context(), "edge-2", []experiment.Outcomes{{Experiment: "likes", Arm: experiment.Control, Start: at, Requests: 3}}); err != nil {
		t.Fatal(err)
	}
	if err := edge.RecordOutcomes(t.Context(), "edge-1", nil); err != nil {
		t.Error(err)
	}
	want := []string{"control 0 edge-1: 20, 2", "control 0 edge-2: 3, 0", "treatment 0 edge-1: 5, 0", "treatment 10 edge-1: 6, 0"}
	got := column(t, d, `
		select format('%s %s %s: %s, %s', arm, extract(epoch from start - $1)::int, pod, requests, errors)
		from outcomes
		order by arm, start, pod`, at)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	want = []string{"like {0,2,4}", "tweet {7,0,0}"}
	got = column(t, d, `select service || ' ' || buckets::text from latencies where pod = 'like-1' and start = $1 order by service`, at)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Functions write what they see and cannot take it back; the readout reads, and sweeps what an archived experiment leaves.
func TestWhoMayDoWhatWithAnExperiment(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	want := []string{
		"warble_api exposures: insert, select, update of crossed_at",
		"warble_api latencies: insert, select, update",
		"warble_ops experiment_transitions: insert, select, update",
		"warble_ops experiments: insert, select, update",
		"warble_ops exposures: delete, select",
		"warble_ops latencies: delete, select",
		"warble_ops outcomes: delete, insert, select, update",
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
		where relname in ('experiments', 'experiment_transitions', 'exposures', 'outcomes', 'latencies')
		group by role, relname
		order by 1`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
