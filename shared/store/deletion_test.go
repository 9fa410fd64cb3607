package store_test

import (
	"errors"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// dump returns the whole content of a database as text.
func dump(t *testing.T, d pgtest.Database) string {
	t.Helper()
	text, err := osexec.CommandContext(t.Context(), "pg_dump", "--dbname", d.URL(pgtest.Owner)).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v: expected PostgreSQL's client programs in PATH", err)
	}
	return string(text)
}

// TestADeletedAccountIsHiddenImmediatelyAndRemovedWithinADay checks the database. Rows that metrics count stay.
func TestADeletedAccountIsHiddenImmediatelyAndRemovedWithinADay(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	auth, api, ops := d.Open(t, pgtest.Auth), d.Open(t, pgtest.API), d.Open(t, pgtest.Ops)
	ada, err := auth.CreateAccount(t.Context(), store.NewAccount{
		Email: "countess@example.org", PasswordHash: "$secrethash", Username: "enchantress", Name: "Augusta King", Community: "gophers",
		RefreshHash: []byte("refresh-token"), From: store.Client{Network: "203.0.113.0/24", UserAgent: "her-phone"},
	})
	if err != nil {
		t.Fatal(err)
	}
	bob := account(t, d, "bob")
	author := store.Author{ID: ada.User.ID, Session: ada.Session}
	mine, theirs := post(t, api, ada.User.ID, "a private confession"), post(t, api, bob.User.ID, "of bob")
	for _, err := range []error{
		errorOf(api.Retweet(t.Context(), store.NewRetweet{UserID: ada.User.ID, TweetID: theirs}, idempotency.Key{}, posted)),
		errorOf(api.Retweet(t.Context(), store.NewRetweet{UserID: bob.User.ID, TweetID: mine}, idempotency.Key{}, posted)),
		errorOf(api.Like(t.Context(), store.NewLike{UserID: ada.User.ID, TweetID: theirs}, idempotency.Key{}, liked)),
		errorOf(api.CreateFeedback(t.Context(), store.NewFeedback{UserID: ada.User.ID, Score: 2, Text: "a private opinion"}, idempotency.Key{Route: "r", Key: "k", Fingerprint: []byte("f")}, posted)),
		api.Seen(t.Context(), ada.User.ID),
		ops.BuryEvent(t.Context(), query[int64](t, d, `select min(id) from outbox where user_id = $1`, ada.User.ID), "refused"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	attempt, err := auth.BeginLogin(t.Context(), "countess@example.org", store.Client{Network: "198.51.100.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.FailLogin(t.Context(), attempt); err != nil {
		t.Fatal(err)
	}
	counts := `select array[
		(select count(*) from tweets where author_id = $1), (select count(*) from likes where user_id = $1),
		(select sum(score) from feedback where user_id = $1), (select count(*) from activity where user_id = $1)]::text`
	before := query[string](t, d, counts, ada.User.ID)

	if err := auth.DeleteAccount(t.Context(), author); err != nil {
		t.Fatal(err)
	}
	if err := auth.DeleteAccount(t.Context(), author); !errors.Is(err, problem.Unauthenticated) {
		t.Errorf("deleted twice: %v", err)
	}
	hidden := func(when string) {
		t.Helper()
		users, err := api.Users(t.Context(), []int64{ada.User.ID})
		byName, err2 := api.UsersByUsername(t.Context(), []string{"enchantress"})
		tweets, err3 := api.Tweets(t.Context(), []int64{mine})
		own, err4 := api.UserTweets(t.Context(), ada.User.ID, store.Page{Limit: 9})
		home, err5 := api.CommunityTweets(t.Context(), "gophers", store.Page{Limit: 9})
		likers, err6 := api.LikingUsers(t.Context(), theirs, store.Page{Limit: 9})
		retweeters, err7 := api.RetweetedBy(t.Context(), theirs, store.Page{Limit: 9})
		if err := errors.Join(err, err2, err3, err4, err5, err6, err7); err != nil {
			t.Fatal(err)
		}
		if n := len(users) + len(byName) + len(tweets) + len(own) + len(likers) + len(retweeters); n != 0 || len(home) != 1 {
			t.Errorf("%s: %d rows of hers are found, and %d tweets of her community's: want 0 and 1", when, n, len(home))
		}
		if err := api.HasUser(t.Context(), ada.User.ID); !errors.Is(err, problem.NotFound) {
			t.Errorf("%s: her user: %v", when, err)
		}
		if err := errorOf(api.Like(t.Context(), store.NewLike{UserID: bob.User.ID, TweetID: mine}, idempotency.Key{}, liked)); !errors.Is(err, problem.NotFound) {
			t.Errorf("%s: a like of her tweet: %v", when, err)
		}
		if err := errorOf(api.Retweet(t.Context(), store.NewRetweet{UserID: bob.User.ID, TweetID: mine}, idempotency.Key{}, posted)); !errors.Is(err, problem.NotFound) {
			t.Errorf("%s: a retweet of her tweet: %v", when, err)
		}
	}
	hidden("at once")

	if err := ops.FinishDeletions(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, d, `select count(*) from deletions where finished_at is not null`); n != 0 {
		t.Error("finished within a minute, while writes that began before may still run")
	}
	exec(t, d, `update deletions set requested_at = now() - interval '23 hours'`)
	if err := ops.FinishDeletions(t.Context()); err != nil {
		t.Fatal(err)
	}
	hidden("a day later")
	if after := query[string](t, d, counts, ada.User.ID); after != before {
		t.Errorf("what metrics count: %s before, %s after", before, after)
	}
	left := dump(t, d)
	for _, trace := range []string{"countess", "secrethash", "enchantress", "Augusta", "private confession", "private opinion", "her-phone", "203.0.113", "198.51.100",
		query[string](t, d, `select encode('refresh-token', 'hex')`)} {
		for line := range strings.Lines(left) {
			if strings.Contains(line, trace) {
				t.Errorf("%q is left: %s", trace, line)
			}
		}
	}
	if !strings.Contains(left, "of bob") || !strings.Contains(left, "bob@example.org") {
		t.Error("the dump lacks what is bob's: it proves nothing")
	}
	if n := query[int](t, d, `select count(*) from outbox where user_id = $1 and type = 'dev.warble.user.deleted.v1'`, ada.User.ID); n != 1 {
		t.Errorf("%d events of the deletion, want 1", n)
	}
	if n := query[int](t, d, `select coalesce(sum(retweets) + sum(likes), 0) from tweet_counts where tweet_id = $1`, theirs); n != 0 {
		t.Errorf("her retweet and like still count: %d", n)
	}
	if _, err := auth.CreateAccount(t.Context(), store.NewAccount{Email: "x@example.org", Username: "Enchantress", Name: "x", RefreshHash: []byte("x")}); !errors.Is(err, problem.Conflict) {
		t.Errorf("the username is given again: %v", err)
	}
	// The release before scans the row as any other.
	if name := query[string](t, d, `select username from users where id = $1`, ada.User.ID); !strings.HasPrefix(name, "deleted_") || len(name) != 15 {
		t.Errorf("username %q", name)
	}
}

// In a restored database, deleted accounts are deleted again, with the same result.
func TestARestoredAccountIsDeletedAgainLikeTheFirstTime(t *testing.T) {
	t.Parallel()
	left := make(map[string][]string)
	for way, remove := range map[string]func(pgtest.Database, store.Author) error{
		"first": func(d pgtest.Database, author store.Author) error {
			return d.Open(t, pgtest.Auth).DeleteAccount(t.Context(), author)
		},
		"again": func(d pgtest.Database, author store.Author) error {
			n, err := store.DeleteAgain(t.Context(), connect(t, d, pgtest.Owner), []int64{author.ID, author.ID + 1})
			if n != 1 {
				t.Errorf("%d accounts are deleted again, want 1", n)
			}
			return err
		},
	} {
		d := pgtest.New(t)
		auth := d.Open(t, pgtest.Auth)
		ada, bob := account(t, d, "ada"), account(t, d, "bob")
		post(t, d.Open(t, pgtest.API), ada.User.ID, "a private confession")
		for _, name := range []string{"ada", "bob", "nobody"} {
			attempt, err := auth.BeginLogin(t.Context(), name+"@example.org", store.Client{Network: "198.51.100.0/24"})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(auth.FailLogin(t.Context(), attempt), auth.RequestReset(t.Context(), name+"@example.org")); err != nil {
				t.Fatal(err)
			}
		}
		// An address of hers from before: its mail has another hash.
		exec(t, d, `insert into mail_requests (kind, address, user_id) values ('verify', address_hash('old@example.org'), $1)`, ada.User.ID)
		if err := remove(d, store.Author{ID: ada.User.ID, Session: ada.Session}); err != nil {
			t.Fatal(err)
		}
		rows := column(t, d, `
			select relname || ' ' || (xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %I', relname), false, true, '')))[1]
			from pg_class
			where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'outbox'
			union all
			select 'sessions that go on ' || count(*) from sessions where revoked_at is null
			union all
			select 'deleted users ' || count(*) from users where deleted_at is not null
			order by 1`)
		left[way] = rows
		for _, table := range []string{"login_failures where account", "known_networks where account", "mail_requests where address"} {
			if n := query[int](t, d, `select count(*) from `+table+` = address_hash('ada@example.org')`); n != 0 {
				t.Errorf("%s: %d rows of hers in %s", way, n, table)
			}
			if n := query[int](t, d, `select count(*) from `+table+` = address_hash('bob@example.org')`); n == 0 {
				t.Errorf("%s: bob's rows are gone from %s", way, table)
			}
		}
		if n := query[int](t, d, `select count(*) from mail_requests where user_id = $1`, ada.User.ID); n != 0 {
			t.Errorf("%s: %d requests of mail of hers", way, n)
		}
		if n := query[int](t, d, `select count(*) from credentials where user_id = $1`, bob.User.ID); n != 1 {
			t.Errorf("%s: bob cannot log in", way)
		}
	}
	if diff := cmp.Diff(left["first"], left["again"]); diff != "" {
		t.Errorf("rows that are left (-first +again): %s", diff)
	}
}

func TestALargeAccountIsDeletedInBatches(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	auth, ops := d.Open(t, pgtest.Auth), d.Open(t, pgtest.Ops)
	ada, bob := account(t, d, "ada"), account(t, d, "bob")
	exec(t, d, `insert into tweets (author_id, text) select u, 'x' from generate_series(1, 2500), unnest(array[$1::bigint, $2]) u`, ada.User.ID, bob.User.ID)
	exec(t, d, `insert into tweet_counts (tweet_id, retweets) select id, 1 from tweets where author_id = $1`, bob.User.ID)
	exec(t, d, `insert into tweets (author_id, text, retweet_of) select $1, '', id from tweets where author_id = $2`, ada.User.ID, bob.User.ID)
	if err := auth.DeleteAccount(t.Context(), store.Author{ID: ada.User.ID}); err != nil {
		t.Fatal(err)
	}
	exec(t, d, `update deletions set requested_at = now() - interval '2 minutes'`)
	for range 2 { // two relays
		if err := ops.FinishDeletions(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := query[int](t, d, `select count(*) from tweets where author_id = $1 and (deleted_at is null or text <> '')`, ada.User.ID); n != 0 {
		t.Errorf("%d tweets are left", n)
	}
	if n := query[int](t, d, `select sum(retweets) from tweet_counts`); n != 0 {
		t.Errorf("%d retweets are counted", n)
	}
	if n := query[int](t, d, `select count(*) from tweets where author_id = $1 and deleted_at is null`, bob.User.ID); n != 2500 {
		t.Errorf("bob has %d tweets, want 2500", n)
	}
	if n := query[int](t, d, `select count(*) from deletions where finished_at is not null`); n != 1 {
		t.Errorf("%d deletions are finished, want 1", n)
	}
}

// finish_deletion runs with its owner's rights, so it must refuse accounts that are not in the table of deletions.
func TestOnlyDeletedAccountsAreFinished(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	ada := account(t, d, "ada")
	if _, err := connect(t, d, pgtest.Ops).Exec(t.Context(), `select finish_deletion($1, 10)`, ada.User.ID); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, d, `select count(*) from users where username = 'ada' and name = 'ada'`); n != 1 {
		t.Error("an account that nobody deleted is gone")
	}
	for _, login := range []string{pgtest.API, pgtest.Auth} {
		if _, err := connect(t, d, login).Exec(t.Context(), `select finish_deletion($1, 10)`, ada.User.ID); err == nil {
			t.Errorf("%s may finish a deletion", login)
		}
	}
}

// errorOf returns the second of two results.
func errorOf[T any](_ T, err error) error { return err }
