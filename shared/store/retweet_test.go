package store_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// retweets returns the number of retweets that a tweet shows.
func retweets(t *testing.T, db *store.DB, id int64) int {
	t.Helper()
	tweets, err := db.Tweets(t.Context(), []int64{id})
	if err != nil || len(tweets) != 1 {
		t.Fatalf("%v %v", tweets, err)
	}
	return tweets[0].RetweetCount
}

func TestRetweetsAreNaturallyIdempotent(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", ""), user(t, d, "bob", "")
	source := post(t, db, ada, "hello")
	retweet := func(tweet int64, key string) (idempotency.Answer, error) {
		return db.Retweet(t.Context(), store.NewRetweet{UserID: bob, TweetID: tweet}, idempotency.Key{Route: "r", Key: key, Fingerprint: []byte("f")}, posted)
	}
	first, err := retweet(source, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", "k", "k"} {
		if again, err := retweet(source, key); err != nil || !bytes.Equal(again.Body, first.Body) {
			t.Errorf("key %q: %s %v", key, again.Body, err)
		}
	}
	if again, err := retweet(idOf(t, first), ""); err != nil || !bytes.Equal(again.Body, first.Body) {
		t.Errorf("a retweet of the retweet: %s %v", again.Body, err)
	}
	if n := retweets(t, db, source); n != 1 {
		t.Errorf("counted %d", n)
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.retweeted.v1'`); n != 1 {
		t.Errorf("%d events", n)
	}
	shown, err := db.Tweets(t.Context(), []int64{idOf(t, first)})
	if err != nil || len(shown) != 1 || shown[0].Text != "RT @ada: hello" || shown[0].RetweetOf != source || shown[0].RetweetCount != 1 {
		t.Errorf("%+v %v", shown, err)
	}
	if _, err := retweet(42, ""); !errors.Is(err, problem.NotFound) {
		t.Errorf("no such tweet: %v", err)
	}
}

// There are three ways to take back a retweet. Each leaves a tombstone, reduces the count once, and allows a new retweet.
func TestARetweetCanBeTakenBackInThreeWays(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", ""), user(t, d, "bob", "")
	source := post(t, db, ada, "hello")
	for name, undo := range map[string]func(retweet int64) error{
		"undo by its source": func(int64) error { return db.UndoRetweet(t.Context(), store.Author{ID: bob}, source) },
		"undo by its own id": func(retweet int64) error { return db.UndoRetweet(t.Context(), store.Author{ID: bob}, retweet) },
		"delete it":          func(retweet int64) error { return db.DeleteTweet(t.Context(), retweet, store.Author{ID: bob}) },
	} {
		answer, err := db.Retweet(t.Context(), store.NewRetweet{UserID: bob, TweetID: source}, idempotency.Key{}, posted)
		if err != nil {
			t.Fatal(err)
		}
		if n := retweets(t, db, source); n != 1 {
			t.Errorf("%s: counted %d before", name, n)
		}
		if err := undo(idOf(t, answer)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := db.UndoRetweet(t.Context(), store.Author{ID: bob}, source); err != nil {
			t.Errorf("%s, and again: %v", name, err)
		}
		if n := retweets(t, db, source); n != 0 {
			t.Errorf("%s: counted %d after", name, n)
		}
		if n := query[int](t, d, `select count(*) from tweets where id = $1 and author_id = $2 and deleted_at is not null`, idOf(t, answer), bob); n != 1 {
			t.Errorf("%s: no tombstone", name)
		}
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.deleted.v1'`); n != 3 {
		t.Errorf("%d events of a deletion, want one each", n)
	}
}

func TestConcurrentRetweetsByOneUserMakeOne(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	source := post(t, db, ada, "hello")
	bodies := make([]string, 20)
	var all sync.WaitGroup
	for i := range bodies {
		all.Go(func() {
			a, err := db.Retweet(t.Context(), store.NewRetweet{UserID: ada, TweetID: source}, idempotency.Key{}, posted)
			if err != nil {
				t.Error(err)
			}
			bodies[i] = string(a.Body)
		})
	}
	all.Wait()
	for _, body := range bodies {
		if body != bodies[0] {
			t.Errorf("%s and %s", body, bodies[0])
		}
	}
	if n := query[int](t, d, `select retweets from tweet_counts`); n != 1 {
		t.Errorf("counted %d", n)
	}
}

func TestConcurrentRetweetsAndLikesByManyUsersAreAllCounted(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	source := post(t, db, user(t, d, "ada", ""), "hello")
	exec(t, d, `insert into users (id, username, name) select i, 'u' || i, 'U' from generate_series(1, 50) i`)
	for _, c := range []struct {
		do    func(userID int64) (idempotency.Answer, error)
		undo  func(ctx context.Context, user store.Author, tweetID int64) error
		count func(*testing.T, *store.DB, int64) int
	}{
		{func(id int64) (idempotency.Answer, error) {
			return db.Retweet(t.Context(), store.NewRetweet{UserID: id, TweetID: source}, idempotency.Key{}, posted)
		}, db.UndoRetweet, retweets},
		{func(id int64) (idempotency.Answer, error) {
			return db.Like(t.Context(), store.NewLike{UserID: id, TweetID: source}, idempotency.Key{}, liked)
		}, db.UndoLike, likes},
	} {
		var all sync.WaitGroup
		for id := range int64(50) {
			all.Go(func() {
				if _, err := c.do(id + 1); err != nil {
					t.Error(err)
				}
				if id%2 == 0 {
					if err := c.undo(t.Context(), store.Author{ID: id + 1}, source); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if n := c.count(t, db, source); n != 25 {
			t.Errorf("counted %d", n)
		}
	}
}

func TestListsOfRetweetsArePaged(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	source := post(t, db, user(t, d, "ada", ""), "hello")
	var own, users []int64 // of the retweets
	for _, name := range []string{"bob", "cyd", "dan"} {
		u := user(t, d, name, "")
		a, err := db.Retweet(t.Context(), store.NewRetweet{UserID: u, TweetID: source}, idempotency.Key{}, posted)
		if err != nil {
			t.Fatal(err)
		}
		own, users = append(own, idOf(t, a)), append(users, u)
	}
	for _, tt := range []struct {
		page store.Page
		want []int64
	}{
		{store.Page{Limit: 10}, []int64{2, 1, 0}},
		{store.Page{Limit: 2}, []int64{2, 1}},
		{store.Page{Limit: 2, Before: own[1]}, []int64{0}},
		{store.Page{Limit: 1, After: own[0], Oldest: true}, []int64{1}},
		{store.Page{Limit: 2, After: own[0], Oldest: true}, []int64{2, 1}},
		{store.Page{Limit: 10, Horizon: own[0]}, []int64{0}},
		{store.Page{Limit: 10, Horizon: own[0], Reader: users[2]}, []int64{2, 0}},
	} {
		by, err := db.RetweetedBy(t.Context(), source, tt.page)
		if err != nil {
			t.Fatal(err)
		}
		tweets, err := db.Retweets(t.Context(), source, tt.page)
		if err != nil {
			t.Fatal(err)
		}
		var gotUsers, gotTweets, wantUsers, wantTweets []int64
		for _, r := range by {
			gotUsers = append(gotUsers, r.Item.ID)
		}
		for _, r := range tweets {
			gotTweets = append(gotTweets, r.ID)
		}
		for _, i := range tt.want {
			wantUsers, wantTweets = append(wantUsers, users[i]), append(wantTweets, own[i])
		}
		if !slices.Equal(gotUsers, wantUsers) || !slices.Equal(gotTweets, wantTweets) {
			t.Errorf("%+v: %v %v, want %v %v", tt.page, gotUsers, gotTweets, wantUsers, wantTweets)
		}
	}
	if err := db.DeleteTweet(t.Context(), own[1], store.Author{ID: users[1]}); err != nil {
		t.Fatal(err)
	}
	if list, err := db.Retweets(t.Context(), source, store.Page{Limit: 10}); err != nil || len(list) != 2 || list[0].Text != "RT @ada: hello" {
		t.Errorf("after one was deleted: %+v %v", list, err)
	}
}
