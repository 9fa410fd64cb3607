package store

import (
	"context"
	"errors"

	"warble/shared/problem"
	"warble/shared/telemetry"
)

// hide has the CTEs of a statement that deletes accounts. The statement must have these accounts in a CTE called gone. The CTEs
// immediately delete what belongs only to these accounts and is not counted by metrics.
const hide = `
		deletion as (
			insert into deletions (user_id)
			select id
			from gone
		),
		retired as (
			insert into retired_usernames (hash)
			select username_hash(username)
			from gone
		),
		credential as (
			delete from credentials
			where user_id in (select id from gone)
			returning address_hash(email) as address
		),
		failures as (
			delete from login_failures
			where account in (select address from credential)
		),
		networks as (
			delete from known_networks
			where account in (select address from credential)
		),
		mails as (
			delete from mail_requests
			where id in (
				select id
				from mail_requests
				where address in (select address from credential)
				union
				select id
				from mail_requests
				where user_id in (select id from gone))
		),
		ended as (
			update sessions
			set revoked_at = now()
			where user_id in (select id from gone) and revoked_at is null
		)`

// DeleteAccount hides an account immediately: nobody can log in to it, its sessions end, and neither the user nor what they wrote
// can be found. FinishDeletions deletes the rest later. Errors: problem.Unauthenticated if the author may not write, or is deleted
// already.
func (db *DB) DeleteAccount(ctx context.Context, author Author) error {
	var id int64
	err := db.one(ctx, `
		with gone as (
			update users
			set deleted_at = now()
			where id = $1 and check_author($1, $2)
			returning id, username, deleted_at
		),`+hide+`,
		event as (
			insert into outbox (user_id, type, data, traceparent)
			select id, 'dev.warble.user.deleted.v1', jsonb_build_object('id', id::text, 'deleted_at', deleted_at), nullif($3::text, '')
			from gone
		)
		select id
		from gone`,
		[]any{author.ID, author.Session, telemetry.Traceparent(ctx)}, &id)
	if errors.Is(err, problem.NotFound) {
		err = noAccount()
	}
	return err
}

// DeleteAgain hides accounts again that were deleted before and came back with a restored database. It returns how many it found.
// It publishes no events, because the subscribers have them. It needs the owner's rights.
func DeleteAgain(ctx context.Context, conn *Conn, ids []int64) (deleted int64, err error) {
	err = conn.QueryRow(ctx, `
		with gone as (
			update users
			set deleted_at = now()
			where id = any($1) and deleted_at is null
			returning id, username
		),`+hide+`
		select count(*)
		from gone`, ids).Scan(&deleted)
	return deleted, err
}

// deletionBatch is how many rows of each kind one call of finish_deletion changes, at most.
const deletionBatch = 1000

// FinishDeletions removes what is left of accounts that were deleted at least a minute ago. By then, every write that began
// before the deletion has ended. See finish_deletion in migration 018 for what is removed and what stays. FinishDeletions may
// be interrupted, and several calls may run at the same time.
func (db *DB) FinishDeletions(ctx context.Context) error {
	for ctx.Err() == nil {
		var more bool
		err := db.one(ctx, `
			select finish_deletion(user_id, $1)
			from (
				select user_id
				from deletions
				where finished_at is null and requested_at < now() - interval '1 minute'
				order by requested_at
				limit 1
				for update skip locked
			) due`,
			[]any{deletionBatch}, &more)
		if errors.Is(err, problem.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
