package wire

import (
	"cmp"
	"slices"

	"warble/shared/feature"
	"warble/shared/store"
)

// Includes has the further objects of an answer, each once.
type Includes struct {
	Users  []User  `json:"users,omitempty"`
	Tweets []Tweet `json:"tweets,omitempty"`
}

// NewIncludes returns the objects in found in X's format, ordered by id. The store returns no fixed order, but an unchanged
// answer must keep its ETag. features are the caller's features.
func NewIncludes(found store.Related, features feature.Set) (includes Includes) {
	for _, t := range found.Tweets {
		includes.Tweets = append(includes.Tweets, NewTweet(t, features))
	}
	for _, u := range found.Users {
		includes.Users = append(includes.Users, NewUser(u))
	}
	slices.SortFunc(includes.Users, func(a, b User) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(includes.Tweets, func(a, b Tweet) int { return cmp.Compare(a.ID, b.ID) })
	return includes
}
