package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store"
	"warble/shared/store/migrations"
)

// The experiment of the benchmark: its users registered in spring, and entered over three weeks from 31 October 2026 on. Each user has ten
// tweets, in the two weeks before or the week after. Every fifth tweet is a retweet. Each user was active on ten days.
const readoutRows = `
	create function pg_temp.after(day float8) returns timestamptz language sql immutable
	return timestamptz '2026-10-31 00:00:00+00' + interval '1 day' * day;

	insert into users (id, username, name)
	select (n * 8::bigint) << 22, 'u' || n, 'User'
	from generate_series(1, %[1]d) n;

	insert into exposures (experiment, user_id, unit, assigned, served, revision, generation, first_at)
	select 'likes', id, id::text, arm, arm, 'like-00001', 1, pg_temp.after((id >> 22) * 7919 %% 1000003 / 1000003.0 * 21)
	from (select id, case when slot_of('pepper', id::text) < 5000 then 'control' else 'treatment' end as arm from users) u;

	insert into tweets (id, author_id, text, retweet_of)
	select id_at(first_at + interval '21 days' * (n - 6.5) / 10) + (user_id >> 25 & 4194303), user_id, case when n %% 5 > 0 then 'a tweet of the length that most tweets have' else '' end,
		case when n %% 5 = 0 then n end
	from exposures, generate_series(1, 10) n
	order by n, 1;

	insert into activity (user_id, day)
	select user_id, (first_at at time zone 'UTC')::date + 2 * n - 14
	from exposures, generate_series(1, 10) n;

	insert into feedback (id, user_id, score, text)
	select id_at(first_at + interval '1 day'), user_id, 1 + (user_id >> 25) %% 5, case when (user_id >> 25) %% 100 = 0 then 'fine' else '' end
	from exposures
	where (user_id >> 25) %% 10 = 0;

	insert into windows (experiment, step, service, arm, start, requests, errors, slow)
	select 'likes', 0, service, arm, pg_temp.after(0) + interval '10 seconds' * n, 1000, n %% 3, array[n %% 5]
	from generate_series(0, 30 * 8640 - 1) n, unnest(array['like', 'timeline']) service, unnest(array['control', 'treatment']) arm;

	insert into buckets (experiment, step, service, arm, bucket, requests, errors, slow)
	select 'likes', 0, service, arm, bucket, 7560000, 7560, array[15120]
	from unnest(array['like', 'timeline']) service, unnest(array['control', 'treatment']) arm, generate_series(0, 31) bucket;

	insert into latencies (experiment, arm, start, service, pod, buckets)
	select 'likes', arm, pg_temp.after(0) + interval '10 seconds' * n, 'like', 'like-1', array(select n * (b + 7) %% 97 from generate_series(1, %[2]d) b)
	from generate_series(0, 30 * 8640 - 1) n, unnest(array['control', 'treatment']) arm;

	insert into experiments (name, spec, salt, planned_units, started_at)
	values ('likes', '{
		"services": ["like"], "unit": "user", "ramp": {"steps": [50], "hold": {"time": "21d"}},
		"metrics": {"window": "7d", "primary": {"name": "tweets_per_user", "minimumEffect": "5%%"},
			"secondary": ["retweets_per_user", "active_days", "feedback_score"],
			"guardrails": [{"name": "error_share", "margin": "0.5pp"}, {"name": "slow_share", "over": "250ms", "margin": "1pp"}]}
	}', 'pepper', %[1]d, pg_temp.after(0));

	insert into experiment_transitions (experiment, id, phase, step, percent, at, actor, reason)
	values ('likes', '1', 'Running', 0, 50, pg_temp.after(0), 'bench', '');`

// readout measures the readout of an experiment with a million users (-readout), ten million tweets, and 30 days of count periods. The
// number of edges does not matter, because all edges add to the same rows.
func (b *bench) readout(ctx context.Context) ([]figure, error) {
	admin, err := pgx.Connect(ctx, b.postgres.Superuser("postgres"))
	if err != nil {
		return nil, err
	}
	defer admin.Close(ctx) //nolint:errcheck // nothing is pending on it
	if _, err := admin.Exec(ctx, `create database readout`); err != nil {
		return nil, err
	}
	if err := b.fillReadout(ctx); err != nil {
		return nil, err
	}
	db, err := store.Open(b.postgres.Superuser("readout")+"&random_page_cost=1.1", 4) // as every login, and kn experiment, has it
	if err != nil {
		return nil, err
	}
	defer db.Close()
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	var seconds, heaps []float64
	for range b.rounds {
		start := time.Now()
		r, err := readout.Read(ctx, db, "likes", now)
		if err != nil {
			return nil, err
		}
		seconds = append(seconds, time.Since(start).Seconds())
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		heaps = append(heaps, float64(memory.Sys)/(1<<20)) // of this process, the most it ever had
		if n := r.Units.Completed.Control + r.Units.Completed.Treatment; n != int64(b.exposed) || r.Verdict == readout.Withheld {
			return nil, fmt.Errorf("%d users completed of %d: %s", n, b.exposed, r.Sentence)
		}
	}
	name := fmt.Sprintf("readout of %d users, %d tweets and 30 days of count periods", b.exposed, 10*b.exposed)
	return []figure{
		atMost(10).figure(name, "s", seconds, nil),
		atMost(512).figure(name+", memory", "MiB", heaps, nil),
	}, nil
}

// fillReadout inserts the rows. It makes the indexes afterwards, because that is faster.
func (b *bench) fillReadout(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.postgres.Superuser("readout"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	if _, _, err := migrations.Apply(ctx, conn); err != nil {
		return err
	}
	rows, _ := conn.Query(ctx, `
		select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
		from pg_index i
		where i.indrelid in ('tweets'::regclass, 'feedback'::regclass) and not i.indisprimary`)
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Definition string }])
	if err != nil {
		return err
	}
	start := time.Now()
	for _, i := range indexes {
		if _, err := conn.Exec(ctx, "drop index "+i.Name); err != nil {
			return err
		}
	}
	// Foreign keys are not checked, because the check would take the most time, and the rows are right by construction.
	if _, err := conn.Exec(ctx, `set session_replication_role = replica`); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, readouttest.SlotOf); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf(readoutRows, b.exposed, len(experiment.LatencyBounds)+1)); err != nil {
		return err
	}
	for _, i := range indexes {
		if _, err := conn.Exec(ctx, i.Definition); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `vacuum analyze`); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d users and their tweets made in %s\n", b.exposed, time.Since(start).Round(time.Second))
	return nil
}
