package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// ExportPage is how many rows one call for an export returns, at most.
const ExportPage = 1000

// OwnTweet is a tweet or a retweet in an export.
type OwnTweet struct {
	ID        int64
	Text      string // empty if it is a retweet
	RetweetOf int64  // 0 if it is not a retweet
	CreatedAt time.Time
}

// OwnTweets returns the next tweets of a user that are not deleted, with ids above after, oldest first.
func (db *DB) OwnTweets(ctx context.Context, userID, after int64) ([]OwnTweet, error) {
	return rows(ctx, db, func(row pgx.CollectableRow) (t OwnTweet, err error) {
		err = row.Scan(&t.ID, &t.Text, &t.RetweetOf, &t.CreatedAt)
		return t, err
	}, `
		select id, text, coalesce(retweet_of, 0), created_at
		from tweets
		where author_id = $1 and deleted_at is null and id > $2
		order by id
		limit $3`,
		userID, after, ExportPage)
}

// OwnLike is a like in an export.
type OwnLike struct {
	ID        int64
	TweetID   int64
	CreatedAt time.Time
}

// OwnLikes returns the next likes of a user that were not taken back, with ids above after, oldest first.
func (db *DB) OwnLikes(ctx context.Context, userID, after int64) ([]OwnLike, error) {
	return rows(ctx, db, func(row pgx.CollectableRow) (l OwnLike, err error) {
		err = row.Scan(&l.ID, &l.TweetID, &l.CreatedAt)
		return l, err
	}, `
		select id, tweet_id, created_at
		from likes
		where user_id = $1 and deleted_at is null and id > $2
		order by id
		limit $3`,
		userID, after, ExportPage)
}

// OwnFeedback is one feedback in an export.
type OwnFeedback struct {
	ID        int64
	Score     int
	Text      string
	CreatedAt time.Time
}

// OwnFeedback returns the next feedback of a user, with ids above after, oldest first.
func (db *DB) OwnFeedback(ctx context.Context, userID, after int64) ([]OwnFeedback, error) {
	return rows(ctx, db, func(row pgx.CollectableRow) (f OwnFeedback, err error) {
		err = row.Scan(&f.ID, &f.Score, &f.Text, &f.CreatedAt)
		return f, err
	}, `
		select id, score, text, created_at
		from feedback
		where user_id = $1 and id > $2
		order by id
		limit $3`,
		userID, after, ExportPage)
}

// OwnDays returns the next days (UTC) on which a user was active, later than after, first to last.
func (db *DB) OwnDays(ctx context.Context, userID int64, after time.Time) ([]time.Time, error) {
	return rows(ctx, db, pgx.RowTo[time.Time], `
		select day
		from activity
		where user_id = $1 and day > $2
		order by day
		limit $3`,
		userID, after, ExportPage)
}
