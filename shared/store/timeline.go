package store

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// Page selects a part of a list that is ordered by id, latest first.
type Page struct {
	Limit           int
	Before          int64 // only ids below it; 0 for no bound
	After           int64 // only ids above it
	Oldest          bool  // select the oldest items within the bounds, not the latest; for a page backwards
	ExcludeRetweets bool

	// Horizon is an id that DB.Horizon has returned. Above it, only rows that Reader has made are listed. With 0, all rows are listed.
	Horizon int64
	Reader  int64
}

// Listed is an item of a list that is not ordered by the item's own id.
type Listed[T any] struct {
	Item     T
	Position int64 // the id that orders the list: of the retweet or the like for which the item is listed
}

func (p Page) before() int64 { return cmp.Or(p.Before, math.MaxInt64) }

func (p Page) horizon() int64 { return cmp.Or(p.Horizon, math.MaxInt64) }

// newestFirst runs a query in the order that selects the page, and returns the rows latest first in any case.
func newestFirst[T any](p Page, query func(order string) ([]T, error)) ([]T, error) {
	if !p.Oldest {
		return query("desc")
	}
	list, err := query("asc")
	slices.Reverse(list)
	return list, err
}

// UserTweets lists the tweets and retweets of a user.
func (db *DB) UserTweets(ctx context.Context, userID int64, page Page) ([]Tweet, error) {
	return db.timeline(ctx, "t.author_id = $1", userID, page)
}

// CommunityTweets lists the tweets and retweets of the members of a community: their home timeline.
func (db *DB) CommunityTweets(ctx context.Context, community string, page Page) ([]Tweet, error) {
	return db.timeline(ctx, ofCommunity, community, page)
}

const ofCommunity = "t.community = $1"

// CommunityTweetsSQL returns the statement of CommunityTweets, for a benchmark. Its arguments are the community, the id above which
// and the id below which rows are listed, whether to leave out retweets, the horizon, the reader and the limit.
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
