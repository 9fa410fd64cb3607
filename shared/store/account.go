package store

import (
	"context"
	"errors"
	"time"

	"warble/shared/problem"
)

// NewAccount is an account to create, with its first session.
type NewAccount struct {
	Email        string // ASCII; compared after Fold
	PasswordHash string
	Username     string
	Name         string
	Community    string // slug; empty for none
	RefreshHash  []byte // of the first refresh token
	From         Client // its network becomes a known network of the account
	Traceparent  string
}

// ErrUsernameTaken is the cause of a conflict about the username. It is for callers that have chosen the username themselves.
var ErrUsernameTaken = errors.New("username is taken")

// Opened is a new session with its user.
type Opened struct {
	Session int64 // for Author.Session
	User    User
}

// CreateAccount writes the user, the credentials, the session, the mail request and the events in one statement. Errors:
// problem.Conflict that names email or username, problem.Invalid that names a community that does not exist.
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
		[]any{a.Username, a.Name, a.Community, a.Email, a.PasswordHash, a.RefreshHash, accountHash(a.Email), a.From.Network, a.Traceparent, a.From.UserAgent},
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

// Credentials has the email address with which a user logs in, and when email or password last changed.
type Credentials struct {
	Email     string
	Verified  bool // whether mail to the address has reached its owner
	UpdatedAt time.Time
}

// Credentials returns the credentials of a user. Errors: problem.Unauthenticated if the account does not exist.
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

// ChangePassword replaces the password's hash after a login attempt with the right password. It ends all sessions except the
// author's, forgets the failed logins from the attempt's network, and invalidates all mails that reset the password. Errors:
// problem.Forbidden if the password was changed meanwhile.
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
