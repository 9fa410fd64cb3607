package store_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"warble/shared/clocktest"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

func TestAKeyIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", ""), user(t, d, "bob", "")
	send := func(author int64, change func(*idempotency.Key)) (idempotency.Answer, error) {
		key := idempotency.Key{Route: "POST /2/tweets", Key: "k", Fingerprint: []byte("f")}
		change(&key)
		return db.CreateTweet(t.Context(), store.NewTweet{AuthorID: author, Text: "hello"}, key, posted)
	}
	same := func(*idempotency.Key) {}
	first, err := send(ada, same)
	if err != nil || first.Replayed || first.Status != 201 {
		t.Fatalf("%+v %v", first, err)
	}
	if again, err := send(ada, same); err != nil || !again.Replayed || again.Status != 201 || !bytes.Equal(again.Body, first.Body) {
		t.Errorf("again: %+v %v", again, err)
	}
	if _, err := send(ada, func(k *idempotency.Key) { k.Fingerprint = []byte("g") }); !errors.Is(err, problem.Invalid) {
		t.Errorf("another request: %v", err)
	}
	for name, send := range map[string]func() (idempotency.Answer, error){
		"another user's key":  func() (idempotency.Answer, error) { return send(bob, same) },
		"another route's key": func() (idempotency.Answer, error) { return send(ada, func(k *idempotency.Key) { k.Route = "POST /x" }) },
		"no key":              func() (idempotency.Answer, error) { return send(ada, func(k *idempotency.Key) { k.Key = "" }) },
	} {
		if a, err := send(); err != nil || a.Replayed || bytes.Equal(a.Body, first.Body) {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	if n := query[int](t, d, `select (select count(*) from tweets) * 10 + (select count(*) from outbox)`); n != 44 {
		t.Errorf("tweets and events: %d, want four each", n)
	}
}

func TestAKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	key := idempotency.Key{Route: "POST /2/tweets", Key: "k", Fingerprint: []byte("f")}
	send := func() idempotency.Answer {
		a, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: ada, Text: "x"}, key, posted)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	first := send()
	exec(t, d, `update idempotency_keys set created_at = now() - interval '23 hours 59 minutes'`)
	if a := send(); !a.Replayed || !bytes.Equal(a.Body, first.Body) {
		t.Errorf("within the day: %+v", a)
	}
	exec(t, d, `update idempotency_keys set created_at = now() - interval '24 hours 1 minute'`)
	key.Fingerprint = []byte("g") // a key that no longer counts may serve any request
	second := send()
	if second.Replayed || bytes.Equal(second.Body, first.Body) {
		t.Errorf("after the day: %+v", second)
	}
	if a := send(); !a.Replayed || !bytes.Equal(a.Body, second.Body) {
		t.Errorf("the next day's: %+v", a)
	}
}

func TestAHundredSendsWithOneKeyAcrossProcesses(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	ada := user(t, d, "ada", "")
	pools := []*store.DB{d.Open(t, pgtest.API), d.Open(t, pgtest.API), d.Open(t, pgtest.API)} // as three processes have
	key := idempotency.Key{Route: "POST /2/tweets", Key: "k", Fingerprint: []byte("f")}
	answers := make([]idempotency.Answer, 100)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			var err error
			if answers[i], err = pools[i%3].CreateTweet(t.Context(), store.NewTweet{AuthorID: ada, Text: "x"}, key, posted); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	originals := 0
	for _, a := range answers {
		if !a.Replayed {
			originals++
		}
		if !bytes.Equal(a.Body, answers[0].Body) {
			t.Errorf("%s and %s", a.Body, answers[0].Body)
		}
	}
	if originals != 1 {
		t.Errorf("%d originals", originals)
	}
	if n := query[int](t, d, `select (select count(*) from tweets) * 10 + (select count(*) from outbox)`); n != 11 {
		t.Errorf("tweets and events: %d, want one each", n)
	}
}

func TestAKeyWhoseFirstRequestStillRunsIsAConflict(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	first := connect(t, d, pgtest.Owner)
	if _, err := first.Exec(t.Context(), `begin`); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exec(t.Context(), `insert into idempotency_keys (user_id, route, key, fingerprint, status, body) values ($1, 'r', 'k', 'f', 201, 'first')`, ada); err != nil {
		t.Fatal(err)
	}
	send := func() (idempotency.Answer, error) {
		return db.CreateTweet(t.Context(), store.NewTweet{AuthorID: ada, Text: "x"}, idempotency.Key{Route: "r", Key: "k", Fingerprint: []byte("f")}, posted)
	}
	var err error
	took := clocktest.Took(func() { _, err = send() })
	if p := problem.From(err); p.Kind != problem.Conflict || p.RetryAfter == 0 || took > 2*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	if _, err := first.Exec(t.Context(), `commit`); err != nil {
		t.Fatal(err)
	}
	if a, err := send(); err != nil || !a.Replayed || string(a.Body) != "first" {
		t.Errorf("%+v %v", a, err)
	}
}

func TestAReplayDoesNotDependOnWhatHappenedSince(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada, bob := user(t, d, "ada", ""), user(t, d, "bob", "")
	source := post(t, db, ada, "hello")
	retweet := func() (idempotency.Answer, error) {
		return db.Retweet(t.Context(), store.NewRetweet{UserID: bob, TweetID: source}, idempotency.Key{Route: "r", Key: "k", Fingerprint: []byte("f")}, posted)
	}
	first, err := retweet()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.UndoRetweet(t.Context(), store.Author{ID: bob}, source); err != nil {
		t.Fatal(err)
	}
	if again, err := retweet(); err != nil || !again.Replayed || !bytes.Equal(again.Body, first.Body) {
		t.Errorf("after undoing: %+v %v", again, err)
	}
	if err := db.DeleteTweet(t.Context(), source, store.Author{ID: ada}); err != nil {
		t.Fatal(err)
	}
	if again, err := retweet(); err != nil || !again.Replayed || !bytes.Equal(again.Body, first.Body) {
		t.Errorf("after the tweet is gone: %+v %v", again, err)
	}
	if n := query[int](t, d, `select count(*) from tweets where deleted_at is null`); n != 0 {
		t.Errorf("%d tweets came back", n)
	}
}
