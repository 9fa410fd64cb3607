package store_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"warble/shared/env"
	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
)

// beginnings returns a cursor at the beginning of every partition.
func beginnings() (from []store.Cursor) {
	for p := range int16(store.Partitions) {
		from = append(from, store.Cursor{Partition: p})
	}
	return from
}

// happened writes n events of each user, in turn. Their data is {"n": 1}, {"n": 2} and so on.
func happened(t *testing.T, d pgtest.Database, users []int64, n int) {
	t.Helper()
	exec(t, d, `
		insert into outbox (user_id, type, data)
		select u, 'dev.warble.test', jsonb_build_object('n', n)
		from generate_series(1, $2::int) n, unnest($1::bigint[]) u
		order by n, u`, users, n)
}

func TestPartitionsAreLeasedToOneRelayAndSharedAmongThoseAlive(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	lease := func(relay string, ttl time.Duration) []int16 {
		t.Helper()
		mine, err := db.LeasePartitions(t.Context(), relay, ttl)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(mine)
		return mine
	}
	expect := func(what string, got []int16, first, last int16) {
		t.Helper()
		want := []int16{}
		for p := first; p <= last; p++ {
			want = append(want, p)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	expect("the only one takes all", lease("a", time.Minute), 0, 15)
	expect("nothing is left", lease("b", time.Minute), 0, -1)
	expect("the other is seen, and half renewed", lease("a", time.Minute), 0, 7)
	expect("the rest has not expired", lease("b", time.Minute), 0, -1)
	exec(t, d, `update outbox_leases set expires_at = now() - interval '1 ms' where partition > 7`)
	expect("now it has", lease("b", time.Minute), 8, 15)
	expect("each renews its own", lease("a", time.Minute), 0, 7)
	expect("each renews its own", lease("b", time.Minute), 8, 15)

	exec(t, d, `update outbox_leases set expires_at = now() - interval '1 ms' where relay = 'b'`)
	exec(t, d, `update relays set expires_at = now() - interval '1 ms' where name = 'b'`)
	expect("b is dead, and a has all", lease("a", time.Minute), 0, 15)
	expect("b wakes up", lease("b", time.Minute), 0, -1)
	if err := db.ReleasePartitions(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	expect("what is given up need not expire", lease("b", time.Minute), 0, 15)
}

func TestNoPartitionIsLeasedTwice(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	var (
		mu     sync.Mutex
		owners = make(map[int16][]string)
		all    sync.WaitGroup
	)
	for n := range 8 {
		db, name := d.Open(t, pgtest.Ops), fmt.Sprint("relay", n)
		all.Go(func() {
			for range 20 {
				mine, err := db.LeasePartitions(t.Context(), name, time.Minute)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				for _, p := range mine {
					if !slices.Contains(owners[p], name) {
						owners[p] = append(owners[p], name)
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for p := range int16(store.Partitions) {
		if len(owners[p]) != 1 { // a minute has not passed, so nobody may have lost one
			t.Errorf("partition %d was leased to %v", p, owners[p])
		}
	}
}

func TestEventsAreFoundUserByUser(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	if none, err := db.UnpublishedEvents(t.Context(), beginnings(), nil, 3, 3); err != nil || len(none) != 0 {
		t.Errorf("%v, %v in an empty outbox", none, err)
	}
	// Users 1 to 5 of partition 0, user 1 of partition 3.
	users := []int64{16 << 22, 32 << 22, 48 << 22, 64 << 22, 80 << 22}
	happened(t, d, append(users, 3<<22), 5)
	look := func(from []store.Cursor, except []int64) (found string) {
		t.Helper()
		events, err := db.UnpublishedEvents(t.Context(), from, except, 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			found += fmt.Sprintf("%d:%d%s ", e.Partition, e.UserID>>22, e.Data)
		}
		return found
	}
	two := func(partition, user int) string {
		return fmt.Sprintf(`%[1]d:%[2]d{"n": 1} %[1]d:%[2]d{"n": 2} `, partition, user)
	}
	for _, tt := range []struct {
		from   []store.Cursor
		except []int64
		want   string
	}{
		{beginnings(), nil, two(0, 16) + two(0, 32) + two(0, 48) + two(3, 3)},
		{[]store.Cursor{{UserID: 48 << 22}}, nil, two(0, 64) + two(0, 80)},
		{[]store.Cursor{{UserID: 80 << 22}}, nil, ""},
		{[]store.Cursor{{}}, []int64{16 << 22, 48 << 22, 64 << 22}, two(0, 32) + two(0, 80)},
		{[]store.Cursor{{Partition: 3}, {Partition: 4}}, nil, two(3, 3)},
		{nil, nil, ""},
	} {
		if diff := cmp.Diff(tt.want, look(tt.from, tt.except)); diff != "" {
			t.Errorf("from %v, except %v: %s", tt.from, tt.except, diff)
		}
	}
}

func TestAnEventIsDeletedOrBuriedAndReplayedUnchanged(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	happened(t, d, []int64{1 << 22}, 3)
	exec(t, d, `update outbox set traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', created_at = now() - interval '25 hours'`)
	look := func() []store.Event {
		t.Helper()
		events, err := db.UnpublishedEvents(t.Context(), beginnings(), nil, 10, 10)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	before := look()
	for range 2 { // the second time, they are gone
		if err := db.DeleteEvents(t.Context(), []int64{before[0].ID}); err != nil {
			t.Fatal(err)
		}
		if err := db.BuryEvent(t.Context(), before[1].ID, "400"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before[2:], look()); diff != "" {
		t.Error(diff)
	}
	if b, err := db.Backlog(t.Context()); err != nil || b.DeadLetters != 1 || b.Age < 25*time.Hour || b.Age > 26*time.Hour {
		t.Errorf("%+v, %v", b, err)
	}
	if reason := query[string](t, d, `select reason from dead_letters`); reason != "400" {
		t.Errorf("reason %q", reason)
	}
	conn := connect(t, d, pgtest.Owner)
	for _, want := range []int64{1, 0} {
		if n, err := store.ReplayDeadLetters(t.Context(), conn); err != nil || n != want {
			t.Errorf("%d replayed, %v, want %d", n, err, want)
		}
	}
	if diff := cmp.Diff(before[1:], look()); diff != "" {
		t.Error(diff)
	}
	if err := db.DeleteEvents(t.Context(), []int64{before[1].ID, before[2].ID}); err != nil {
		t.Fatal(err)
	}
	if b, err := db.Backlog(t.Context()); err != nil || b != (store.Backlog{}) {
		t.Errorf("%+v, %v of an empty outbox", b, err)
	}
}

func TestReplayHandlesMoreThanOneBatch(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `
		insert into dead_letters (id, user_id, type, data, created_at, reason)
		select n, n, 't', '{}', now(), ''
		from generate_series(1, 2500) n`)
	if n, err := store.ReplayDeadLetters(t.Context(), connect(t, d, pgtest.Owner)); err != nil || n != 2500 {
		t.Errorf("%d, %v", n, err)
	}
	if n := query[int](t, d, `select count(*) from outbox`); n != 2500 {
		t.Errorf("%d in the outbox", n)
	}
}

func TestOnlyOpsReadsTheOutboxAndNobodyChangesIt(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	for _, login := range []string{pgtest.API, pgtest.Auth, pgtest.Ops} {
		for _, sql := range []string{
			`select from outbox`, `delete from outbox`, `select from dead_letters`, `insert into relays values ('x', now())`, `update outbox_leases set relay = 'x'`,
		} {
			err := pgtest.Exec(t.Context(), d.URL(login), sql)
			if (err == nil) != (login == pgtest.Ops) {
				t.Errorf("%s: %s: %v", login, sql, err)
			}
		}
		for _, sql := range []string{`update outbox set user_id = 1`, `delete from dead_letters`, `insert into outbox_leases values (16)`, `delete from outbox_leases`} {
			if err := pgtest.Exec(t.Context(), d.URL(login), sql); err == nil {
				t.Errorf("%s may %s", login, sql)
			}
		}
	}
}

// The event of a deletion belongs to the trace of its request, like every other event.
func TestADeletionKeepsItsTrace(t *testing.T) {
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	tweet, source := post(t, db, ada, "x"), post(t, db, ada, "y")
	if _, err := db.Retweet(t.Context(), store.NewRetweet{UserID: ada, TweetID: source}, idempotency.Key{}, posted); err != nil {
		t.Fatal(err)
	}
	tel := telemetry.FromEnv(env.New(func(name string) (string, bool) { return "127.0.0.1", name == "DD_AGENT_HOST" }), "test", "test")
	tel.Log = zerolog.Nop() // nobody is there to take the traces
	tel.Start()
	defer tel.Close()
	handler := tel.Trace(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if err := errors.Join(db.DeleteTweet(r.Context(), tweet, store.Author{ID: ada}), db.UndoRetweet(r.Context(), store.Author{ID: ada}, source)); err != nil {
			t.Error(err)
		}
	}), func(*http.Request) string { return "/" })
	request := httptest.NewRequest(http.MethodDelete, "/", nil)
	request.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	handler.ServeHTTP(httptest.NewRecorder(), request)
	if n := query[int](t, d, `select count(*) from outbox where type = 'dev.warble.tweet.deleted.v1' and traceparent ~ '^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-01$'`); n != 2 {
		t.Errorf("%d of 2 deletions have the trace of their request", n)
	}
}
