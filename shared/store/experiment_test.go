package store_test

import (
	"errors"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/store/pgtest"
)

func TestAStartAndEachTransitionAreStoredOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	likes := experiment.Start{Name: "likes", Spec: experiment.Spec{Services: []string{"like"}}, Salt: "s", PlannedUnits: 5000, At: at}
	step := experiment.Transition{ID: "running-0", Phase: "Running", Percent: 10, At: at, Actor: "ada", Reason: "every arm answers"}
	if err := db.Transition(t.Context(), "likes", step); !errors.Is(err, problem.NotFound) {
		t.Errorf("a step of nothing: %v", err)
	}
	for range 2 {
		if err := db.StartExperiment(t.Context(), likes); err != nil {
			t.Fatal(err)
		}
		if err := db.Transition(t.Context(), "likes", step); err != nil {
			t.Fatal(err)
		}
		step.Reason = "said again"
	}
	if got := query[string](t, d, `select concat_ws(' ', name, spec ->> 'services', salt, planned_units, started_at at time zone 'UTC') from experiments`); got != `likes ["like"] s 5000 2026-11-24 12:00:00` {
		t.Errorf("kept %s", got)
	}
	if got := query[string](t, d, `select concat_ws(' ', id, phase, step, percent, actor, reason, figures) from experiment_transitions`); got != "running-0 Running 0 10 ada every arm answers {}" {
		t.Errorf("kept %s", got)
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.experiment.transitioned.v1' and data ->> 'reason' = 'every arm answers'`); n != 1 {
		t.Errorf("%d events of one step", n)
	}

	other := likes
	other.Salt = "t"
	if err := db.StartExperiment(t.Context(), other); !errors.Is(err, problem.Conflict) {
		t.Errorf("another of that name: %v", err)
	}
	end := experiment.Transition{ID: "concluded", Phase: "Concluded", At: at, Actor: "steer", Reason: "x", Figures: []byte(`{"units": 3}`)}
	if err := db.Transition(t.Context(), "likes", end); err != nil {
		t.Fatal(err)
	}
	if err := db.StartExperiment(t.Context(), likes); !errors.Is(err, problem.Conflict) {
		t.Errorf("one that has ended: %v", err)
	}
}

func TestArchivingDeletesTheRowsOfUsersAndCountPeriods(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	user(t, d, "ada", "")
	for _, name := range []string{"likes", "other"} {
		if err := db.StartExperiment(t.Context(), experiment.Start{Name: name, Salt: "s", PlannedUnits: 0, At: at}); err != nil {
			t.Fatal(err)
		}
		exec(t, d, `insert into exposures (experiment, user_id, unit, assigned, served, revision, generation) select $1, id, 'x', 'control', 'control', 'r', 1 from users`, name)
		exec(t, d, `insert into windows select $1, 0, 'like', 'control', now() + make_interval(secs => n), 1, 0, 1, '{}' from generate_series(1, 2500) n`, name)
		exec(t, d, `insert into buckets select $1, 0, 'like', 'control', n, 1, 0, '{}' from generate_series(0, 31) n`, name)
		exec(t, d, `insert into baselines select $1, 0, 'like', 'control', n, 1, 0, '{}' from generate_series(0, 31) n`, name)
		exec(t, d, `insert into windows_taken select $1, now(), 'pod'`, name)
		exec(t, d, `insert into outcomes select $1, 'control', now(), 'pod', 1, 0`, name)
		exec(t, d, `insert into latencies select $1, 'control', now(), 'like', 'pod', '{1}'`, name)
	}
	for range 2 {
		if err := db.ArchiveExperiment(t.Context(), "likes", at); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Hour)
	}
	const left = `select concat_ws(' ', (select count(*) from exposures where experiment = $1), (select count(*) from windows where experiment = $1),
		(select count(*) from buckets where experiment = $1), (select count(*) from baselines where experiment = $1), (select count(*) from windows_taken where experiment = $1), (select count(*) from outcomes where experiment = $1),
		(select count(*) from latencies where experiment = $1), (select archived_at at time zone 'UTC' from experiments where name = $1))`
	if got := query[string](t, d, left, "likes"); got != "0 0 0 0 0 0 0 2026-11-24 12:00:00" {
		t.Errorf("of the archived one %s", got)
	}
	if got := query[string](t, d, left, "other"); got != "1 2500 32 32 1 1 1" {
		t.Errorf("of another %s", got)
	}
}
