package store

import (
	"context"
	"slices"
)

// References says which of the objects that tweets refer to are wanted.
type References struct {
	Authors       bool
	Sources       bool // the tweets that were retweeted
	SourceAuthors bool // these tweets, and their authors
}

// Related has objects that tweets refer to, each once, in no order.
type Related struct {
	Tweets []Tweet
	Users  []User
}

// Related reads the wanted objects that tweets refer to, in at most two queries. If nothing is wanted, it sends no query.
func (db *DB) Related(ctx context.Context, want References, tweets ...Tweet) (related Related, err error) {
	var authors, sources []int64
	for _, t := range tweets {
		if want.Authors {
			authors = append(authors, t.AuthorID)
		}
		if (want.Sources || want.SourceAuthors) && t.RetweetOf != 0 {
			sources = append(sources, t.RetweetOf)
		}
	}
	if len(sources) > 0 {
		if related.Tweets, err = db.Tweets(ctx, onceEach(sources)); err != nil {
			return Related{}, err
		}
	}
	if want.SourceAuthors {
		for _, t := range related.Tweets {
			authors = append(authors, t.AuthorID)
		}
	}
	if len(authors) > 0 {
		if related.Users, err = db.Users(ctx, onceEach(authors)); err != nil {
			return Related{}, err
		}
	}
	return related, nil
}

func onceEach(ids []int64) []int64 {
	slices.Sort(ids)
	return slices.Compact(ids)
}
