package store

import (
	"context"
	"errors"
	"time"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

// uncount is a CTE that subtracts a retweet, which a CTE called gone has removed, from the count of its source.
const uncount = `
	uncount as (
		update tweet_counts
		set retweets = retweets - 1
		where tweet_id = (select retweet_of from gone)
	)`

// NewRetweet is a retweet to create, of TweetID or, if that is a retweet itself, of its source.
type NewRetweet struct {
	UserID      int64
	Community   string
	TweetID     int64
	Traceparent string
}

const retweetSQL = `
	with source as (
		select s.id, s.author_id, mine.id as mine
		from tweets t
		join tweets s on s.id = coalesce(t.retweet_of, t.id)
		left join tweets mine on mine.author_id = $1 and mine.retweet_of = s.id and mine.deleted_at is null
		where ` + mayWrite + ` and t.id = $9 and ` + visible + `
	),
	new as materialized (
		select coalesce(mine, next_id()) as id
		from source
	),` + claim + `,
	retweet as (
		insert into tweets (id, author_id, community, text, retweet_of)
		select new.id, $1, nullif($10::text, ''), '', source.id
		from new, source
		where source.mine is null and ` + claimed + `
		returning id, retweet_of, created_at
	),
	counted as (
		insert into tweet_counts as c (tweet_id, retweets)
		select retweet_of, 1
		from retweet
		on conflict (tweet_id) do update
		set retweets = c.retweets + 1
	),
	event as (
		insert into outbox (user_id, type, data, traceparent)
		select $1, 'dev.warble.tweet.retweeted.v1',
			jsonb_build_object('id', r.id::text, 'user_id', $1::text, 'tweet_id', s.id::text, 'author_id', s.author_id::text, 'created_at', r.created_at),
			nullif($11::text, '')
		from retweet r, source s
	)
	select $6::text || new.id || $7::text, ` + claimed + `
	from new`

// Retweet repeats a tweet under the user's name. A second retweet changes nothing, and is answered with the id of the first one. Errors:
// problem.NotFound if the tweet does not exist, and those of CreateTweet.
func (db *DB) Retweet(ctx context.Context, r NewRetweet, k idempotency.Key, b Body) (idempotency.Answer, error) {
	k.UserID = r.UserID
	answer, err := db.write(ctx, retweetSQL, k, b, r.TweetID, r.Community, r.Traceparent)
	if violated(err) == "retweets_once" {
		// Another request retweeted it between this statement's snapshot and its insert. A new snapshot sees that retweet.
		answer, err = db.write(ctx, retweetSQL, k, b, r.TweetID, r.Community, r.Traceparent)
	}
	switch {
	case errors.Is(err, problem.NotFound):
		err = noTweet()
	case violated(err) == "tweets_author_id_fkey":
		err = noAccount()
	}
	return answer, err
}

// UndoRetweet takes back a user's retweet of a tweet. If tweetID is a retweet, UndoRetweet takes back the retweet of its
// source, because Retweet repeats the source. If there is no retweet, nothing changes.
func (db *DB) UndoRetweet(ctx context.Context, user Author, tweetID int64) error {
	_, err := db.exec(ctx, `
		with gone as (
			update tweets
			set deleted_at = now()
			where check_author($1, $4)
				and author_id = $1
				and retweet_of = coalesce((select retweet_of from tweets where id = $2), $2)
				and deleted_at is null
			returning id, retweet_of
		),`+uncount+`
		insert into outbox (user_id, type, data, traceparent)
		select $1, 'dev.warble.tweet.deleted.v1',
			jsonb_build_object('id', id::text, 'author_id', $1::text, 'deleted_at', now()),
			nullif($3::text, '')
		from gone`,
		user.ID, tweetID, telemetry.Traceparent(ctx), user.Session)
	return err
}

// RetweetedBy lists the users who retweeted a tweet, latest retweet first. It ignores page.ExcludeRetweets.
func (db *DB) RetweetedBy(ctx context.Context, tweetID int64, page Page) ([]Listed[User], error) {
	return newestFirst(page, func(order string) ([]Listed[User], error) {
		return rows(ctx, db, scanListedUser, `
			select `+userColumns+`, t.id
			from tweets t
			join users u on u.id = t.author_id
			where t.retweet_of = $1 and t.deleted_at is null and u.deleted_at is null and t.id > $2 and t.id < $3
				and (t.id <= $4 or t.author_id = $5)
			order by t.id `+order+`
			limit $6`,
			tweetID, page.After, page.before(), page.horizon(), page.Reader, page.Limit)
	})
}

// Retweets lists the retweets of a tweet.
func (db *DB) Retweets(ctx context.Context, tweetID int64, page Page) ([]Tweet, error) {
	return db.timeline(ctx, "t.retweet_of = $1", tweetID, page)
}

// epoch is the time from which ids count milliseconds (migration 002).
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// FirstID returns the lowest id that a row of the given time can have. The lowest 22 bits of an id are below its milliseconds.
func FirstID(at time.Time) int64 {
	const most = 1<<41 - 1 // milliseconds, until 2095
	return min(max(0, at.Sub(epoch).Milliseconds()), most) << 22
}
