package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

// Tweet is a tweet or a retweet. The Text of a retweet is "RT @name: " and the text of its source.
type Tweet struct {
	ID           int64
	AuthorID     int64
	Text         string
	CreatedAt    time.Time
	RetweetOf    int64 // 0 if it is not a retweet
	RetweetCount int
	LikeCount    int
}

// NewTweet is a tweet to create. Community is the author's; empty for none.
type NewTweet struct {
	AuthorID    int64
	Community   string
	Text        string
	Traceparent string
}

// CreateTweetSQL is the statement of CreateTweet. It is exported for a benchmark that sends it to the server itself.
const CreateTweetSQL = `
	with new as materialized (
		select next_id() as id
		where ` + mayWrite + `
	),` + claim + `,
	tweet as (
		insert into tweets (id, author_id, community, text)
		select new.id, $1, nullif($9::text, ''), $10
		from new
		where ` + claimed + `
		returning id, created_at
	),
	event as (
		insert into outbox (user_id, type, data, traceparent)
		select $1, 'dev.warble.tweet.posted.v1',
			jsonb_build_object('id', id::text, 'author_id', $1::text, 'community', nullif($9::text, ''), 'text', $10::text, 'created_at', created_at),
			nullif($11::text, '')
		from tweet
	)
	select $6::text || id || $7::text, ` + claimed + `
	from new`

// CreateTweet writes the tweet, its event and the key's answer in one statement. Tweets without a key that have to wait for a
// connection share one commit with others that wait. Errors: problem.Invalid if the key was used for another request,
// problem.Conflict if the first request with the key is still running, and problem.Unauthenticated if the author does not exist.
func (db *DB) CreateTweet(ctx context.Context, t NewTweet, k idempotency.Key, b Body) (idempotency.Answer, error) {
	k.UserID = t.AuthorID
	var (
		answer idempotency.Answer
		err    error
	)
	if k.Key != "" {
		answer, err = db.write(ctx, CreateTweetSQL, k, b, t.Community, t.Text, t.Traceparent)
	} else if answer.Body, err = db.tweets.write(ctx, db.timeout, args(k, b, t.Community, t.Text, t.Traceparent)); err == nil {
		answer.Status = b.Status
	}
	if violated(err) == "tweets_author_id_fkey" {
		err = noAccount()
	}
	return answer, err
}

// noTweet returns the problem for a tweet that does not exist.
func noTweet() error { return problem.NotFound.Detail("there is no such tweet") }

// DeleteTweet deletes a tweet, and leaves its row without text as a tombstone. Errors: problem.NotFound if the tweet does not
// exist, or is a retweet of a deleted one; problem.Forbidden if it belongs to another user.
func (db *DB) DeleteTweet(ctx context.Context, id int64, author Author) error {
	var own bool
	err := db.one(ctx, `
		with gone as (
			update tweets
			set text = '', deleted_at = now()
			where id = $1 and author_id = $2 and deleted_at is null and check_author($2, $4)
				and not exists (select from tweets s where s.id = tweets.retweet_of and s.deleted_at is not null)
			returning id, retweet_of
		),`+uncount+`,
		event as (
			insert into outbox (user_id, type, data, traceparent)
			select $2, 'dev.warble.tweet.deleted.v1',
				jsonb_build_object('id', id::text, 'author_id', $2::text, 'deleted_at', now()),
				nullif($3::text, '')
			from gone
		)
		select t.author_id = $2
		from tweets t
		left join tweets s on s.id = t.retweet_of
		where t.id = $1 and `+visible,
		[]any{id, author.ID, telemetry.Traceparent(ctx), author.Session}, &own)
	if err != nil {
		return err
	}
	if !own {
		return problem.Forbidden.Detail("the tweet %d is another user's", id)
	}
	return nil
}

// tweetColumns are the columns that scanTweet reads. The query calls the tweet t and joins tweetJoins.
const (
	tweetColumns = `
		t.id,
		t.author_id,
		case when t.retweet_of is null then t.text else 'RT @' || su.username || ': ' || s.text end,
		t.created_at,
		coalesce(t.retweet_of, 0),
		coalesce(c.retweets, 0),
		coalesce(c.likes, 0)`
	tweetJoins = `
		left join tweets s on s.id = t.retweet_of
		left join users su on su.id = s.author_id
		left join tweet_counts c on c.tweet_id = coalesce(t.retweet_of, t.id)`
	// visible is true for tweets that are not deleted, and not retweets of deleted ones. The tweets of a deleted account are hidden
	// even before they are deleted. For this, each statement looks up once which few accounts are still being deleted.
	visible = `t.deleted_at is null and s.deleted_at is null
		and t.author_id <> all (array(` + leaving + `)) and coalesce(s.author_id, 0) <> all (array(` + leaving + `))`
	leaving = `select user_id from deletions where finished_at is null`
)

func scanTweet(row pgx.CollectableRow) (Tweet, error) {
	var t Tweet
	err := row.Scan(&t.ID, &t.AuthorID, &t.Text, &t.CreatedAt, &t.RetweetOf, &t.RetweetCount, &t.LikeCount)
	return t, err
}

// Source returns the id of a tweet's source: for a retweet the id of the tweet that it repeats, otherwise the tweet's own id. Errors:
// problem.NotFound if the tweet does not exist.
func (db *DB) Source(ctx context.Context, id int64) (source int64, err error) {
	err = db.one(ctx, `
		select coalesce(t.retweet_of, t.id)
		from tweets t
		left join tweets s on s.id = t.retweet_of
		where t.id = $1 and `+visible,
		[]any{id}, &source)
	if errors.Is(err, problem.NotFound) {
		err = noTweet()
	}
	return source, err
}

// TweetsSQL is the statement of Tweets, exported for the same reason as CreateTweetSQL.
const TweetsSQL = `
	select` + tweetColumns + `
	from tweets t` + tweetJoins + `
	where t.id = any($1) and ` + visible

// Tweets returns the tweets with these ids that exist, in no order.
func (db *DB) Tweets(ctx context.Context, ids []int64) ([]Tweet, error) {
	return rows(ctx, db, scanTweet, TweetsSQL, ids)
}
