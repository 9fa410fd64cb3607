package main

import (
	"context"
	"net/http"

	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of the function.
func New(db *store.DB, tokens *token.Verifier, metrics *telemetry.TweetMetrics, features feature.Revision) function.Routes {
	t := &retweets{db, metrics, features, idempotency.NewOnce()}
	user := function.Authenticated(tokens, db.Seen, db.Expose)
	return function.Routes{
		"POST /2/users/{id}/retweets":                     user(function.Allowed(db.MayPost, function.JSON(t.retweet))),
		"DELETE /2/users/{id}/retweets/{source_tweet_id}": user(function.JSON(t.undo)),
		"GET /2/tweets/{id}/retweeted_by":                 user(function.JSON(t.retweetedBy)),
		"GET /2/tweets/{id}/retweets":                     user(function.JSON(t.list)),
	}
}

type retweets struct {
	db       *store.DB
	metrics  *telemetry.TweetMetrics
	features feature.Revision
	once     *idempotency.Once
}

func (t *retweets) retweet(ctx context.Context, q wire.Action) (idempotency.Answer, error) {
	me := function.Caller(ctx)
	return t.once.Do(ctx, function.Key(ctx), func(ctx context.Context, k idempotency.Key) (idempotency.Answer, error) {
		retweet := store.NewRetweet{UserID: me.UserID, Community: me.Community, TweetID: q.Tweet, Traceparent: telemetry.Traceparent(ctx)}
		body := store.Body{Status: http.StatusOK, Before: `{"data":{"retweeted":true,"rest_id":"`, After: `"}}`}
		answer, err := t.db.Retweet(ctx, retweet, k, body)
		if err == nil && !answer.Replayed {
			t.metrics.Retweet(q.Tweet)
		}
		return answer, err
	})
}

func (t *retweets) undo(ctx context.Context, q undoRequest) (wire.Single[retweeted], error) {
	if err := function.RequireCaller(ctx, q.user); err != nil {
		return wire.Single[retweeted]{}, err
	}
	err := t.db.UndoRetweet(ctx, wire.Author(ctx), q.tweet)
	return wire.Single[retweeted]{Data: retweeted{false}}, err
}

func (t *retweets) retweetedBy(ctx context.Context, q wire.QueryByID) (wire.List[wire.User], error) {
	page, err := t.page(ctx, q.Query, wire.UsersSize)
	if err != nil {
		return wire.List[wire.User]{}, err
	}
	source, err := t.db.Source(ctx, q.ID)
	if err != nil {
		return wire.List[wire.User]{}, err
	}
	rows, err := t.db.RetweetedBy(ctx, source, page.Rows())
	return wire.Users(page, rows), err
}

func (t *retweets) list(ctx context.Context, q wire.QueryByID) (wire.List[wire.Tweet], error) {
	page, err := t.page(ctx, q.Query, wire.TimelineSize)
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	source, err := t.db.Source(ctx, q.ID)
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	rows, err := t.db.Retweets(ctx, source, page.Rows())
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	rows, meta := wire.CutTweets(page, rows)
	related, err := t.db.Related(ctx, q.Expansions, rows...)
	return wire.Tweets(rows, meta, related, t.features.ForRequest(ctx)), err
}

// page reads the part of a list that the caller requests.
func (t *retweets) page(ctx context.Context, q wire.Query, size int) (wire.Page, error) {
	page, err := q.Page(size)
	if err != nil {
		return wire.Page{}, err
	}
	horizon, err := t.db.Horizon(ctx)
	return page.AsOf(horizon, function.Caller(ctx).UserID), err
}

type retweeted struct {
	Retweeted bool `json:"retweeted"`
}

type undoRequest struct{ user, tweet int64 }

func (q *undoRequest) FromRequest(r *http.Request) (err error) {
	if q.user, err = function.PathID(r, "id"); err != nil {
		return err
	}
	q.tweet, err = function.PathID(r, "source_tweet_id")
	return err
}
