package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

// NewLike is a like to create, for TweetID or, if that is a retweet, for its source.
type NewLike struct {
	UserID      int64
	TweetID     int64
	Traceparent string
}

const likeSQL = `
	with source as (
		select s.id, s.author_id
		from tweets t
		join tweets s on s.id = coalesce(t.retweet_of, t.id)
		where ` + mayWrite + ` and t.id = $9 and ` + visible + `
	),` + claimWhole + `,
	liked as (
		insert into likes (user_id, tweet_id)
		select $1, id
		from source
		where ` + claimed + `
		on conflict (user_id, tweet_id) where deleted_at is null do nothing
		returning id, tweet_id, created_at
	),
	counted as (
		insert into tweet_counts as c (tweet_id, likes)
		select tweet_id, 1
		from liked
		on conflict (tweet_id) do update
		set likes = c.likes + 1
	),
	event as (
		insert into outbox (user_id, type, data, traceparent)
		select $1, 'dev.warble.tweet.liked.v1',
			jsonb_build_object('id', l.id::text, 'user_id', $1::text, 'tweet_id', s.id::text, 'author_id', s.author_id::text, 'created_at', l.created_at),
			nullif($10::text, '')
		from liked l, source s
	)
	select $6::text || $7::text, ` + claimed + `
	from source`

// Like likes a tweet. A second like changes nothing and gives the same answer. The answer contains no id: it is b.Before and
// b.After. Errors: problem.NotFound if the tweet does not exist, and those of CreateTweet.
func (db *DB) Like(ctx context.Context, l NewLike, k idempotency.Key, b Body) (idempotency.Answer, error) {
	k.UserID = l.UserID
	answer, err := db.write(ctx, likeSQL, k, b, l.TweetID, l.Traceparent)
	switch {
	case errors.Is(err, problem.NotFound):
		err = noTweet()
	case violated(err) == "likes_user_id_fkey":
		err = noAccount()
	}
	return answer, err
}

// UndoLike takes back a user's like of a tweet. If tweetID is a retweet, UndoLike takes back the like of its source, because
// Like likes the source. If there is no like, nothing changes.
func (db *DB) UndoLike(ctx context.Context, user Author, tweetID int64) error {
	_, err := db.exec(ctx, `
		with gone as (
			update likes
			set deleted_at = now()
			where check_author($1, $4)
				and user_id = $1
				and tweet_id = coalesce((select retweet_of from tweets where id = $2), $2)
				and deleted_at is null
			returning id, tweet_id
		),
		uncount as (
			update tweet_counts
			set likes = likes - 1
			where tweet_id = (select tweet_id from gone)
		)
		insert into outbox (user_id, type, data, traceparent)
		select $1, 'dev.warble.tweet.unliked.v1',
			jsonb_build_object('id', id::text, 'user_id', $1::text, 'tweet_id', tweet_id::text, 'deleted_at', now()),
			nullif($3::text, '')
		from gone`,
		user.ID, tweetID, telemetry.Traceparent(ctx), user.Session)
	return err
}

// LikingUsers lists the users who like a tweet, latest like first. It ignores page.ExcludeRetweets.
func (db *DB) LikingUsers(ctx context.Context, tweetID int64, page Page) ([]Listed[User], error) {
	return newestFirst(page, func(order string) ([]Listed[User], error) {
		return rows(ctx, db, scanListedUser, `
			select `+userColumns+`, l.id
			from likes l
			join users u on u.id = l.user_id
			where l.tweet_id = $1 and l.deleted_at is null and u.deleted_at is null and l.id > $2 and l.id < $3
				and (l.id <= $4 or l.user_id = $5)
			order by l.id `+order+`
			limit $6`,
			tweetID, page.After, page.before(), page.horizon(), page.Reader, page.Limit)
	})
}

// LikedTweets lists the tweets that a user likes, latest like first. Tweets that were deleted since are left out. It ignores
// page.ExcludeRetweets.
func (db *DB) LikedTweets(ctx context.Context, userID int64, page Page) ([]Listed[Tweet], error) {
	return newestFirst(page, func(order string) ([]Listed[Tweet], error) {
		return rows(ctx, db, scanListedTweet, `
			select`+tweetColumns+`, l.id
			from likes l
			join tweets t on t.id = l.tweet_id`+tweetJoins+`
			where l.user_id = $1 and l.deleted_at is null and `+visible+` and l.id > $2 and l.id < $3
				and (l.id <= $4 or l.user_id = $5)
			order by l.id `+order+`
			limit $6`,
			userID, page.After, page.before(), page.horizon(), page.Reader, page.Limit)
	})
}

func scanListedTweet(row pgx.CollectableRow) (Listed[Tweet], error) {
	var l Listed[Tweet]
	t := &l.Item
	err := row.Scan(&t.ID, &t.AuthorID, &t.Text, &t.CreatedAt, &t.RetweetOf, &t.RetweetCount, &t.LikeCount, &l.Position)
	return l, err
}
