package wire

import (
	"context"
	"net/http"

	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/store"
)

// Author returns the caller, for statements that write.
func Author(ctx context.Context) store.Author {
	caller := function.Caller(ctx)
	return store.Author{ID: caller.UserID, Session: caller.Session}
}

// Action is an action of the caller on a tweet, such as POST /2/users/{id}/retweets {tweet_id}.
type Action struct {
	TweetID *string `json:"tweet_id"`
	Tweet   int64   `json:"-"`
}

// FromRequest checks that the path's {id} is the caller's, 403 otherwise, and reads the id of the tweet.
func (q *Action) FromRequest(r *http.Request) error {
	user, err := function.PathID(r, "id")
	if err != nil {
		return err
	}
	if err := function.RequireCaller(r.Context(), user); err != nil {
		return err
	}
	if q.TweetID == nil {
		return problem.Invalid.Field("tweet_id", "tweet_id is required")
	}
	if q.Tweet, err = function.ParseID(*q.TweetID); err != nil {
		return problem.Invalid.Field("tweet_id", "tweet_id must be a decimal id of 1 to 19 digits")
	}
	return nil
}
