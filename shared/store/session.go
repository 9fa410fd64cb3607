package store

import (
	"context"
	"errors"

	"warble/shared/problem"
)

// A session is a family of refresh tokens: each is used once, for the next. Whoever uses one again has a copy of what
// somebody else holds too, and nobody can tell which of the two is the thief, so the whole family ends.

// refreshLife is how long a refresh token may wait to be used.
const refreshLife = `interval '30 days'`

// RotateRefresh uses a refresh token and puts the next one of its family in its place. Errors: problem.Unauthenticated
// where it is unknown, expired or revoked, and where it was used before, which revokes its family.
func (db *DB) RotateRefresh(ctx context.Context, usedHash, nextHash []byte) (User, error) {
	var u User
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
				and not exists (select from refresh_tokens relative where relative.family = t.family and relative.revoked_at is not null)
			returning family, user_id
		),
		next as (
			insert into refresh_tokens (token_hash, family, user_id, expires_at)
			select $2, family, user_id, now() + `+refreshLife+`
			from used
		)
		select `+userColumns+`
		from used
		join users u on u.id = used.user_id`,
		[]any{usedHash, nextHash},
		&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt)
	if !errors.Is(err, problem.NotFound) {
		return u, err
	}
	if err := db.revokeFamily(ctx, usedHash, `used_at is not null`); err != nil {
		return User{}, err
	}
	return User{}, problem.Unauthenticated.Detail("The refresh token is not valid.")
}

// EndSession revokes the family of a refresh token. A token that is unknown has no session to end, which is no error.
func (db *DB) EndSession(ctx context.Context, hash []byte) error {
	return db.revokeFamily(ctx, hash, `true`)
}

// revokeFamily revokes the family of a token that is as where says.
func (db *DB) revokeFamily(ctx context.Context, hash []byte, where string) error {
	_, err := db.exec(ctx, `
		update refresh_tokens
		set revoked_at = now()
		where revoked_at is null
			and family = (select family from refresh_tokens where token_hash = $1 and `+where+`)`,
		hash)
	return err
}
