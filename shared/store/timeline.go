package store

import (
	"context"
	"math"
	"slices"
)

// Page is a part of a list that is ordered by id, latest first.
type Page struct {
	Limit           int
	Before          int64 // ids below it; 0 for no bound
	After           int64 // ids above it
	Oldest          bool  // the Limit oldest within the bounds, not the latest: what a page back needs
	ExcludeRetweets bool
}

// Listed is an item of a list that is ordered by another id than the item's own.
type Listed[T any] struct {
	Item     T
	Position int64 // that id: of the retweet or the like that the item is listed for
}

func (p Page) before() int64 {
	if p.Before == 0 {
		return math.MaxInt64
	}
	return p.Before
}

// newestFirst runs a query in the order in which the page is taken, and returns it latest first in any case.
func newestFirst[T any](p Page, query func(order string) ([]T, error)) ([]T, error) {
	if !p.Oldest {
		return query("desc")
	}
	list, err := query("asc")
	slices.Reverse(list)
	return list, err
}

// UserTweets lists what a user tweeted and retweeted.
func (db *DB) UserTweets(ctx context.Context, userID int64, page Page) ([]Tweet, error) {
	return db.timeline(ctx, "t.author_id = $1", userID, page)
}

// CommunityTweets lists what the members of a community tweeted and retweeted: their home timeline.
func (db *DB) CommunityTweets(ctx context.Context, community string, page Page) ([]Tweet, error) {
	return db.timeline(ctx, "t.community = $1", community, page)
}

func (db *DB) timeline(ctx context.Context, whose string, value any, page Page) ([]Tweet, error) {
	return newestFirst(page, func(order string) ([]Tweet, error) {
		return rows(ctx, db, scanTweet, `
			select`+tweetColumns+`
			from tweets t`+tweetJoins+`
			where `+whose+` and `+visible+` and t.id > $2 and t.id < $3 and not ($4 and t.retweet_of is not null)
			order by t.id `+order+`
			limit $5`,
			value, page.After, page.before(), page.ExcludeRetweets, page.Limit)
	})
}
