package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/problem"
)

// A session is a family of refresh tokens. Each token is used once, to get the next one. Two tabs, or a client that lost the
// answer, may use a token twice within seconds, and get the same successor. If a token is used again later, or after its successor
// was used, two parties have it. Nobody can tell which of them is the thief, so the whole family is revoked.

// refreshLife is how long a refresh token is valid if it is not used.
const refreshLife = `interval '30 days'`

// refreshGrace is how long after its use a refresh token still gets its successor, by the database's clock.
const refreshGrace = `interval '10 s'`

// Client is where a request comes from, as the list of sessions shows it to the user.
type Client struct{ Network, UserAgent string }

// Renewal is the result of using a refresh token.
type Renewal struct {
	Opened

	Successor int // the index of the successor that replaces the token
}

// RotateRefresh uses a refresh token, and replaces it by the first of successors. These are hashes that are derived from the token.
// If the token was used before, at most 10 s ago, its successor may be another of the successors. Errors:
// problem.Unauthenticated if the token is unknown, expired or revoked. If it was used longer ago, or if its successor was
// used, the error is the same, and the family is revoked.
func (db *DB) RotateRefresh(ctx context.Context, from Client, usedHash []byte, successors ...[]byte) (Renewal, error) {
	var r Renewal
	u := &r.User
	// If two requests use a token at the same time, the second waits for the first one's row and then finds the token used. A token that is
	// inserted while its family is revoked may be missed by the revocation. Therefore ended also reads the other tokens of the family.
	err := db.one(ctx, `
		with used as (
			update refresh_tokens t
			set used_at = now()
			where token_hash = $1
				and used_at is null
				and revoked_at is null
				and expires_at > now()
				and not exists (`+ended+`)
			returning family, user_id
		),
		next as (
			insert into refresh_tokens (token_hash, family, user_id, expires_at)
			select $2, family, user_id, now() + `+refreshLife+`
			from used
		),
		session as (
			insert into sessions (id, user_id, network, user_agent)
			select family, user_id, $3, $4
			from used
			on conflict (id) do update
			set last_used_at = now(), network = excluded.network, user_agent = excluded.user_agent
		)
		select `+userColumns+`, used.family
		from used
		join users u on u.id = used.user_id`,
		[]any{usedHash, successors[0], from.Network, from.UserAgent},
		&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt, &r.Session)
	if !errors.Is(err, problem.NotFound) {
		return r, err
	}
	// A separate statement, because its snapshot must have what the first of two simultaneous requests wrote.
	err = db.one(ctx, `
		select `+userColumns+`, next.family, array_position($2::bytea[], next.token_hash) - 1
		from refresh_tokens t
		join refresh_tokens next on next.family = t.family and next.token_hash = any($2)
		join users u on u.id = t.user_id
		where t.token_hash = $1
			and t.used_at > now() - `+refreshGrace+`
			and next.used_at is null
			and not exists (`+ended+`)`,
		[]any{usedHash, successors},
		&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt, &r.Session, &r.Successor)
	if !errors.Is(err, problem.NotFound) {
		return r, err
	}
	if err := db.revokeFamily(ctx, usedHash, `used_at is not null`); err != nil {
		return Renewal{}, err
	}
	return Renewal{}, problem.Unauthenticated.Detail("The refresh token is not valid.")
}

// ended selects a row if the session of the token t was ended, or its account was deleted. It reads tokens as well, because the
// previous release marks only tokens.
const ended = `
	select from sessions where id = t.family and revoked_at is not null
	union all
	select from refresh_tokens relative where relative.family = t.family and relative.revoked_at is not null
	union all
	select from users where id = t.user_id and deleted_at is not null`

// EndSession revokes the family of a refresh token. An unknown token is no error.
func (db *DB) EndSession(ctx context.Context, hash []byte) error {
	return db.revokeFamily(ctx, hash, `true`)
}

// Session is a session as its user sees it.
type Session struct {
	ID         int64
	CreatedAt  time.Time
	LastUsedAt time.Time // when its tokens were last renewed
	From       Client
}

// Sessions lists the sessions of a user that can still be renewed, latest first; at most the latest hundred.
func (db *DB) Sessions(ctx context.Context, userID int64) ([]Session, error) {
	return rows(ctx, db, func(row pgx.CollectableRow) (Session, error) {
		var s Session
		err := row.Scan(&s.ID, &s.CreatedAt, &s.LastUsedAt, &s.From.Network, &s.From.UserAgent)
		return s, err
	}, `
		select id, created_at, last_used_at, network, user_agent
		from sessions
		where user_id = $1 and revoked_at is null and last_used_at > now() - `+refreshLife+`
		order by id desc
		limit 100`,
		userID)
}

// EndSessionByID ends a session of the author. Errors: problem.NotFound if the author has no such session, or it was ended before.
func (db *DB) EndSessionByID(ctx context.Context, author Author, session int64) error {
	ended, err := db.endSessions(ctx, author, `id = $3`, session)
	if err == nil && ended == 0 {
		err = problem.NotFound.Detail("there is no such session")
	}
	return err
}

// EndOtherSessions ends all sessions of the author except the one of this request.
func (db *DB) EndOtherSessions(ctx context.Context, author Author) error {
	_, err := db.endSessions(ctx, author, `id <> $3`, author.Session)
	return err
}

func (db *DB) endSessions(ctx context.Context, author Author, which string, session int64) (ended int, err error) {
	err = db.one(ctx, endSessions(which)+`
		select count(*)
		from ended`,
		[]any{author.ID, author.Session, session}, &ended)
	return ended, err
}

// endSessions returns CTEs that end sessions of the author $1, whose own session is $2. They also mark tokens, because the previous
// release reads only these.
func endSessions(which string) string {
	return `
		with ended as (
			update sessions
			set revoked_at = now()
			where user_id = $1 and revoked_at is null and check_author($1, $2) and ` + which + `
			returning id
		),
		tokens as (
			update refresh_tokens
			set revoked_at = now()
			where family in (select id from ended) and revoked_at is null
		)`
}

// revokeFamily revokes the family of a token, if the condition where holds for the token.
func (db *DB) revokeFamily(ctx context.Context, hash []byte, where string) error {
	_, err := db.exec(ctx, `
		with family as (
			select family
			from refresh_tokens
			where token_hash = $1 and `+where+`
		),
		session as (
			update sessions
			set revoked_at = now()
			where id = (select family from family) and revoked_at is null
		)
		update refresh_tokens
		set revoked_at = now()
		where family = (select family from family) and revoked_at is null`,
		hash)
	return err
}
