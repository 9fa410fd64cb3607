package store_test

import (
	"strconv"
	"testing"

	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func TestTimelinesArePagedByID(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", "gophers"), user(t, d, "bob", "sres")
	var ids []int64
	for i := range 5 {
		ids = append(ids, post(t, db, ada, strconv.Itoa(i)))
	}
	if _, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: bob, Community: "sres", Text: "elsewhere"}, idempotency.Key{}, posted); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Retweet(t.Context(), store.NewRetweet{UserID: ada, Community: "gophers", TweetID: ids[0]}, idempotency.Key{}, posted); err != nil {
		t.Fatal(err)
	}
	texts := func(list []store.Tweet, err error) (texts string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, tweet := range list {
			texts += tweet.Text
		}
		return texts
	}
	for _, tt := range []struct {
		want string
		page store.Page
	}{
		{"RT @ada: 04", store.Page{Limit: 2}},
		{"43", store.Page{Limit: 2, ExcludeRetweets: true}},
		{"21", store.Page{Limit: 2, Before: ids[3]}},
		{"432", store.Page{Limit: 9, After: ids[1], ExcludeRetweets: true}},
		{"32", store.Page{Limit: 2, After: ids[1], Oldest: true}},
		{"3", store.Page{Limit: 9, After: ids[2], Before: ids[4]}},
		{"", store.Page{Limit: 2, Before: ids[0]}},
		{"10", store.Page{Limit: 9, Horizon: ids[1]}},
		{"10", store.Page{Limit: 9, Horizon: ids[1], Reader: bob}},
		{"21", store.Page{Limit: 9, Horizon: ids[1], Reader: ada, After: ids[0], Before: ids[3]}},
	} {
		if got := texts(db.UserTweets(t.Context(), ada, tt.page)); got != tt.want {
			t.Errorf("user, %+v: %s, want %s", tt.page, got, tt.want)
		}
		if got := texts(db.CommunityTweets(t.Context(), "gophers", tt.page)); got != tt.want {
			t.Errorf("community, %+v: %s, want %s", tt.page, got, tt.want)
		}
	}
}
