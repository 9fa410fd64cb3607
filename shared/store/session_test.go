package store_test

import (
	"errors"
	"testing"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// account makes an account and returns its first session.
func account(t *testing.T, d pgtest.Database, name string) store.Opened {
	t.Helper()
	opened, err := d.Open(t, pgtest.Auth).CreateAccount(t.Context(), store.NewAccount{
		Email: name + "@example.org", Username: name, Name: name, Community: "gophers", RefreshHash: []byte(name),
		From: store.Client{Network: "192.0.2.0/24", UserAgent: "curl/8.14"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// Every write checks, in its own statement, whether its session was ended or its author deleted.
func TestNoWriteSucceedsAfterTheEndOfItsSession(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"the session was ended":   `update sessions set revoked_at = now()`,
		"the account was deleted": `update users set deleted_at = now() where username = 'ada'`,
		"the account is not here": `perform 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := pgtest.New(t)
			db := d.Open(t, pgtest.API)
			ada := account(t, d, "ada")
			mine, others := post(t, db, ada.User.ID, "mine"), post(t, db, user(t, d, "bob", ""), "another's")
			author := store.Author{ID: ada.User.ID, Session: ada.Session}
			if end == `perform 1` {
				author.ID = 42
			}
			exec(t, d, `do $$ begin `+end+`; end $$`)
			key := func(k string) idempotency.Key {
				return idempotency.Key{Session: author.Session, Route: "r", Key: k, Fingerprint: []byte("f")}
			}
			for _, k := range []string{"", "k"} {
				for what, write := range map[string]func() error{
					"tweet": func() error {
						_, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: author.ID, Text: "x"}, key(k), posted)
						return err
					},
					"retweet": func() error {
						_, err := db.Retweet(t.Context(), store.NewRetweet{UserID: author.ID, TweetID: others}, key(k), posted)
						return err
					},
					"like": func() error {
						_, err := db.Like(t.Context(), store.NewLike{UserID: author.ID, TweetID: others}, key(k), liked)
						return err
					},
					"feedback": func() error {
						_, err := db.CreateFeedback(t.Context(), store.NewFeedback{UserID: author.ID, Score: 1}, key(k), posted)
						return err
					},
					"delete":         func() error { return db.DeleteTweet(t.Context(), mine, author) },
					"undo a retweet": func() error { return db.UndoRetweet(t.Context(), author, others) },
					"undo a like":    func() error { return db.UndoLike(t.Context(), author, others) },
				} {
					if err := write(); !errors.Is(err, problem.Unauthenticated) {
						t.Errorf("%s, key %q: %v, want unauthenticated", what, k, err)
					}
				}
			}
			if n := query[int](t, d, `select (select count(*) from tweets where deleted_at is null) + (select count(*) from likes) + (select count(*) from feedback) + (select count(*) from idempotency_keys)`); n != 2 {
				t.Errorf("%d rows, want the 2 tweets from before", n)
			}
		})
	}
}

// The tokens of the previous release name no session, and their family has no row until it is refreshed.
func TestASessionOfThePreviousReleaseGetsItsRow(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db, api := d.Open(t, pgtest.Auth), d.Open(t, pgtest.API)
	ada := account(t, d, "ada")
	exec(t, d, `delete from sessions`)
	post(t, api, ada.User.ID, "without a session")
	renewed, err := db.RotateRefresh(t.Context(), store.Client{Network: "198.51.100.0/24", UserAgent: "x"}, []byte("ada"), []byte("next"))
	if err != nil || renewed.Session != ada.Session {
		t.Fatalf("%+v %v, want session %d", renewed, err, ada.Session)
	}
	if n := query[int](t, d, `select count(*) from sessions where id = $1 and user_agent = 'x' and network = '198.51.100.0/24'`, ada.Session); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	// The previous release revokes only tokens.
	exec(t, d, `update refresh_tokens set revoked_at = now()`)
	if _, err := db.RotateRefresh(t.Context(), store.Client{}, []byte("next"), []byte("third")); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("refreshed after the release before revoked it: %v", err)
	}
}
