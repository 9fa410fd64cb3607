// Package wire has the JSON types of X API v2 for tweets and users, and reads the query strings of requests. Names and formats are
// those of X, so that client libraries written for X can read them.
package wire

import (
	"strconv"
	"time"

	"warble/shared/feature"
	"warble/shared/problem"
	"warble/shared/store"
)

// Tweet is a tweet. It always has all fields that Warble stores, even without the parameter tweet.fields.
type Tweet struct {
	ID                  string      `json:"id"`
	Text                string      `json:"text"`
	AuthorID            string      `json:"author_id"`
	CreatedAt           string      `json:"created_at"`
	PublicMetrics       Metrics     `json:"public_metrics"`
	ReferencedTweets    []Reference `json:"referenced_tweets,omitempty"`
	EditHistoryTweetIDs [1]string   `json:"edit_history_tweet_ids"`
}

// Metrics has X's counts for a tweet. Counts that Warble does not store are 0. A retweet has the counts of its source.
type Metrics struct {
	RetweetCount    int `json:"retweet_count"`
	ReplyCount      int `json:"reply_count"`
	LikeCount       int `json:"like_count"`
	QuoteCount      int `json:"quote_count"`
	BookmarkCount   int `json:"bookmark_count"`
	ImpressionCount int `json:"impression_count"`
}

// Reference is a tweet to which another one refers. "retweeted" is the only type.
type Reference struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// NewTweet returns a stored tweet in X's format. Without the feature likes, its number of likes is 0.
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

// User is a user. It always has all fields that Warble shows, even without the parameter user.fields.
type User struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Username  string `json:"username"`
	CreatedAt string `json:"created_at"`
}

// NewUser returns a stored user in X's format.
func NewUser(u store.User) User {
	return User{ID: ID(u.ID), Name: u.Name, Username: u.Username, CreatedAt: Time(u.CreatedAt)}
}

// ID returns an id as it is in JSON: a decimal string, because not every client has 64-bit integers.
func ID(id int64) string { return strconv.FormatInt(id, 10) }

// Time returns a time as it is in JSON: RFC 3339 in UTC, to the millisecond.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Single is an answer with one object.
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

// Lookup is the answer to a request for several objects: those that were found, and an error for each other.
type Lookup[T any] struct {
	Data     []T           `json:"data"`
	Includes Includes      `json:"includes,omitzero"`
	Errors   []LookupError `json:"errors,omitempty"`
}

// LookupError says that a requested object was not found.
type LookupError struct {
	Value        string `json:"value"`
	Detail       string `json:"detail"`
	Title        string `json:"title"`
	ResourceType string `json:"resource_type"`
	Parameter    string `json:"parameter"`
	ResourceID   string `json:"resource_id"`
	Type         string `json:"type"`
}

// NewLookup returns the answer for values, in their order. find returns the object for the i-th value, and false if it was not found.
// resource is "tweet" or "user". parameter is the name of the parameter with the values.
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
