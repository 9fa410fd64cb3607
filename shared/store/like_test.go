package store_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

var liked = store.Body{Status: 200, Before: `{"data":{"liked":true}}`}

// likes returns the number of likes that a tweet shows.
func likes(t *testing.T, db *store.DB, id int64) int {
	t.Helper()
	tweets, err := db.Tweets(t.Context(), []int64{id})
	if err != nil || len(tweets) != 1 {
		t.Fatalf("%v %v", tweets, err)
	}
	return tweets[0].LikeCount
}

func like(t *testing.T, db *store.DB, user, tweet int64) {
	t.Helper()
	if _, err := db.Like(t.Context(), store.NewLike{UserID: user, TweetID: tweet}, idempotency.Key{}, liked); err != nil {
		t.Fatal(err)
	}
}

func TestLikesAreNaturallyIdempotent(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", ""), user(t, d, "bob", "")
	source := post(t, db, ada, "hello")
	retweet, err := db.Retweet(t.Context(), store.NewRetweet{UserID: ada, TweetID: source}, idempotency.Key{}, posted)
	if err != nil {
		t.Fatal(err)
	}
	try := func(tweet int64, key string) (idempotency.Answer, error) {
		return db.Like(t.Context(), store.NewLike{UserID: bob, TweetID: tweet}, idempotency.Key{Route: "r", Key: key, Fingerprint: []byte("f")}, liked)
	}
	for _, tt := range []struct {
		tweet    int64
		key      string
		replayed bool
	}{{source, "", false}, {source, "", false}, {source, "k", false}, {source, "k", true}, {idOf(t, retweet), "", false}, {42, "k", true}} {
		if again, err := try(tt.tweet, tt.key); err != nil || string(again.Body) != liked.Before || again.Status != 200 || again.Replayed != tt.replayed {
			t.Errorf("%+v: %+v %v", tt, again, err)
		}
	}
	if n := likes(t, db, source); n != 1 {
		t.Errorf("counted %d", n)
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.liked.v1'`); n != 1 {
		t.Errorf("%d events", n)
	}
	for _, key := range []string{"", "other"} {
		if _, err := try(42, key); !errors.Is(err, problem.NotFound) {
			t.Errorf("no such tweet, key %q: %v", key, err)
		}
	}
	if n := query[int](t, d, `select count(*) from idempotency_keys where key = 'other'`); n != 0 {
		t.Error("a key is kept for nothing")
	}
	if _, err := db.Like(t.Context(), store.NewLike{UserID: 42, TweetID: source}, idempotency.Key{}, liked); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("no such user: %v", err)
	}
}

// Taking back a like leaves a tombstone, reduces the count once, and allows a new like.
func TestALikeCanBeTakenBack(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", ""), user(t, d, "bob", "")
	source := post(t, db, ada, "hello")
	retweet, err := db.Retweet(t.Context(), store.NewRetweet{UserID: ada, TweetID: source}, idempotency.Key{}, posted)
	if err != nil {
		t.Fatal(err)
	}
	for tombstones, by := range []int64{source, idOf(t, retweet)} {
		like(t, db, bob, source)
		if n := likes(t, db, source); n != 1 {
			t.Errorf("counted %d before", n)
		}
		for range 2 {
			if err := db.UndoLike(t.Context(), store.Author{ID: bob}, by); err != nil {
				t.Error(err)
			}
		}
		if n := likes(t, db, source); n != 0 {
			t.Errorf("counted %d after", n)
		}
		if n := query[int](t, d, `select count(*) from likes where user_id = $1 and tweet_id = $2 and deleted_at is not null`, bob, source); n != tombstones+1 {
			t.Errorf("%d tombstones, want %d", n, tombstones+1)
		}
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.unliked.v1'`); n != 2 {
		t.Errorf("%d events of likes taken back, want one each", n)
	}
}

func TestConcurrentLikesByOneUserMakeOne(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	source := post(t, db, ada, "hello")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := db.Like(t.Context(), store.NewLike{UserID: ada, TweetID: source}, idempotency.Key{}, liked); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := query[int](t, d, `select likes from tweet_counts`); n != 1 {
		t.Errorf("counted %d", n)
	}
	if n := query[int](t, d, `select count(*) from likes`); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestListsOfLikesArePaged(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	source := post(t, db, ada, "0")
	likers := []int64{user(t, d, "bob", ""), user(t, d, "cyd", ""), user(t, d, "dan", "")}
	for _, liker := range likers {
		like(t, db, liker, source)
	}
	newest := []int64{post(t, db, ada, "3"), post(t, db, ada, "2"), post(t, db, ada, "1")} // the latest liked is the first posted
	slices.Reverse(newest)
	for _, tweet := range slices.Backward(newest) {
		like(t, db, ada, tweet)
	}
	gone := post(t, db, ada, "gone")
	like(t, db, ada, gone)
	if err := db.DeleteTweet(t.Context(), gone, store.Author{ID: ada}); err != nil {
		t.Fatal(err)
	}
	names := func(page store.Page) (names []string, own []int64) {
		t.Helper()
		list, err := db.LikingUsers(t.Context(), source, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			names, own = append(names, l.Item.Username), append(own, l.Position)
		}
		return names, own
	}
	texts := func(page store.Page) (texts []string, own []int64) {
		t.Helper()
		list, err := db.LikedTweets(t.Context(), ada, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			texts, own = append(texts, l.Item.Text), append(own, l.Position)
		}
		return texts, own
	}
	for name, list := range map[string]struct {
		read  func(store.Page) ([]string, []int64)
		want  []string
		liker int64 // the newest one
	}{
		"liking users": {names, []string{"dan", "cyd", "bob"}, likers[2]},
		"liked tweets": {texts, []string{"1", "2", "3"}, ada},
	} {
		_, own := list.read(store.Page{Limit: 10}) // ids of the likes
		for _, tt := range []struct {
			page store.Page
			want []string
		}{
			{store.Page{Limit: 10}, list.want},
			{store.Page{Limit: 2}, list.want[:2]},
			{store.Page{Limit: 2, Before: own[1]}, list.want[2:]},
			{store.Page{Limit: 1, After: own[2], Oldest: true}, list.want[1:2]},
			{store.Page{Limit: 2, After: own[2], Oldest: true}, list.want[:2]},
			{store.Page{Limit: 10, Horizon: own[1]}, list.want[1:]},
			{store.Page{Limit: 10, Horizon: own[1], Reader: list.liker}, list.want},
			{store.Page{Limit: 10, Horizon: own[1], Reader: source}, list.want[1:]},
		} {
			if got, _ := list.read(tt.page); !slices.Equal(got, tt.want) {
				t.Errorf("%s, %+v: %v, want %v", name, tt.page, got, tt.want)
			}
		}
	}
}
