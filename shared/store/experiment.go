package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"warble/shared/experiment"
	"warble/shared/problem"
)

// StartExperiment keeps what an experiment is started as. A second time, with the same salt, it changes nothing. Errors:
// problem.Conflict where another of that name has been started before, or this one has come to its end.
func (db *DB) StartExperiment(ctx context.Context, s experiment.Start) error {
	spec, err := json.Marshal(s.Spec)
	if err != nil {
		return err
	}
	var salt string
	var ended bool
	err = db.one(ctx, `
		with started as (
			insert into experiments (name, spec, salt, planned_units, started_at)
			values ($1, $2, $3, $4, $5)
			on conflict (name) do nothing
			returning salt
		)
		select
			coalesce((select salt from started), (select salt from experiments where name = $1), ''),
			exists (select from experiment_transitions where experiment = $1 and phase in ('Concluded', 'Archived'))`,
		[]any{s.Name, string(spec), s.Salt, s.PlannedUnits, s.At}, &salt, &ended)
	switch {
	case err != nil:
		return fmt.Errorf("start of experiment %s: %w", s.Name, err)
	case salt == "": // another has just started it, after this statement's view of the table
		return problem.Unavailable.Detail("experiment %s is being started", s.Name)
	case salt != s.Salt || ended:
		return problem.Conflict.Detail("an experiment %s has been started before: expected another name, for its rows are that one's", s.Name)
	}
	return nil
}

// Transition keeps a step of an experiment's life and puts its event into the outbox, once by the step's id: a second time
// it changes nothing. Errors: problem.NotFound where the experiment was never started.
//
// The event is nobody's, and the outbox is ordered by user: 1 is no user's id, for those begin with their time.
func (db *DB) Transition(ctx context.Context, name string, t experiment.Transition) error {
	figures := "{}"
	if len(t.Figures) > 0 {
		figures = string(t.Figures)
	}
	_, err := db.exec(ctx, `
		with kept as (
			insert into experiment_transitions (experiment, id, phase, step, percent, at, actor, reason, figures)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			on conflict (experiment, id) do nothing
			returning *
		)
		insert into outbox (user_id, type, data)
		select 1, 'dev.warble.experiment.transitioned.v1',
			jsonb_build_object('id', experiment, 'transition', id, 'phase', phase, 'step', step, 'percent', percent, 'at', at, 'actor', actor, 'reason', reason)
		from kept`,
		name, t.ID, t.Phase, t.Step, t.Percent, t.At, t.Actor, t.Reason, figures)
	if violated(err) == "experiment_transitions_experiment_fkey" {
		err = problem.NotFound.Detail("no experiment %q has been started", name)
	}
	return err
}

// ArchiveExperiment sweeps the rows of single users and windows: what is left is what the experiment was, and each step
// of its life. A second time it goes on where the first was cut off.
func (db *DB) ArchiveExperiment(ctx context.Context, name string, at time.Time) error {
	if _, err := db.exec(ctx, `
		update experiments
		set archived_at = $2
		where name = $1 and archived_at is null`,
		name, at); err != nil {
		return err
	}
	for _, table := range []string{"exposures", "outcomes", "latencies"} {
		deleted := int64(sweepBatch)
		for deleted == sweepBatch && ctx.Err() == nil {
			var err error
			if deleted, err = db.exec(ctx, `
				delete from `+table+`
				where ctid = any(array(
					select ctid
					from `+table+`
					where experiment = $1
					limit $2))`,
				name, sweepBatch); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
