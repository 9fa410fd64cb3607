package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Community is a group that users join at registration.
type Community struct {
	Slug, Name string
	CreatedAt  time.Time
}

// Communities returns all communities, ordered by slug.
func (db *DB) Communities(ctx context.Context) ([]Community, error) {
	return rows(ctx, db, func(row pgx.CollectableRow) (Community, error) {
		var c Community
		err := row.Scan(&c.Slug, &c.Name, &c.CreatedAt)
		return c, err
	}, `select slug, name, created_at from communities order by slug`)
}

// AddCommunity adds a community, or renames the one with that slug. It needs the owner's rights.
func AddCommunity(ctx context.Context, conn *Conn, slug, name string) error {
	_, err := conn.Exec(ctx, `
		insert into communities (slug, name)
		values ($1, $2)
		on conflict (slug) do update
		set name = excluded.name`,
		slug, name)
	return err
}
