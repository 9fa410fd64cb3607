package store

import (
	"cmp"
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

	// Horizon is what DB.Horizon returned before: above it are only rows of Reader, those that are listed for what Reader did.
	// 0 lists every row that is there.
	Horizon int64
	Reader  int64
}

// Listed is an item of a list that is ordered by another id than the item's own.
type Listed[T any] struct {
	Item     T
	Position int64 // that id: of the retweet or the like that the item is listed for
}

func (p Page) before() int64 { return cmp.Or(p.Before, math.MaxInt64) }

func (p Page) horizon() int64 { return cmp.Or(p.Horizon, math.MaxInt64) }

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
	return db.timeline(ctx, ofCommunity, community, page)
}

const ofCommunity = "t.community = $1"

// CommunityTweetsSQL is the statement of CommunityTweets, for a benchmark that runs the very one. Its arguments: community, ids
// above, ids below, whether to leave retweets out, horizon, reader, limit.
func CommunityTweetsSQL() string { return timelineSQL(ofCommunity, "desc") }

func timelineSQL(whose, order string) string {
	return `
		select` + tweetColumns + `
		from tweets t` + tweetJoins + `
		where ` + whose + ` and ` + visible + ` and t.id > $2 and t.id < $3 and not ($4 and t.retweet_of is not null)
			and (t.id <= $5 or t.author_id = $6)
		order by t.id ` + order + `
		limit $7`
}

func (db *DB) timeline(ctx context.Context, whose string, value any, page Page) ([]Tweet, error) {
	return newestFirst(page, func(order string) ([]Tweet, error) {
		return rows(ctx, db, scanTweet, timelineSQL(whose, order),
			value, page.After, page.before(), page.ExcludeRetweets, page.horizon(), page.Reader, page.Limit)
	})
}
