package store

import "context"

// sweepBatch bounds what one statement deletes, so that a sweep never holds many rows for long.
const sweepBatch = 1000

// SweepKeys deletes idempotency keys that no longer count.
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

// SweepAccounts deletes refresh tokens, sessions and requests of mail that expired, and failure counts and known networks that
// no longer matter.
func (db *DB) SweepAccounts(ctx context.Context) error {
	for _, sql := range []string{`
		delete from refresh_tokens
		where ctid = any(array(
			select ctid
			from refresh_tokens
			where expires_at < now()
				-- the mark of a revocation outlives every token that was rotated at the same instant
				and (revoked_at is null or revoked_at < now() - interval '31 days')
			limit $1
			for update skip locked))`, `
		delete from sessions
		where ctid = any(array(
			select ctid
			from sessions
			-- its last refresh token expired, and so did its last access token
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
			-- sent a day after that at the latest, and its token expired another day later
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

// SweepWindows forgets which windows were taken, once no edge sends them any more.
func (db *DB) SweepWindows(ctx context.Context) error {
	return db.sweep(ctx, `
		delete from windows_taken
		where ctid = any(array(
			select ctid
			from windows_taken
			where taken_at < now() - interval '3 hours'
			limit $1))`)
}

// sweep repeats a statement until a batch is not full.
func (db *DB) sweep(ctx context.Context, sql string) error {
	for ctx.Err() == nil {
		deleted, err := db.exec(ctx, sql, sweepBatch)
		if err != nil || deleted < sweepBatch {
			return err
		}
	}
	return ctx.Err()
}
