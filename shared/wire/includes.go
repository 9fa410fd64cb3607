package wire

import (
	"cmp"
	"context"
	"slices"

	"warble/shared/feature"
	"warble/shared/store"
)

// Expansions says which further objects the answer must include.
type Expansions struct {
	Authors           bool // author_id
	Referenced        bool // referenced_tweets.id
	ReferencedAuthors bool // referenced_tweets.id.author_id, which includes the tweets too, as on X
}

// Includes has these objects, each once.
type Includes struct {
	Users  []User  `json:"users,omitempty"`
	Tweets []Tweet `json:"tweets,omitempty"`
}

// Include reads the objects that x asks for, for some tweets.
func (x Expansions) Include(ctx context.Context, db *store.DB, features feature.Set, tweets ...store.Tweet) (Includes, error) {
	var (
		includes         Includes
		authors, sources []int64
	)
	for _, t := range tweets {
		if x.Authors {
			authors = append(authors, t.AuthorID)
		}
		if (x.Referenced || x.ReferencedAuthors) && t.RetweetOf != 0 {
			sources = append(sources, t.RetweetOf)
		}
	}
	if len(sources) > 0 {
		found, err := db.Tweets(ctx, unique(sources))
		if err != nil {
			return Includes{}, err
		}
		for _, t := range found {
			includes.Tweets = append(includes.Tweets, NewTweet(t, features))
			if x.ReferencedAuthors {
				authors = append(authors, t.AuthorID)
			}
		}
	}
	if len(authors) > 0 {
		found, err := db.Users(ctx, unique(authors))
		if err != nil {
			return Includes{}, err
		}
		for _, u := range found {
			includes.Users = append(includes.Users, NewUser(u))
		}
	}
	// The store returns no fixed order, but an unchanged answer must keep its ETag.
	slices.SortFunc(includes.Users, func(a, b User) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(includes.Tweets, func(a, b Tweet) int { return cmp.Compare(a.ID, b.ID) })
	return includes, nil
}

func unique(ids []int64) []int64 {
	slices.Sort(ids)
	return slices.Compact(ids)
}
