package store

import (
	"context"
	"errors"

	"warble/shared/problem"
)

// NewAccount is an account to be, with its first session.
type NewAccount struct {
	Email        string // ASCII; compared without case
	PasswordHash string
	Username     string
	Name         string
	Community    string // slug; empty for none
	RefreshHash  []byte // of the first refresh token
	Network      string // registered from, and so known to the account
	Traceparent  string
}

// ErrUsernameTaken is the cause of a conflict about the username, for whom it was not the client that chose it.
var ErrUsernameTaken = errors.New("username is taken")

// CreateAccount writes the user, the credentials, the session and the event in one statement. Errors:
// problem.Conflict naming email or username, problem.Invalid naming a community that is not there.
func (db *DB) CreateAccount(ctx context.Context, a NewAccount) (User, error) {
	var u User
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
			insert into refresh_tokens (token_hash, family, user_id, expires_at)
			select $6, next_id(), id, now() + `+refreshLife+`
			from u
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
		)
		select `+userColumns+`
		from u`,
		[]any{a.Username, a.Name, a.Community, a.Email, a.PasswordHash, a.RefreshHash, account(a.Email), a.Network, a.Traceparent},
		&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt)
	switch violated(err) {
	case "users_username":
		err = problem.Conflict.Field("username", "the username %s is taken", a.Username).Because(ErrUsernameTaken)
	case "credentials_email":
		err = problem.Conflict.Field("email", "an account with this email address exists")
	case "users_community_fkey":
		err = problem.Invalid.Field("community", "there is no community %s", a.Community)
	}
	return u, err
}
