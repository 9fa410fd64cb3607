package store

import (
	"context"
	"errors"
	"time"

	"warble/shared/problem"
)

// NewAccount is an account to be, with its first session.
type NewAccount struct {
	Email        string // ASCII; compared as Fold has it
	PasswordHash string
	Username     string
	Name         string
	Community    string // slug; empty for none
	RefreshHash  []byte // of the first refresh token
	From         Client // its network is known to the account from then on
	Traceparent  string
}

// ErrUsernameTaken is the cause of a conflict about the username, for whom it was not the client that chose it.
var ErrUsernameTaken = errors.New("username is taken")

// Opened is a session that began, and whose it is.
type Opened struct {
	Session int64 // the number that Author has
	User    User
}

// CreateAccount writes the user, the credentials, the session, the request of mail and the events in one statement. Errors:
// problem.Conflict naming email or username, problem.Invalid naming a community that is not there.
func (db *DB) CreateAccount(ctx context.Context, a NewAccount) (Opened, error) {
	var o Opened
	u := &o.User
	err := db.one(ctx, `
		with u as (
			insert into users (username, name, community)
			values ($1, $2, nullif($3::text, ''))
			returning id, username, name, community, created_at
		),
		credential as (
			insert into credentials (user_id, email, password_hash)
			select id, $4, $5
			from u
		),
		session as (
			insert into sessions (id, user_id, network, user_agent)
			select next_id(), id, $8, $10
			from u
			returning id, user_id
		),
		refresh as (
			insert into refresh_tokens (token_hash, family, user_id, expires_at)
			select $6, id, user_id, now() + `+refreshLife+`
			from session
		),
		known as (
			insert into known_networks (account, network)
			values ($7, $8)
			on conflict do nothing
		),
		event as (
			insert into outbox (user_id, type, data, traceparent)
			select id, 'dev.warble.user.registered.v1',
				jsonb_build_object('id', id::text, 'username', username, 'name', name, 'community', community, 'created_at', created_at),
				nullif($9::text, '')
			from u
		),
		request as (
			insert into mail_requests (kind, address, user_id)
			select 'verify', $7, id
			from u
			returning id
		),`+mailEvent("$9")+`
		select `+userColumns+`, session.id
		from u, session`,
		[]any{a.Username, a.Name, a.Community, a.Email, a.PasswordHash, a.RefreshHash, account(a.Email), a.From.Network, a.Traceparent, a.From.UserAgent},
		&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt, &o.Session)
	switch violated(err) {
	case "users_username":
		err = problem.Conflict.Field("username", "the username %s is taken", a.Username).Because(ErrUsernameTaken)
	case "credentials_email":
		err = problem.Conflict.Field("email", "an account with this email address exists")
	case "users_community_fkey":
		err = problem.Invalid.Field("community", "there is no community %s", a.Community)
	}
	return o, err
}

// Credentials are what a user logs in with, and when that last changed.
type Credentials struct {
	Email     string
	Verified  bool // mail to the address has reached its owner
	UpdatedAt time.Time
}

// Credentials returns those of a user. Errors: problem.Unauthenticated where there is no such account.
func (db *DB) Credentials(ctx context.Context, userID int64) (c Credentials, err error) {
	err = db.one(ctx, `
		select email, verified_at is not null, updated_at
		from credentials
		where user_id = $1`,
		[]any{userID}, &c.Email, &c.Verified, &c.UpdatedAt)
	if errors.Is(err, problem.NotFound) {
		err = noAccount()
	}
	return c, err
}

// ChangePassword replaces the password's hash, after an attempt that was right, and ends all sessions but the author's own.
// It forgets the failures from the attempt's network, and no mail that resets the password counts any more. Errors: problem.Forbidden where the password was changed meanwhile.
func (db *DB) ChangePassword(ctx context.Context, author Author, l LoginAttempt, hash string) error {
	var changed bool
	err := db.one(ctx, endSessions(`id <> $2 and exists (select from credentials where user_id = $1 and password_hash = $3)`)+`,
		changed as (
			update credentials
			set password_hash = $4, updated_at = now()
			where user_id = $1 and password_hash = $3 and check_author($1, $2)
			returning 1
		),
		forgotten as (
			delete from login_failures
			where account = $5 and network = $6
		),
		mails as (
			update mail_requests
			set used_at = now()
			where user_id = $1 and kind = 'reset' and used_at is null and exists (select from changed)
		)
		select exists (select from changed)`,
		[]any{author.ID, author.Session, l.PasswordHash, hash, l.account, l.from.Network}, &changed)
	if err == nil && !changed {
		err = problem.Forbidden.Detail("the password was changed meanwhile")
	}
	return err
}
