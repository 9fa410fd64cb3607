package store

import (
	"context"
	"encoding/json"
	"unique"

	"warble/shared/experiment"
)

// exposureShare is the part of a call's time that an exposure has, 500 ms: a database that hangs has the rest of the request
// wait as well, and the client for the sum of both.
const exposureShare = 3

// Exposure is a row of exposures.
type Exposure = experiment.Exposure

// Expose records that a user was exposed to an experiment, once per experiment and user; a process that has recorded it
// asks the database no more. The first row stays as it is, but for crossed_at: that is set when the user comes with
// another assigned arm than the row's, or is served by another arm. Being served by none is no crossing. It takes 500 ms
// at most. Errors: problem.Unauthenticated where there is no such user.
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

// userArm is what Expose remembers of an Exposure. Handles, for the strings are parts of a request's header, which would
// be kept with them.
type userArm struct {
	user                         int64
	experiment, assigned, served unique.Handle[string]
}

// RecordOutcomes keeps what one edge counted. A window that comes again, whole or as far as it had been counted, is the
// same row: counts only grow, and the greater one stays, whichever comes last. pod names the process that counted, for
// all processes that ever will.
func (db *DB) RecordOutcomes(ctx context.Context, pod string, windows []experiment.Outcomes) error {
	return db.record(ctx, `
		insert into outcomes as o (experiment, arm, start, pod, requests, errors)
		select experiment, arm, start, $1, max(requests), max(errors)
		from jsonb_to_recordset($2) as w (experiment text, arm text, start timestamptz, requests bigint, errors bigint)
		group by experiment, arm, start
		on conflict (experiment, start, arm, pod) do update
		set requests = greatest(o.requests, excluded.requests), errors = greatest(o.errors, excluded.errors)`,
		pod, windows, len(windows))
}

// RecordSuspensions keeps what the tripwire of one edge has seen, as RecordOutcomes does.
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

// RecordLatencies keeps what one process of a function counted, as RecordOutcomes does. Arrays compare by their first
// difference, and no bucket ever shrinks, so that of two counts of one window the greater array is the later one.
func (db *DB) RecordLatencies(ctx context.Context, pod string, windows []experiment.Latencies) error {
	return db.record(ctx, `
		insert into latencies as l (experiment, arm, start, service, pod, buckets)
		select experiment, arm, start, service, $1, max(buckets)
		from jsonb_to_recordset($2) as w (experiment text, arm text, start timestamptz, service text, buckets bigint[])
		group by experiment, arm, start, service
		on conflict (experiment, start, arm, service, pod) do update
		set buckets = greatest(l.buckets, excluded.buckets)`,
		pod, windows, len(windows))
}

// record runs a statement about windows, which reach it as JSON.
func (db *DB) record(ctx context.Context, sql, pod string, windows any, n int) error {
	if n == 0 {
		return nil
	}
	text, err := json.Marshal(windows)
	if err != nil {
		return err
	}
	_, err = db.exec(ctx, sql, pod, string(text))
	return err
}
