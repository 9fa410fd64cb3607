package store

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"unique"

	"warble/shared/experiment"
)

// exposureShare says that recording an exposure may take a third of a call's time, 500 ms. If the database hangs, the rest of the
// request waits for it as well, and the client waits for both.
const exposureShare = 3

// Exposure is a row of exposures.
type Exposure = experiment.Exposure

// Expose records that a user was exposed to an experiment, once per experiment and user. A process that has recorded an exposure
// does not ask the database again. The first row does not change, except for crossed_at: it is set when the user comes with another
// assigned arm, or is served by another arm. Being served by no arm does not set it. Expose takes at most 500 ms. Errors:
// problem.Unauthenticated if the user does not exist.
func (db *DB) Expose(ctx context.Context, e Exposure) error {
	row := userArm{e.UserID, unique.Make(e.Experiment), unique.Make(e.Assigned), unique.Make(e.Served)}
	if db.exposed.has(row) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, db.timeout/exposureShare)
	defer cancel()
	if _, err := db.exec(ctx, `
		insert into exposures as e (experiment, user_id, unit, assigned, served, revision, generation)
		values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (experiment, user_id) do update
		set crossed_at = now()
		where e.crossed_at is null
			and (excluded.assigned <> e.assigned
				or excluded.served not in ('none', coalesce(nullif(e.served, 'none'), e.assigned)))`,
		e.Experiment, e.UserID, e.Unit, e.Assigned, e.Served, e.Revision, e.Generation); err != nil {
		if violated(err) == "exposures_user_id_fkey" {
			return noAccount()
		}
		return err
	}
	db.exposed.add(row)
	return nil
}

// RecordExposures records the exposures that an edge has seen at guests, each with its time. Recording one again changes nothing. As with
// Expose, the first row of a unit does not change, except for crossed_at. Exposures of users who do not exist any more are left out.
func (db *DB) RecordExposures(ctx context.Context, exposures []Exposure) error {
	for len(exposures) > 0 {
		var now, later []Exposure // now has at most one exposure of each unit
		seen := make(map[[2]string]bool)
		for _, e := range exposures {
			key := [2]string{e.Experiment, strconv.FormatInt(e.UserID, 10)}
			if e.UserID == 0 {
				key[1] = "unit " + e.Unit
			}
			if seen[key] {
				later = append(later, e)
			} else {
				now = append(now, e)
			}
			seen[key] = true
		}
		text, err := json.Marshal(now)
		if err != nil {
			return err
		}
		const crossed = `
			set crossed_at = excluded.first_at
			where e.crossed_at is null
				and (excluded.assigned <> e.assigned
					or excluded.served not in ('none', coalesce(nullif(e.served, 'none'), e.assigned)))`
		if _, err := db.exec(ctx, `
			with sent as (
				select *
				from jsonb_to_recordset($1) as s (experiment text, "userId" bigint, unit text, assigned text, served text, revision text,
					generation bigint, at timestamptz)
			),
			own as (
				insert into exposures as e (experiment, user_id, unit, assigned, served, revision, generation, first_at)
				select experiment, "userId", unit, assigned, served, revision, generation, at
				from sent
				where "userId" is not null and exists (select from users where id = "userId")
				order by experiment, "userId"
				on conflict (experiment, user_id) do update`+crossed+`
			)
			insert into guest_exposures as e (experiment, unit, assigned, served, revision, generation, first_at)
			select experiment, unit, assigned, served, revision, generation, at
			from sent
			where "userId" is null
			order by experiment, unit
			on conflict (experiment, unit) do update`+crossed, string(text)); err != nil {
			return err
		}
		exposures = later
	}
	return nil
}

// edgePods is the prefix of the pod name under which an edge records the latencies of guests, to tell them from those of an arm's own pods.
const edgePods = "edge/"

// guestLatencies returns the latencies of guests in an edge's counts. The steps of a period are added up.
func guestLatencies(counts []experiment.Outcomes) (periods []experiment.Latencies) {
	for _, o := range counts {
		if o.Latency == nil {
			continue
		}
		at := slices.IndexFunc(periods, func(w experiment.Latencies) bool {
			return w.Experiment == o.Experiment && w.Arm == o.Arm && w.Service == o.Service && w.Start.Equal(o.Start)
		})
		if at < 0 {
			at = len(periods)
			periods = append(periods, experiment.Latencies{Experiment: o.Experiment, Arm: o.Arm, Service: o.Service, Start: o.Start, Counts: make([]int64, len(o.Latency))})
		}
		for i, n := range o.Latency {
			periods[at].Counts[i] += n
		}
	}
	return periods
}

// userArm is what Expose remembers of an Exposure. It has handles and not strings, because the strings are parts of a request's
// header, which would stay in memory with them.
type userArm struct {
	user                         int64
	experiment, assigned, served unique.Handle[string]
}

// RecordOutcomes adds one edge's counts of one count period to the stored counts. The counts of a baseline are stored only by
// bucket. One call must have all counts of an experiment's period. A second call for the same period changes nothing. pod is
// a name that no other process ever has. The counts are written in one transaction, after another one for the latencies of
// guests. Rows are written in the order of their keys, so that two edges cannot deadlock.
func (db *DB) RecordOutcomes(ctx context.Context, pod string, counts []experiment.Outcomes) error {
	if err := db.RecordLatencies(ctx, edgePods+pod, guestLatencies(counts)); err != nil {
		return err
	}
	return db.record(ctx, `
		with sent as (
			select *
			from jsonb_to_recordset($2) as s (experiment text, step smallint, before boolean, service text, arm text, start timestamptz,
				requests bigint[], errors bigint[], slow bigint[])
		),
		taken as (
			insert into windows_taken (experiment, start, pod)
			select distinct experiment, start, $1
			from sent
			order by experiment, start
			on conflict do nothing
			returning experiment, start
		),
		fresh as (
			select
				s.*,
				coalesce(array_length(s.slow, 1), 0) as bounds
			from sent s
			join taken t on t.experiment = s.experiment and t.start = s.start
		),
		whole as (
			insert into windows as w (experiment, step, service, arm, start, requests, errors, active, slow)
			select experiment, step, service, arm, start,
				(select sum(n) from unnest(requests) n),
				(select sum(n) from unnest(errors) n),
				(select coalesce(bit_or(1::bigint << (nth - 1)::integer), 0) from unnest(requests) with ordinality as r (n, nth) where n > 0),
				array(
					select (select sum(n) from unnest(slow[bound:bound]) n)
					from generate_series(1, bounds) bound
					order by bound)
			from fresh
			where before is null
			order by experiment, step, service, arm
			on conflict (experiment, step, service, arm, start) do update
			set requests = w.requests + excluded.requests, errors = w.errors + excluded.errors, active = w.active | excluded.active, slow = `+addSlow("w")+`
		),
		spread as (
			select before, experiment, step, service, arm, nth - 1 as bucket, requests[nth] as requests, errors[nth] as errors,
				array(
					select slow[bound][nth]
					from generate_series(1, bounds) bound
					order by bound) as slow
			from fresh, generate_series(1, array_length(requests, 1)) nth
			where requests[nth] > 0
		),
		baseline as (`+addBuckets("baselines", "before")+`)
		`+addBuckets("buckets", "before is null"),
		pod, counts, len(counts))
}

// addBuckets returns the SQL that adds the counts by bucket for which a condition holds to a table.
func addBuckets(table, condition string) string {
	return `
		insert into ` + table + ` as b (experiment, step, service, arm, bucket, requests, errors, slow)
		select experiment, step, service, arm, bucket, requests, errors, slow
		from spread
		where ` + condition + `
		order by experiment, step, service, arm, bucket
		on conflict (experiment, step, service, arm, bucket) do update
		set requests = b.requests + excluded.requests, errors = b.errors + excluded.errors, slow = ` + addSlow("b")
}

// addSlow returns the SQL that adds the slow requests of a new row to those of the present row, bound by bound.
func addSlow(row string) string {
	return `array(
		select coalesce(there, 0) + coalesce(comes, 0)
		from unnest(` + row + `.slow, excluded.slow) with ordinality as n (there, comes, bound)
		order by bound)`
}

// RecordSuspensions records the suspensions of one edge. If a suspension comes again, its row gets the greater counts.
func (db *DB) RecordSuspensions(ctx context.Context, pod string, suspensions []experiment.Suspension) error {
	return db.record(ctx, `
		insert into suspensions as s (experiment, pod, start, users, answers, errors, untouched, untouched_errors, verdict)
		select experiment, $1, start, max(users), max(answers), max(errors), max(untouched), max("untouchedErrors"), max(verdict)
		from jsonb_to_recordset($2) as w (experiment text, start timestamptz, users bigint, answers bigint, errors bigint,
			untouched bigint, "untouchedErrors" bigint, verdict text)
		group by experiment, start
		on conflict (experiment, pod, start) do update
		set untouched = greatest(s.untouched, excluded.untouched), untouched_errors = greatest(s.untouched_errors, excluded.untouched_errors),
			verdict = coalesce(nullif(excluded.verdict, ''), s.verdict)`,
		pod, suspensions, len(suspensions))
}

// RecordLatencies records the latencies that one process of a function has counted. If a period comes again, complete or not,
// its row keeps the greater counts, in any order of arrival. Arrays compare by their first difference, and counts only grow,
// so the greater of two arrays of one period is the later one.
func (db *DB) RecordLatencies(ctx context.Context, pod string, periods []experiment.Latencies) error {
	return db.record(ctx, `
		insert into latencies as l (experiment, arm, start, service, pod, buckets)
		select experiment, arm, start, service, $1, max(buckets)
		from jsonb_to_recordset($2) as w (experiment text, arm text, start timestamptz, service text, buckets bigint[])
		group by experiment, arm, start, service
		on conflict (experiment, start, arm, service, pod) do update
		set buckets = greatest(l.buckets, excluded.buckets)`,
		pod, periods, len(periods))
}

// record runs a statement that gets counts as JSON. n is their number; with 0 it does nothing.
func (db *DB) record(ctx context.Context, sql, pod string, periods any, n int) error {
	if n == 0 {
		return nil
	}
	text, err := json.Marshal(periods)
	if err != nil {
		return err
	}
	_, err = db.exec(ctx, sql, pod, string(text))
	return err
}
