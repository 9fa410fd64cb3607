package store

import (
	"context"
	"crypto/sha256"
	"time"

	"warble/shared/problem"
)

// Failed logins slow down further attempts, and never lock anybody out. There are two counts. The first counts failures in a row
// for one account from one network: from the fifth on, the next attempt has to wait 15 s, then 30 s, and so on up to 15 min. The
// second counts failures for one account from everywhere within an hour: from the hundredth on, networks from which the account has
// never logged in have to wait in the same way. An attempt that has to wait is not counted. An account is the hash of an email
// address, even if nobody has the address.

// slowedUntil is when the next attempt may be made, by the count f.
const slowedUntil = `
	case
		when f.network <> '' and f.failures >= 5
		then f.last_at + least(interval '15 min', interval '15 s' * power(2, least(f.failures - 5, 6)))
		when f.network = '' and f.failures >= 100 and f.first_at > now() - interval '1 hour'
		then f.last_at + least(interval '15 min', interval '15 s' * power(2, least(f.failures - 100, 6)))
		else now()
	end`

// slowedFor selects how many seconds an attempt for the account $1 from the network $2 has to wait; at most 0 if it does not have to.
const slowedFor = `
	select coalesce(extract(epoch from max(` + slowedUntil + `) - now()), 0)::float8
	from login_failures f
	where f.account = $1
		and (f.network = $2
			or f.network = '' and not exists (select from known_networks k where k.account = $1 and k.network = $2))`

// unhurried belongs in the last FROM clause of a statement. With it, the commit does not wait for the disk. If the database's
// machine crashes within the next second, a count or a session is lost, which costs one more login. Waiting for the disk
// would cost every login about 5 ms.
const unhurried = `(select set_config('synchronous_commit', 'off', true)) as unhurried`

// LoginAttempt is an attempt to log in.
type LoginAttempt struct {
	User         User   // zero if nobody has the email address
	PasswordHash string // empty if nobody has the email address

	account []byte
	from    Client
}

// accountHash returns the hash of an email address, by which failures are counted.
func accountHash(email string) []byte {
	hash := sha256.Sum256([]byte(Fold(email)))
	return hash[:]
}

// tooManyFailures returns the problem for an attempt that has to wait.
func tooManyFailures(seconds float64) error {
	return problem.TooMany.Detail("Too many failed logins for this account; wait before the next one.").
		After(time.Duration(seconds * float64(time.Second)))
}

// BeginLogin finds the account of an email address. If nobody has the address, the attempt has no user and no hash. Errors:
// problem.TooMany, with the time to wait, after too many failures.
func (db *DB) BeginLogin(ctx context.Context, email string, from Client) (LoginAttempt, error) {
	l := LoginAttempt{account: accountHash(email), from: from}
	var wait float64
	err := db.one(ctx, `
		select
			(`+slowedFor+`),
			coalesce(c.password_hash, ''),
			coalesce(u.id, 0),
			coalesce(u.username, ''),
			coalesce(u.name, ''),
			coalesce(u.community, ''),
			coalesce(u.created_at, now())
		from (values (1)) as always
		left join (credentials c join users u on u.id = c.user_id and u.deleted_at is null) on lower(c.email) = $3`,
		[]any{l.account, from.Network, Fold(email)},
		&wait, &l.PasswordHash, &l.User.ID, &l.User.Username, &l.User.Name, &l.User.Community, &l.User.CreatedAt)
	if err == nil && wait > 0 {
		err = tooManyFailures(wait)
	}
	return l, err
}

// FailLogin counts a wrong password. Errors: problem.TooMany if others have failed meanwhile and this attempt should have waited.
// So many attempts at the same time can try no more passwords than a few attempts in a row.
func (db *DB) FailLogin(ctx context.Context, l LoginAttempt) error {
	var counted bool
	err := db.one(ctx, `
		with counted as (
			insert into login_failures as f (account, network, failures)
			values ($1, $2, 1), ($1, '', 1)
			on conflict (account, network) do update
			set
				failures = case when f.network = '' and f.first_at <= now() - interval '1 hour' then 1 else f.failures + 1 end,
				first_at = case when f.network = '' and f.first_at <= now() - interval '1 hour' then now() else f.first_at end,
				last_at = now()
			where `+slowedUntil+` <= now()
			returning network
		)
		select exists (select from counted where network = $2)
		from `+unhurried,
		[]any{l.account, l.from.Network}, &counted)
	if err != nil || counted {
		return err
	}
	var wait float64
	if err := db.one(ctx, slowedFor, []any{l.account, l.from.Network}, &wait); err != nil {
		return err
	}
	return tooManyFailures(wait)
}

// FinishLogin begins a session after a right password, and returns its number. It forgets the failures from this network, and makes
// it a known network. If rehashed is not empty, it replaces the password's hash. Errors: problem.TooMany if others have failed
// meanwhile and this attempt should have waited; problem.Unavailable if the password was changed meanwhile. A change ends all
// sessions, and another try shows whether this password is still right.
func (db *DB) FinishLogin(ctx context.Context, l LoginAttempt, refreshHash []byte, rehashed string) (session int64, err error) {
	var wait float64
	err = db.one(ctx, `
		with slowed (seconds) as materialized (`+slowedFor+`
		),
		admitted as (
			select from slowed where seconds <= 0
		),
		forgotten as (
			delete from login_failures
			where account = $1 and network = $2 and exists (select from admitted)
		),
		known as (
			insert into known_networks as k (account, network)
			select $1, $2
			from admitted
			on conflict (account, network) do update
			set last_at = now()
			where k.last_at < now() - interval '1 day'
		),
		rehashed as (
			update credentials
			set password_hash = $6, updated_at = now()
			where user_id = $3 and password_hash = $5 and $6 <> '' and exists (select from admitted)
		),
		session as (
			insert into sessions (id, user_id, network, user_agent)
			select next_id(), $3, $2, $7
			from admitted
			where exists (select from credentials where user_id = $3 and password_hash = $5)
			returning id, user_id
		),
		refresh as (
			insert into refresh_tokens (token_hash, family, user_id, expires_at)
			select $4, id, user_id, now() + `+refreshLife+`
			from session
		)
		select seconds, coalesce((select id from session), 0)
		from slowed, `+unhurried,
		[]any{l.account, l.from.Network, l.User.ID, refreshHash, l.PasswordHash, rehashed, l.from.UserAgent}, &wait, &session)
	switch {
	case err != nil:
	case wait > 0:
		err = tooManyFailures(wait)
	case session == 0:
		err = problem.Unavailable.Detail("the password was changed meanwhile")
	}
	return session, err
}
