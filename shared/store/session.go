package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/problem"
)

// A session is a family of refresh tokens: each is used once, for the next. Two tabs, or a client that lost the answer, use
// one twice within seconds and get the same successor. Whoever uses one again later, or after its successor was used, has a
// copy of what somebody else holds too, and nobody can tell which of the two is the thief, so the whole family ends.

// refreshLife is how long a refresh token may wait to be used.
const refreshLife = `interval '30 days'`

// refreshGrace is how long after its use a refresh token still gets its successor, by the database's clock.
const refreshGrace = `interval '10 s'`

// Client is where a request comes from, as a user sees it in the list of sessions.
type Client struct{ Network, UserAgent string }

// Renewal is what the use of a refresh token comes to.
type Renewal struct {
	Opened

	Successor int // which of the successors is in the token's place
}

// RotateRefresh uses a refresh token and puts the first of successors, hashes that follow from the token, in its place. Where the
// token was used at most 10 s ago, its successor may be another of them. Errors: problem.Unauthenticated where the token is
// unknown, expired or revoked, and where it was used longer ago or its successor was used, either of which revokes its
// family.
func (db *DB) RotateRefresh(ctx context.Context, from Client, usedHash []byte, successors ...[]byte) (Renewal, error) {
	var r Renewal
	u := &r.User
	// Of two at once the second waits for the first one's row, then finds it used. A token that is rotated while its
	// family is revoked may escape the revocation itself, hence the look at its relatives.
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
	// A statement of its own, whose snapshot has what the first of two at once wrote.
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

// ended finds that the session of the token t was ended, or its account deleted. The release before marks only tokens.
const ended = `
	select from sessions where id = t.family and revoked_at is not null
	union all
	select from refresh_tokens relative where relative.family = t.family and relative.revoked_at is not null
	union all
	select from users where id = t.user_id and deleted_at is not null`

// EndSession revokes the family of a refresh token. A token that is unknown has no session to end, which is no error.
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

// Sessions lists the sessions of a user that may still be renewed, latest first; the latest hundred where there are more.
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

// EndSessionByID ends a session of the author's. Errors: problem.NotFound where they have no such session, or it was ended.
func (db *DB) EndSessionByID(ctx context.Context, author Author, session int64) error {
	ended, err := db.endSessions(ctx, author, `id = $3`, session)
	if err == nil && ended == 0 {
		err = problem.NotFound.Detail("there is no such session")
	}
	return err
}

// EndOtherSessions ends all sessions of the author's but their own.
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

// endSessions is a statement's CTE that ends sessions of the author $1, whose own is $2. The release before looks at tokens
// alone.
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

// revokeFamily revokes the family of a token that is as where says.
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
