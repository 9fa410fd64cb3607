package main

import (
	"context"
	"net/http"

	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of the function. All of them belong to the feature likes.
func New(db *store.DB, tokens *token.Verifier, features feature.Revision) function.Routes {
	l := &likes{db, features, idempotency.NewOnce()}
	authenticated := function.Authenticated(tokens, db.Seen, db.Expose)
	user := func(handler http.Handler) http.Handler { return authenticated(l.requireFeature(handler)) }
	return function.Routes{
		"POST /2/users/{id}/likes":              user(function.Allowed(db.MayPost, function.JSON(l.like))),
		"DELETE /2/users/{id}/likes/{tweet_id}": user(function.JSON(l.undo)),
		"GET /2/tweets/{id}/liking_users":       user(function.JSON(l.likingUsers)),
		"GET /2/users/{id}/liked_tweets":        user(function.JSON(l.likedTweets)),
	}
}

type likes struct {
	db       *store.DB
	features feature.Revision
	once     *idempotency.Once
}

// requireFeature gives the same answer to every request without the feature, whether or not the request is well-formed: without the feature,
// nothing exists here.
func (l *likes) requireFeature(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !l.features.ForRequest(r.Context()).Likes {
			function.Fail(w, r, problem.NotOpen.Detail("the feature likes is not open to you"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (l *likes) like(ctx context.Context, q wire.Action) (idempotency.Answer, error) {
	return l.once.Do(ctx, function.Key(ctx), func(ctx context.Context, k idempotency.Key) (idempotency.Answer, error) {
		like := store.NewLike{UserID: function.Caller(ctx).UserID, TweetID: q.Tweet, Traceparent: telemetry.Traceparent(ctx)}
		return l.db.Like(ctx, like, k, store.Body{Status: http.StatusOK, Before: `{"data":{"liked":true}}`})
	})
}

func (l *likes) undo(ctx context.Context, q undoRequest) (wire.Single[liked], error) {
	if err := function.RequireCaller(ctx, q.user); err != nil {
		return wire.Single[liked]{}, err
	}
	err := l.db.UndoLike(ctx, wire.Author(ctx), q.tweet)
	return wire.Single[liked]{Data: liked{false}}, err
}

func (l *likes) likingUsers(ctx context.Context, q wire.QueryByID) (wire.List[wire.User], error) {
	page, err := l.page(ctx, q.Query, wire.UsersSize)
	if err != nil {
		return wire.List[wire.User]{}, err
	}
	source, err := l.db.Source(ctx, q.ID)
	if err != nil {
		return wire.List[wire.User]{}, err
	}
	rows, err := l.db.LikingUsers(ctx, source, page.Rows())
	return wire.Users(page, rows), err
}

func (l *likes) likedTweets(ctx context.Context, q wire.QueryByID) (wire.List[wire.Tweet], error) {
	page, err := l.page(ctx, q.Query, wire.TimelineSize)
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	rows, err := l.db.LikedTweets(ctx, q.ID, page.Rows())
	if err == nil && len(rows) == 0 {
		err = l.db.HasUser(ctx, q.ID) // distinguish an unknown user from one without likes
	}
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	rows, meta := wire.Cut(page, rows, func(r store.Listed[store.Tweet]) int64 { return r.Position })
	tweets := make([]store.Tweet, len(rows))
	for i, r := range rows {
		tweets[i] = r.Item
	}
	related, err := l.db.Related(ctx, q.Expansions, tweets...)
	return wire.Tweets(tweets, meta, related, l.features.ForRequest(ctx)), err
}

// page reads the part of a list that the caller requests.
func (l *likes) page(ctx context.Context, q wire.Query, size int) (wire.Page, error) {
	page, err := q.Page(size)
	if err != nil {
		return wire.Page{}, err
	}
	horizon, err := l.db.Horizon(ctx)
	return page.AsOf(horizon, function.Caller(ctx).UserID), err
}

type liked struct {
	Liked bool `json:"liked"`
}

type undoRequest struct{ user, tweet int64 }

func (q *undoRequest) FromRequest(r *http.Request) (err error) {
	if q.user, err = function.PathID(r, "id"); err != nil {
		return err
	}
	q.tweet, err = function.PathID(r, "tweet_id")
	return err
}
