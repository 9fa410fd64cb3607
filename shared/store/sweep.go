package store

import "context"

// sweepBatch is how many rows one statement deletes, at most, so that a sweep never locks many rows for long.
const sweepBatch = 1000

// SweepKeys deletes expired idempotency keys.
func (db *DB) SweepKeys(ctx context.Context) error {
	return db.sweep(ctx, `
		delete from idempotency_keys
		where ctid = any(array(
			select ctid
			from idempotency_keys
			where created_at < now() - interval '24 hours'
			limit $1
			for update skip locked))`)
}

// SweepAccounts deletes expired refresh tokens, sessions and mail requests, and failure counts and known networks that no longer matter.
func (db *DB) SweepAccounts(ctx context.Context) error {
	for _, sql := range []string{`
		delete from refresh_tokens
		where ctid = any(array(
			select ctid
			from refresh_tokens
			where expires_at < now()
				-- a revoked token stays until every token that was inserted during its revocation has expired
				and (revoked_at is null or revoked_at < now() - interval '31 days')
			limit $1
			for update skip locked))`, `
		delete from sessions
		where ctid = any(array(
			select ctid
			from sessions
			-- its last refresh token and its last access token have expired
			where last_used_at < now() - interval '31 days'
			limit $1
			for update skip locked))`, `
		delete from login_failures
		where ctid = any(array(
			select ctid
			from login_failures
			where last_at < now() - interval '1 hour'
			limit $1
			for update skip locked))`, `
		delete from known_networks
		where ctid = any(array(
			select ctid
			from known_networks
			where last_at < now() - interval '90 days'
			limit $1
			for update skip locked))`, `
		delete from mail_requests
		where ctid = any(array(
			select ctid
			from mail_requests
			-- the mail was sent at most a day later, and its token expired at most a day after that
			where created_at < now() - interval '3 days'
			limit $1
			for update skip locked))`,
	} {
		if err := db.sweep(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// SweepPeriods deletes the records that say which count periods of which edges were stored, once no edge can send them again.
func (db *DB) SweepPeriods(ctx context.Context) error {
	return db.sweep(ctx, `
		delete from windows_taken
		where ctid = any(array(
			select ctid
			from windows_taken
			where taken_at < now() - interval '3 hours'
			limit $1))`)
}

// sweep repeats a statement until it deletes less than a full batch.
func (db *DB) sweep(ctx context.Context, sql string) error {
	for ctx.Err() == nil {
		deleted, err := db.exec(ctx, sql, sweepBatch)
		if err != nil || deleted < sweepBatch {
			return err
		}
	}
	return ctx.Err()
}
