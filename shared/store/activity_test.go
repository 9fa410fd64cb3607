package store_test

import (
	"errors"
	"testing"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func TestOneActivityRowPerUserAndDay(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	ada := user(t, d, "ada", "")
	for _, db := range []*store.DB{d.Open(t, pgtest.API), d.Open(t, pgtest.Auth)} {
		for range 3 {
			if err := db.Seen(t.Context(), ada); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := query[int](t, d, `select count(*) from activity where day = (now() at time zone 'utc')::date`); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestATokenOfAMissingUserIsRefused(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	id := post(t, db, user(t, d, "ada", ""), "hello")
	const nobody = 1
	if err := db.Seen(t.Context(), nobody); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("seen: %v", err)
	}
	if _, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: nobody, Text: "x"}, idempotency.Key{}, posted); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("tweet: %v", err)
	}
	if _, err := db.Retweet(t.Context(), store.NewRetweet{UserID: nobody, TweetID: id}, idempotency.Key{}, posted); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("retweet: %v", err)
	}
}
