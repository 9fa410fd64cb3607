package main

import (
	"context"

	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/token"
	"warble/shared/wire"
)

// New returns the routes of the function.
func New(db *store.DB, tokens *token.Verifier, features feature.Revision) function.Routes {
	t := &timelines{db, features}
	user := function.Authenticated(tokens, db.Seen, db.Expose)
	return function.Routes{
		"GET /2/users/{id}/tweets":                          user(function.JSON(t.tweets)),
		"GET /2/users/{id}/timelines/reverse_chronological": user(function.JSON(t.home)),
	}
}

type timelines struct {
	db       *store.DB
	features feature.Revision
}

// tweets lists what a user posted.
func (t *timelines) tweets(ctx context.Context, q wire.QueryByID) (wire.List[wire.Tweet], error) {
	page, err := t.page(ctx, q.Query)
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	found, err := t.db.UserTweets(ctx, q.ID, page.Rows())
	if err == nil && len(found) == 0 {
		err = t.db.HasUser(ctx, q.ID) // distinguish an unknown user from one without tweets
	}
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	return t.list(ctx, q.Query, page, found)
}

// home lists the tweets of the members of the user's community. For a user without a community, it lists the user's own tweets.
func (t *timelines) home(ctx context.Context, q wire.QueryByID) (wire.List[wire.Tweet], error) {
	if err := function.RequireCaller(ctx, q.ID); err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	community := function.Caller(ctx).Community
	if community == "" {
		return t.tweets(ctx, q)
	}
	page, err := t.page(ctx, q.Query)
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	found, err := t.db.CommunityTweets(ctx, community, page.Rows())
	if err != nil {
		return wire.List[wire.Tweet]{}, err
	}
	return t.list(ctx, q.Query, page, found)
}

// page reads the part of a list that the caller requests.
func (t *timelines) page(ctx context.Context, q wire.Query) (wire.Page, error) {
	page, err := q.Page(wire.TimelineSize)
	if err != nil {
		return wire.Page{}, err
	}
	horizon, err := t.db.Horizon(ctx)
	return page.AsOf(horizon, function.Caller(ctx).UserID), err
}

// list returns one page of tweets, and the objects to which they refer.
func (t *timelines) list(ctx context.Context, q wire.Query, page wire.Page, found []store.Tweet) (wire.List[wire.Tweet], error) {
	rows, meta := wire.CutTweets(page, found)
	related, err := t.db.Related(ctx, q.Expansions, rows...)
	return wire.Tweets(rows, meta, related, t.features.ForRequest(ctx)), err
}
