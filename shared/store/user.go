package store

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/problem"
)

// User is the public profile of a person.
type User struct {
	ID        int64
	Username  string
	Name      string
	Community string // slug; empty for none
	CreatedAt time.Time
}

const userColumns = `u.id, u.username, u.name, coalesce(u.community, ''), u.created_at`

func scanUser(row pgx.CollectableRow) (User, error) {
	var u User
	err := row.Scan(&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt)
	return u, err
}

func scanListedUser(row pgx.CollectableRow) (Listed[User], error) {
	var l Listed[User]
	u := &l.Item
	err := row.Scan(&u.ID, &u.Username, &u.Name, &u.Community, &u.CreatedAt, &l.Position)
	return l, err
}

// Users returns the users with these ids that exist, in no order.
func (db *DB) Users(ctx context.Context, ids []int64) ([]User, error) {
	return rows(ctx, db, scanUser, `select `+userColumns+` from users u where u.id = any($1) and u.deleted_at is null`, ids)
}

// HasUser returns nil if the user exists, and otherwise problem.NotFound.
func (db *DB) HasUser(ctx context.Context, id int64) error {
	found, err := db.Users(ctx, []int64{id})
	if err == nil && len(found) == 0 {
		err = problem.NotFound.Detail("there is no such user")
	}
	return err
}

// UsersByUsername returns the users with these names that exist, in no order. Names are compared after Fold.
func (db *DB) UsersByUsername(ctx context.Context, names []string) ([]User, error) {
	folded := make([]string, len(names))
	for i, name := range names {
		folded[i] = Fold(name)
	}
	return rows(ctx, db, scanUser, `select `+userColumns+` from users u where lower(u.username) = any($1) and u.deleted_at is null`, folded)
}

// Fold returns the form in which an email address or a username is compared: A to Z in lower case, and everything else
// unchanged. So a KELVIN SIGN, which Unicode folds to k, stays different from k.
//
// PostgreSQL folds what is stored, with lower(): in the unique indexes of migration 003, and in username_hash (018) and address_hash
// (019). The two results are equal for two reasons. All stored usernames and email addresses are ASCII, because registration accepts
// no others. And lower() folds ASCII in this way in every collation that migrations.Apply accepts, whether the statement says
// collate "C" or not. What a client asks for may have any characters. It is folded only here.
func Fold(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, text)
}
