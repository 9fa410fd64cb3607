package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
	"warble/shared/problem"
)

// StartExperiment stores the start of an experiment. If the start is stored already, with the same salt, it changes only the UIDs
// of resource and namespace, because the cluster may have been rebuilt. Errors: problem.Conflict if another experiment of that name
// was started before, or if this one has ended.
func (db *DB) StartExperiment(ctx context.Context, s experiment.Start) error {
	spec, err := json.Marshal(s.Spec)
	if err != nil {
		return err
	}
	metrics, err := json.Marshal(append([]experiment.Metric{}, s.Metrics...)) // [] if there are none
	if err != nil {
		return err
	}
	series := make([]int64, 0, len(s.Metrics))
	for i := range s.Metrics {
		series = append(series, seriesOf(&s.Metrics[i]))
	}
	var kept bool
	err = db.one(ctx, `
		with kept as (
			insert into experiments as e (name, spec, salt, planned_units, started_at, uid, namespace, metrics, series)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			on conflict (name) do update
			set uid = excluded.uid, namespace = excluded.namespace
			where e.salt = excluded.salt and (e.uid in ('', excluded.uid) or e.namespace <> excluded.namespace)
				and not exists (select from experiment_transitions where experiment = $1 and phase in ('Concluded', 'Archived'))
			returning true
		)
		select exists (select from kept)`,
		[]any{s.Name, string(spec), s.Salt, s.PlannedUnits, s.At, s.UID, s.Namespace, string(metrics), series}, &kept)
	switch {
	case err != nil:
		return fmt.Errorf("start of experiment %s: %w", s.Name, err)
	case !kept:
		return problem.Conflict.Detail("an experiment %s has been started before, and its rows are in the database: expected another name", s.Name)
	}
	return nil
}

// pasts selects the columns of experiment.Past from experiments e. The caller appends a condition.
const pasts = `
	select e.name, e.salt, e.uid, e.namespace, e.planned_units, coalesce(t.phase, 'Draft'), coalesce(t.step, 0)
	from experiments e
	left join lateral (
		select phase, step
		from experiment_transitions
		where experiment = e.name
		order by at desc, id desc
		limit 1
	) t on true
	where `

func pastOf(row pgx.CollectableRow) (p experiment.Past, err error) {
	err = row.Scan(&p.Name, &p.Salt, &p.UID, &p.Namespace, &p.PlannedUnits, &p.Phase, &p.Step)
	return p, err
}

// StartedBefore returns what the database knows about the experiment of that name; nil if none was started.
func (db *DB) StartedBefore(ctx context.Context, name string) (*experiment.Past, error) {
	found, err := rows(ctx, db, pastOf, pasts+`e.name = $1`, name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// LiveExperiments returns the experiments of a namespace, given by its UID, that have started and not concluded.
func (db *DB) LiveExperiments(ctx context.Context, namespace string) ([]experiment.Past, error) {
	return rows(ctx, db, pastOf, pasts+`e.namespace = $1
			and not exists (select from experiment_transitions where experiment = e.name and phase in ('Concluded', 'Archived'))`, namespace)
}

// Suspension describes a suspension, not older than since, in which an edge has found the treatment at fault: the treatment
// fails, and the untouched Services do not. It returns "" if there is none.
func (db *DB) Suspension(ctx context.Context, name string, since time.Time) (why string, err error) {
	found, err := rows(ctx, db, func(row pgx.CollectableRow) (s experiment.Suspension, err error) {
		err = row.Scan(&s.Users, &s.Answers, &s.Errors, &s.Untouched, &s.UntouchedErrors)
		return s, err
	}, `
		select users, answers, errors, untouched, untouched_errors
		from suspensions
		where experiment = $1 and start >= $2 and verdict = 'treatment'
		order by start
		limit 1`, name, since)
	if err != nil || len(found) == 0 {
		return "", err
	}
	s := found[0]
	return fmt.Sprintf("the treatment fails: %d of its %d answers to %d users were errors; after that, %d of %d answers of the untouched to the same users were errors",
		s.Errors, s.Answers, s.Users, s.UntouchedErrors, s.Untouched), nil
}

// Transition stores a transition of an experiment and puts its event into the outbox. A second call with the same id changes
// nothing. Errors: problem.NotFound if the experiment was never started.
//
// The outbox is ordered by user, and this event belongs to none. It gets the user id 1, which nobody has, because ids begin with a time.
func (db *DB) Transition(ctx context.Context, name string, t experiment.Transition) error {
	figures := "{}"
	if len(t.Figures) > 0 {
		figures = string(t.Figures)
	}
	_, err := db.exec(ctx, `
		with kept as (
			insert into experiment_transitions (experiment, id, phase, step, percent, at, actor, reason, figures, conclusion)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			on conflict (experiment, id) do nothing
			returning *
		)
		insert into outbox (user_id, type, data)
		select 1, 'dev.warble.experiment.transitioned.v1',
			jsonb_build_object('id', experiment, 'transition', id, 'phase', phase, 'conclusion', conclusion, 'step', step, 'percent', percent, 'at', at, 'actor', actor, 'reason', reason)
		from kept`,
		name, t.ID, t.Phase, t.Step, t.Percent, t.At, t.Actor, t.Reason, figures, t.Conclusion)
	if violated(err) == "experiment_transitions_experiment_fkey" {
		err = problem.NotFound.Detail("no experiment %q has been started", name)
	}
	return err
}

// ArchiveExperiment deletes the rows of single users and of count periods. The start of the experiment and its transitions stay. If a call was
// interrupted, another one continues.
func (db *DB) ArchiveExperiment(ctx context.Context, name string, at time.Time) error {
	if _, err := db.exec(ctx, `
		update experiments
		set archived_at = $2
		where name = $1 and archived_at is null`,
		name, at); err != nil {
		return err
	}
	for _, table := range []string{"exposures", "guest_exposures", "windows", "buckets", "baselines", "windows_taken", "outcomes", "latencies", "suspensions"} {
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
