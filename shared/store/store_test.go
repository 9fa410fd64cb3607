package store_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/clocktest"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// connect opens a connection as login.
func connect(t *testing.T, d pgtest.Database, login string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL(login))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// query returns the first column of the first row. It reads as the owner.
func query[T any](t *testing.T, d pgtest.Database, sql string, args ...any) (value T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL(pgtest.Owner))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// exec runs statements as the owner.
func exec(t *testing.T, d pgtest.Database, sql string, args ...any) {
	t.Helper()
	if err := pgtest.Exec(t.Context(), d.URL(pgtest.Owner), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// user makes a user and returns the id.
func user(t *testing.T, d pgtest.Database, name, community string) int64 {
	t.Helper()
	return query[int64](t, d, `insert into users (username, name, community) values ($1, $1, nullif($2, '')) returning id`, name, community)
}

var posted = store.Body{Status: 201, Before: `{"data":{"id":"`, After: `"}}`}

// post makes a tweet and returns its id.
func post(t *testing.T, db *store.DB, author int64, text string) int64 {
	t.Helper()
	a, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: author, Community: "gophers", Text: text}, idempotency.Key{}, posted)
	if err != nil {
		t.Fatal(err)
	}
	return idOf(t, a)
}

func idOf(t *testing.T, a idempotency.Answer) int64 {
	t.Helper()
	digits, ok := strings.CutPrefix(string(a.Body), posted.Before)
	id, err := strconv.ParseInt(strings.TrimSuffix(digits, posted.After), 10, 64)
	if !ok || err != nil {
		t.Fatalf("answer %q", a.Body)
	}
	return id
}

func TestReadyNeedsTheMigrationsThatTheBinaryKnows(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	if err := db.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		sql   string
		ready bool
	}{
		{`update schema_version set version = 1000`, true}, // a newer release has been here
		{`update schema_version set version = 1`, false},
	} {
		exec(t, d, tt.sql)
		if err := db.Ready(t.Context()); (err == nil) != tt.ready {
			t.Errorf("%s: %v", tt.sql, err)
		}
	}
	exec(t, d, `drop table schema_version`)
	if err := db.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "run migrate") {
		t.Errorf("no schema: %v", err)
	}
}

func TestADatabaseThatGoesAwayIsReportedWithinTwoSecondsAndUsedAgainLater(t *testing.T) {
	t.Parallel()
	server, folder := ownServer(t)
	db, err := store.Open(server.Superuser("postgres"), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	db.Limit(time.Minute)
	conn, err := store.Connect(t.Context(), server.Superuser("postgres"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Communities(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	db.Limit(store.CallTimeout)
	ask := func() time.Duration { return clocktest.Took(func() { _, err = db.Communities(t.Context()) }) }
	for range 5 {
		if took := ask(); !errors.Is(err, problem.Unavailable) || took > 2*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	}
	startServer(t, folder) // on the same socket
	for waited := ask(); err != nil; waited += ask() {
		if waited > 2*time.Second {
			t.Fatalf("not back after %s: %v", waited, err)
		}
	}
}

// A server that hangs is worse than one that refuses, because only a timeout ends the call.
func TestADatabaseThatHangsIsReportedWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	db.Limit(store.CallTimeout)
	ada := user(t, d, "ada", "")
	blocker := connect(t, d, pgtest.Owner)
	if _, err := blocker.Exec(t.Context(), `begin; lock table tweets in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	var err error
	took := clocktest.Took(func() {
		_, err = db.CreateTweet(t.Context(), store.NewTweet{AuthorID: ada, Text: "x"}, idempotency.Key{}, posted)
	})
	if !errors.Is(err, problem.Unavailable) || took > 2*time.Second {
		t.Errorf("%v after %s", err, took)
	}
	if _, err := blocker.Exec(t.Context(), `rollback`); err != nil {
		t.Fatal(err)
	}
	db.Limit(time.Minute)
	post(t, db, ada, "and on it goes")
}
