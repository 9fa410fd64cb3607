package store

import (
	"context"
	"time"
)

// Seen records that a user made an authenticated request today (UTC), once per user, day and process. Errors:
// problem.Unauthenticated if the user does not exist.
func (db *DB) Seen(ctx context.Context, userID int64) error {
	today := userDay{userID, time.Now().UTC().Truncate(24 * time.Hour)}
	if db.active.has(today) {
		return nil
	}
	if _, err := db.exec(ctx, `
		insert into activity (user_id, day)
		select $1, $2
		where not exists (select from users where id = $1 and deleted_at is not null)
		on conflict do nothing`,
		today.user, today.day); err != nil {
		if violated(err) == "activity_user_id_fkey" {
			return noAccount()
		}
		return err
	}
	db.active.add(today)
	return nil
}

// userDay is the key of a row of activity.
type userDay struct {
	user int64
	day  time.Time // in UTC, without a monotonic clock reading, so that equal days are equal keys
}
