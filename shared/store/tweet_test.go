package store_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func TestATweetAndItsEventAreOneStatement(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "gophers")
	answer, err := db.CreateTweet(t.Context(),
		store.NewTweet{AuthorID: ada, Community: "gophers", Text: "hello", Traceparent: "00-1-2-01"}, idempotency.Key{}, posted)
	if err != nil || answer.Replayed || answer.Status != 201 {
		t.Fatalf("%+v %v", answer, err)
	}
	id := idOf(t, answer)
	want := map[string]any{
		"type":        "dev.warble.tweet.posted.v1",
		"partition":   float64(ada >> 22 & 15),
		"user":        strconv.FormatInt(ada, 10),
		"traceparent": "00-1-2-01",
		"id":          strconv.FormatInt(id, 10),
		"community":   "gophers",
		"text":        "hello",
	}
	got := query[map[string]any](t, d, `
		select jsonb_build_object(
			'type', type,
			'partition', partition,
			'user', user_id::text,
			'traceparent', traceparent,
			'id', data->>'id',
			'community', data->>'community',
			'text', data->>'text')
		from outbox`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	tweets, err := db.Tweets(t.Context(), []int64{id, 1})
	if err != nil || len(tweets) != 1 || time.Since(tweets[0].CreatedAt).Abs() > time.Minute {
		t.Fatalf("%+v %v", tweets, err)
	}
	if diff := cmp.Diff(store.Tweet{ID: id, AuthorID: ada, Text: "hello", CreatedAt: tweets[0].CreatedAt}, tweets[0]); diff != "" {
		t.Error(diff)
	}
}

// Users register milliseconds apart, so the low bits of their ids are nearly always the same.
func TestEventsSpreadOverThePartitions(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `
		insert into outbox (user_id, type, data)
		select (1000000 + 137 * i)::bigint << 22, '', '{}'
		from generate_series(1, 1600) i`)
	if fewest := query[int](t, d, `select case when count(*) = 16 then min(events) else 0 end from (select count(*) as events from outbox group by partition) p`); fewest < 50 {
		t.Errorf("a partition has %d of 1600 events", fewest)
	}
}

func TestADeletedTweetLeavesATombstone(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", "gophers"), user(t, d, "bob", "gophers")
	id := post(t, db, ada, "secret")
	retweet, err := db.Retweet(t.Context(), store.NewRetweet{UserID: bob, Community: "gophers", TweetID: id}, idempotency.Key{}, posted)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteTweet(t.Context(), id, store.Author{ID: bob}); !errors.Is(err, problem.Forbidden) {
		t.Errorf("another's: %v", err)
	}
	if err := db.DeleteTweet(t.Context(), id, store.Author{ID: ada}); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteTweet(t.Context(), id, store.Author{ID: ada}); !errors.Is(err, problem.NotFound) {
		t.Errorf("again: %v", err)
	}
	if kept := query[string](t, d, `select author_id || '[' || text || ']' from tweets where id = $1 and deleted_at is not null`, id); kept != strconv.FormatInt(ada, 10)+"[]" {
		t.Errorf("tombstone %s", kept)
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.deleted.v1' and data->>'id' = $1`, strconv.FormatInt(id, 10)); n != 1 {
		t.Errorf("%d events of the deletion", n)
	}
	for name, list := range map[string]func() ([]store.Tweet, error){
		"lookup": func() ([]store.Tweet, error) { return db.Tweets(t.Context(), []int64{id, idOf(t, retweet)}) },
		"home timeline": func() ([]store.Tweet, error) {
			return db.CommunityTweets(t.Context(), "gophers", store.Page{Limit: 10})
		},
		"bob's tweets": func() ([]store.Tweet, error) { return db.UserTweets(t.Context(), bob, store.Page{Limit: 10}) },
	} {
		if tweets, err := list(); err != nil || len(tweets) != 0 {
			t.Errorf("%s still shows %+v, %v", name, tweets, err)
		}
	}
	if _, err := db.Retweet(t.Context(), store.NewRetweet{UserID: ada, TweetID: id}, idempotency.Key{}, posted); !errors.Is(err, problem.NotFound) {
		t.Errorf("retweeting it: %v", err)
	}
	for _, u := range []int64{ada, bob} {
		if err := db.DeleteTweet(t.Context(), idOf(t, retweet), store.Author{ID: u}); !errors.Is(err, problem.NotFound) {
			t.Errorf("deleting the retweet that nobody sees: %v", err)
		}
	}
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.deleted.v1'`); n != 1 {
		t.Errorf("%d events of deletions", n)
	}
}

// The schema itself makes sure that a text does not outlive its tweet.
func TestATombstoneCannotHaveAText(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	post(t, d.Open(t, pgtest.API), user(t, d, "ada", ""), "secret")
	if err := pgtest.Exec(t.Context(), d.URL(pgtest.API), `update tweets set deleted_at = now()`); err == nil {
		t.Error("a deleted tweet kept its text")
	}
}
