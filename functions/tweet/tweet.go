package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of the function.
func New(db *store.DB, tokens *token.Verifier, metrics *telemetry.TweetMetrics, features feature.Revision) function.Routes {
	t := &tweets{db, metrics, features, idempotency.NewOnce()}
	user := function.Authenticated(tokens, db.Seen, db.Expose)
	return function.Routes{
		"POST /2/tweets":        user(function.Allowed(db.MayPost, function.JSON(t.post))),
		"GET /2/tweets":         user(function.JSON(t.lookUp)),
		"GET /2/tweets/{id}":    user(function.JSON(t.get, function.Tagged())),
		"DELETE /2/tweets/{id}": user(function.JSON(t.delete)),
	}
}

type tweets struct {
	db       *store.DB
	metrics  *telemetry.TweetMetrics
	features feature.Revision
	once     *idempotency.Once
}

func (t *tweets) post(ctx context.Context, q draft) (idempotency.Answer, error) {
	if q.Text == nil {
		return idempotency.Answer{}, problem.Invalid.Field("text", "text is required")
	}
	text, length, err := tweetText(*q.Text)
	if err != nil {
		return idempotency.Answer{}, err
	}
	me := function.Caller(ctx)
	return t.once.Do(ctx, function.Key(ctx), func(ctx context.Context, k idempotency.Key) (idempotency.Answer, error) {
		tweet := store.NewTweet{AuthorID: me.UserID, Community: me.Community, Text: text, Traceparent: telemetry.Traceparent(ctx)}
		body := store.Body{Status: http.StatusCreated, Before: `{"data":{"id":"`, After: `","text":` + jsonString(text) + `}}`}
		answer, err := t.db.CreateTweet(ctx, tweet, k, body)
		if err == nil && !answer.Replayed {
			t.metrics.Tweet(me.UserID, length)
		}
		return answer, err
	})
}

func (t *tweets) get(ctx context.Context, q wire.QueryByID) (wire.Single[wire.Tweet], error) {
	found, err := t.db.Tweets(ctx, []int64{q.ID})
	if err != nil {
		return wire.Single[wire.Tweet]{}, err
	}
	if len(found) == 0 {
		return wire.Single[wire.Tweet]{}, problem.NotFound.Detail("there is no such tweet")
	}
	related, err := t.db.Related(ctx, q.Expansions, found...)
	features := t.features.ForRequest(ctx)
	return wire.Single[wire.Tweet]{Data: wire.NewTweet(found[0], features), Includes: wire.NewIncludes(related, features)}, err
}

func (t *tweets) lookUp(ctx context.Context, q wire.Query) (wire.Lookup[wire.Tweet], error) {
	texts, ids, err := q.IDs()
	if err != nil {
		return wire.Lookup[wire.Tweet]{}, err
	}
	found, err := t.db.Tweets(ctx, ids)
	if err != nil {
		return wire.Lookup[wire.Tweet]{}, err
	}
	features := t.features.ForRequest(ctx)
	answer := wire.NewLookup("tweet", "ids", texts, func(i int) (wire.Tweet, bool) {
		at := slices.IndexFunc(found, func(t store.Tweet) bool { return t.ID == ids[i] })
		if at < 0 {
			return wire.Tweet{}, false
		}
		return wire.NewTweet(found[at], features), true
	})
	related, err := t.db.Related(ctx, q.Expansions, found...)
	answer.Includes = wire.NewIncludes(related, features)
	return answer, err
}

func (t *tweets) delete(ctx context.Context, q wire.QueryByID) (wire.Single[deleted], error) {
	err := t.db.DeleteTweet(ctx, q.ID, wire.Author(ctx))
	return wire.Single[deleted]{Data: deleted{true}}, err
}

type deleted struct {
	Deleted bool `json:"deleted"`
}

// draft is a tweet to be posted.
type draft struct {
	Text *string `json:"text"`
}

// notSupported lists the members of X's request that Warble does not support.
var notSupported = []string{
	"card_uri", "community_id", "direct_message_deep_link", "edit_options", "for_super_followers_only", "geo", "media",
	"nullcast", "poll", "quote_tweet_id", "reply", "reply_settings", "share_with_followers",
}

// Refuse returns an error for a member that is not supported: posting a reply as a plain tweet, for example, would be wrong.
func (q *draft) Refuse(member string) error {
	if slices.Contains(notSupported, member) {
		return problem.Invalid.Field(member, "%s is not supported here: a tweet has only text", member)
	}
	return nil
}

// jsonString returns text as a JSON string.
func jsonString(text string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic(err) // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}
