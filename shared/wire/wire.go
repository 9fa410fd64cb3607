// Package wire is the shapes of X API v2, in which tweets and users leave Warble, and the query strings that ask for
// them. Names and forms are X's, so that a client library written for X reads them.
package wire

import (
	"strconv"
	"time"

	"warble/shared/feature"
	"warble/shared/problem"
	"warble/shared/store"
)

// Tweet is a tweet. All that Warble knows of it is always there; no tweet.fields are needed.
type Tweet struct {
	ID                  string      `json:"id"`
	Text                string      `json:"text"`
	AuthorID            string      `json:"author_id"`
	CreatedAt           string      `json:"created_at"`
	PublicMetrics       Metrics     `json:"public_metrics"`
	ReferencedTweets    []Reference `json:"referenced_tweets,omitempty"`
	EditHistoryTweetIDs [1]string   `json:"edit_history_tweet_ids"`
}

// Metrics are X's counts of a tweet; those that Warble does not keep are 0. A retweet's are those of its source.
type Metrics struct {
	RetweetCount    int `json:"retweet_count"`
	ReplyCount      int `json:"reply_count"`
	LikeCount       int `json:"like_count"`
	QuoteCount      int `json:"quote_count"`
	BookmarkCount   int `json:"bookmark_count"`
	ImpressionCount int `json:"impression_count"`
}

// Reference is a tweet that another one is about: "retweeted" is the only type.
type Reference struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// NewTweet is a stored tweet in X's shape. Without the feature likes it has none.
func NewTweet(t store.Tweet, features feature.Set) Tweet {
	id := ID(t.ID)
	if !features.Likes {
		t.LikeCount = 0
	}
	tweet := Tweet{
		ID:                  id,
		Text:                t.Text,
		AuthorID:            ID(t.AuthorID),
		CreatedAt:           Time(t.CreatedAt),
		PublicMetrics:       Metrics{RetweetCount: t.RetweetCount, LikeCount: t.LikeCount},
		EditHistoryTweetIDs: [1]string{id},
	}
	if t.RetweetOf != 0 {
		tweet.ReferencedTweets = []Reference{{"retweeted", ID(t.RetweetOf)}}
	}
	return tweet
}

// User is a user. All that Warble shows of one is always there; no user.fields are needed.
type User struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Username  string `json:"username"`
	CreatedAt string `json:"created_at"`
}

// NewUser is a stored user in X's shape.
func NewUser(u store.User) User {
	return User{ID: ID(u.ID), Name: u.Name, Username: u.Username, CreatedAt: Time(u.CreatedAt)}
}

// ID is an id as JSON carries it: a decimal string, for not every client has 64-bit integers.
func ID(id int64) string { return strconv.FormatInt(id, 10) }

// Time is a time as JSON carries it: RFC 3339 in UTC, to the millisecond.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Single is the answer about one thing.
type Single[T any] struct {
	Data     T        `json:"data"`
	Includes Includes `json:"includes,omitzero"`
}

// List is one page of a list. Data is never null.
type List[T any] struct {
	Data     []T      `json:"data"`
	Includes Includes `json:"includes,omitzero"`
	Meta     Meta     `json:"meta"`
}

// Lookup is the answer about several things: those that were found, and an error for each of the rest.
type Lookup[T any] struct {
	Data     []T           `json:"data"`
	Includes Includes      `json:"includes,omitzero"`
	Errors   []LookupError `json:"errors,omitempty"`
}

// LookupError says that one of several things was not found.
type LookupError struct {
	Value        string `json:"value"`
	Detail       string `json:"detail"`
	Title        string `json:"title"`
	ResourceType string `json:"resource_type"`
	Parameter    string `json:"parameter"`
	ResourceID   string `json:"resource_id"`
	Type         string `json:"type"`
}

// NewLookup answers for values, in their order; find looks the i-th up among what was found. resource is "tweet" or
// "user", parameter the one that held the values.
func NewLookup[T any](resource, parameter string, values []string, find func(i int) (T, bool)) Lookup[T] {
	answer := Lookup[T]{Data: make([]T, 0, len(values))}
	for i, value := range values {
		if found, ok := find(i); ok {
			answer.Data = append(answer.Data, found)
			continue
		}
		answer.Errors = append(answer.Errors, LookupError{
			Value:        value,
			Detail:       "Could not find " + resource + " with " + parameter + ": [" + value + "].",
			Title:        "Not Found Error",
			ResourceType: resource,
			Parameter:    parameter,
			ResourceID:   value,
			Type:         problem.NotFound.Type(),
		})
	}
	return answer
}
