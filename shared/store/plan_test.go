package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// reads is what PostgreSQL has counted of a database's tables.
type reads struct {
	sequential map[string]int64 // scans of a whole table, by table
	entries    int64            // index entries read, in all
}

// readsOf returns the counts once every session of a login has ended, for a session adds its own when it does.
func readsOf(t *testing.T, d pgtest.Database, login string) reads {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); query[int](t, d, `select count(*) from pg_stat_activity where usename = $1 and datname = current_database()`, login) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("a session does not end")
		}
	}
	r := reads{sequential: make(map[string]int64)}
	rows, _ := connect(t, d, pgtest.Owner).Query(t.Context(), `
		select relname, seq_scan, coalesce((select sum(idx_tup_read) from pg_stat_user_indexes i where i.relid = s.relid), 0)
		from pg_stat_user_tables s`)
	var (
		table      string
		sequential int64
		entries    int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&table, &sequential, &entries}, func() error {
		r.sequential[table] = sequential
		r.entries += entries
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// small are tables that stay small, which are read whole, and rightly.
var small = map[string]bool{"communities": true, "schema_version": true, "relays": true, "outbox_leases": true, "dead_letters": true}

// crowd fills the database: 10 000 users in 4 communities, 100 000 tweets of which every tenth is a retweet and every
// fiftieth deleted, as many likes, most of a few, and as many events, keys, sessions and failures as they leave behind.
const crowd = `
	insert into users (id, username, name, community)
	select n::bigint << 22, 'u' || n, 'User', (array['gophers', 'pythonistas', 'rustaceans', 'sres'])[1 + n % 4]
	from generate_series(1, 10000) n;

	insert into credentials (user_id, email, password_hash)
	select id, username || '@example.org', ''
	from users;

	insert into tweets (id, author_id, community, text, retweet_of, deleted_at)
	select n << 22, u.id, u.community,
		case when n % 10 = 0 or n % 50 = 1 then '' else 'hello' end,
		case when n % 10 = 0 then (n - 8) << 22 end,
		case when n % 50 = 1 then now() end
	from generate_series(20001::bigint, 120000) n
	join users u on u.id = (1 + n * 7919 % 10000) << 22;

	insert into tweet_counts (tweet_id, retweets)
	select retweet_of, count(*)
	from tweets
	where retweet_of is not null
	group by retweet_of;

	insert into likes (user_id, tweet_id)
	select u.id, (20001 + n * 13 % 100000) << 22
	from generate_series(1::bigint, 90000) n
	join users u on u.id = (1 + n * 7919 % 10000) << 22
	where (20001 + n * 13 % 100000) % 10 <> 0;

	insert into likes (user_id, tweet_id)
	select id, 60002::bigint << 22
	from users
	where id % 3 = 0
	on conflict do nothing;

	insert into likes (user_id, tweet_id)
	select 7::bigint << 22, id
	from tweets
	where retweet_of is null and deleted_at is null
	limit 500
	on conflict do nothing;

	insert into outbox (user_id, type, data)
	select author_id, '', '{}'
	from tweets;

	insert into idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
	select author_id, 'POST /2/tweets', id::text, '', 201, '{}', now() - interval '1 second' * (row_number() over ())
	from tweets
	limit 50000;

	insert into activity (user_id, day)
	select id, current_date - d
	from users, generate_series(1, 5) d;

	insert into exposures (experiment, user_id, unit, assigned, served, revision, generation)
	select 'e' || e, id, id::text, 'control', 'control', 'like-00001', 1
	from users, generate_series(1, 5) e;

	insert into outcomes (experiment, arm, start, pod, requests, errors)
	select 'e1', arm, now() - n * interval '10 s', 'edge', 100, 1
	from unnest(array['control', 'treatment']) arm, generate_series(1, 20000) n;

	insert into latencies (experiment, arm, start, service, pod, buckets)
	select experiment, arm, start, 'like', 'like', array[1, 2, 3]
	from outcomes;

	insert into refresh_tokens (token_hash, family, user_id, expires_at)
	select sha256(convert_to(n::text, 'UTF8')), n, u.id, now() + interval '1 minute' * n
	from generate_series(1, 20000) n
	join users u on u.id = (1 + n % 10000)::bigint << 22;

	insert into login_failures (account, network, failures)
	select sha256(convert_to(username, 'UTF8')), '192.0.2.0/24', 1
	from users;

	insert into known_networks (account, network)
	select account, network
	from login_failures`

// No query of the API may read a table from end to end, nor more of an index than a small multiple of what it answers:
// 100 000 tweets must cost what 100 do. EXPLAIN would show what is planned for a statement copied into a test; this shows
// what PostgreSQL did with the statements as they are sent, prepared and often enough for a generic plan.
func TestNoQueryReadsMoreAsTheTablesGrow(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	for _, statement := range strings.Split(crowd, ";") {
		exec(t, d, statement)
	}
	exec(t, d, `vacuum analyze`)
	const (
		user   = int64(7) << 22
		source = int64(60002) << 22 // retweeted
		page   = 100
		most   = 12 // index entries that a statement about one row reads, foreign keys included
	)
	if n := query[int](t, d, `select count(*) from tweets`); n != 100_000 {
		t.Fatalf("%d tweets", n)
	}
	var (
		tweets, users []int64
		names         []string
	)
	for n := range int64(page) {
		tweets, users, names = append(tweets, (30003+n)<<22), append(users, (1+n)<<22), append(names, fmt.Sprint("u", n+1))
	}
	times := 0
	key := func() store.Key {
		times++
		return store.Key{Route: "POST /2/tweets", Key: fmt.Sprint("key", times), Fingerprint: []byte("f")}
	}
	list := func(_ any, err error) error { return err }
	tests := []struct {
		name  string
		login string
		most  int64
		call  func(db *store.DB) error
	}{
		{"user's tweets", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.UserTweets(t.Context(), user, store.Page{Limit: page}))
		}},
		{"user's tweets, a page back", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.UserTweets(t.Context(), user, store.Page{Limit: page, After: 30000 << 22, Oldest: true}))
		}},
		{"home timeline", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.CommunityTweets(t.Context(), "gophers", store.Page{Limit: page}))
		}},
		{"home timeline, deep", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.CommunityTweets(t.Context(), "gophers", store.Page{Limit: page, Before: 60000 << 22, ExcludeRetweets: true}))
		}},
		{"lookup", pgtest.API, 4 * page, func(db *store.DB) error { return list(db.Tweets(t.Context(), tweets)) }},
		{"retweeted by", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.RetweetedBy(t.Context(), source, store.Page{Limit: page}))
		}},
		{"source", pgtest.API, most, func(db *store.DB) error { return list(db.Source(t.Context(), source)) }},
		{"liking users", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.LikingUsers(t.Context(), source, store.Page{Limit: page}))
		}},
		{"liked tweets", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.LikedTweets(t.Context(), user, store.Page{Limit: page}))
		}},
		{"liked tweets, a page back", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.LikedTweets(t.Context(), user, store.Page{Limit: page, After: 1, Oldest: true}))
		}},
		{"users", pgtest.API, 2 * page, func(db *store.DB) error { return list(db.Users(t.Context(), users)) }},
		{"users by username", pgtest.API, 2 * page, func(db *store.DB) error { return list(db.UsersByUsername(t.Context(), names)) }},
		{"seen", pgtest.API, most, func(db *store.DB) error { times++; return db.Seen(t.Context(), int64(times)<<22) }},
		{"exposure", pgtest.API, most, func(db *store.DB) error {
			times++
			return db.Expose(t.Context(), store.Exposure{Experiment: "new", UserID: int64(times) << 22, Unit: "gophers", Assigned: "control", Served: "control"})
		}},
		{"exposure again, and in the other arm", pgtest.API, most, func(db *store.DB) error {
			times++
			return db.Expose(t.Context(), store.Exposure{Experiment: "e1", UserID: int64(times) << 22, Unit: "gophers", Assigned: "treatment", Served: "control"})
		}},
		{"a window's latencies, and once more", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			w := []experiment.Latencies{{Experiment: "e1", Arm: experiment.Control, Service: "like", Start: time.Unix(int64(times/2)*10, 0), Buckets: []int64{1}}}
			return db.RecordLatencies(t.Context(), "pod", w)
		}},
		{"a window's outcomes, and once more", pgtest.Ops, 2 * most, func(db *store.DB) error {
			times++
			w := []experiment.Outcomes{{Experiment: "e1", Arm: experiment.Control, Start: time.Unix(int64(times/2)*10, 0), Requests: 1}}
			return db.RecordOutcomes(t.Context(), "pod", w)
		}},
		{"tweet with a key", pgtest.API, most, func(db *store.DB) error {
			return list(db.CreateTweet(t.Context(), store.NewTweet{AuthorID: user, Community: "gophers", Text: "x"}, key(), posted))
		}},
		{"tweet with a known key", pgtest.API, most, func(db *store.DB) error {
			k := store.Key{Route: "POST /2/tweets", Key: "again", Fingerprint: []byte("f")}
			return list(db.CreateTweet(t.Context(), store.NewTweet{AuthorID: user, Community: "gophers", Text: "x"}, k, posted))
		}},
		{"retweet", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			return list(db.Retweet(t.Context(), store.NewRetweet{UserID: int64(times) << 22, TweetID: source}, key(), posted))
		}},
		{"retweet again", pgtest.API, 2 * most, func(db *store.DB) error {
			return list(db.Retweet(t.Context(), store.NewRetweet{UserID: 5000 << 22, TweetID: source}, key(), posted))
		}},
		{"undo a retweet", pgtest.API, 2 * most, func(db *store.DB) error { return db.UndoRetweet(t.Context(), 5000<<22, source) }},
		{"like", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			return list(db.Like(t.Context(), store.NewLike{UserID: int64(times) << 22, TweetID: source + 1<<22}, key(), liked))
		}},
		{"like again", pgtest.API, 2 * most, func(db *store.DB) error {
			return list(db.Like(t.Context(), store.NewLike{UserID: 5000 << 22, TweetID: source}, key(), liked))
		}},
		{"take a like back", pgtest.API, 2 * most, func(db *store.DB) error { return db.UndoLike(t.Context(), 5000<<22, source) }},
		{"feedback", pgtest.API, most, func(db *store.DB) error {
			return list(db.CreateFeedback(t.Context(), store.NewFeedback{UserID: user, Score: 5}, key(), posted))
		}},
		{"delete", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			id := int64(50000+10*times+3) << 22
			return db.DeleteTweet(t.Context(), id, query[int64](t, d, `select author_id from tweets where id = $1`, id))
		}},
		{"sweep of keys", pgtest.API, most, func(db *store.DB) error { return db.SweepKeys(t.Context()) }},
		{"sweep of accounts", pgtest.Auth, most, func(db *store.DB) error { return db.SweepAccounts(t.Context()) }},
		{"look into the outbox", pgtest.Ops, 12 * store.Partitions * 2, func(db *store.DB) error { return list(db.UnpublishedEvents(t.Context(), all(), nil, 4, 2)) }},
		{"look past those in hand", pgtest.Ops, 12 * store.Partitions * 2, func(db *store.DB) error {
			return list(db.UnpublishedEvents(t.Context(), all(), users, 4, 2))
		}},
		{"look into an empty partition", pgtest.Ops, 0, func(db *store.DB) error {
			return list(db.UnpublishedEvents(t.Context(), []store.Cursor{{Partition: 0, UserID: 1 << 60}}, nil, 4, 2))
		}},
		{"delete a hundred events", pgtest.Ops, 2 * page, func(db *store.DB) error {
			events, err := db.UnpublishedEvents(t.Context(), []store.Cursor{{Partition: 1}}, nil, 1, 1)
			if err != nil {
				return err
			}
			ids := []int64{events[0].ID}
			for n := range int64(page - 1) {
				ids = append(ids, n)
			}
			return db.DeleteEvents(t.Context(), ids)
		}},
		{"lease", pgtest.Ops, 4 * store.Partitions, func(db *store.DB) error { return list(db.LeasePartitions(t.Context(), "r", time.Minute)) }},
		{"backlog", pgtest.Ops, most, func(db *store.DB) error { return list(db.Backlog(t.Context())) }},
		{"bury an event", pgtest.Ops, most, func(db *store.DB) error { return db.BuryEvent(t.Context(), 1, "") }},
		{"register", pgtest.Auth, most, func(db *store.DB) error {
			times++
			name := fmt.Sprint("new", times)
			return list(db.CreateAccount(t.Context(), store.NewAccount{Email: name + "@example.org", Username: name, Name: "x", Community: "sres", RefreshHash: []byte(name), Network: "192.0.2.0/24"}))
		}},
		{"login", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			l, err := db.BeginLogin(t.Context(), "u77@example.org", "198.51.100.0/24")
			if err != nil {
				return err
			}
			return db.FinishLogin(t.Context(), l, fmt.Append(nil, "session", times), "")
		}},
		{"failed login", pgtest.Auth, most, func(db *store.DB) error {
			times++
			l, err := db.BeginLogin(t.Context(), fmt.Sprintf("u%d@example.org", times), "198.51.100.0/24")
			if err != nil {
				return err
			}
			return db.FailLogin(t.Context(), l)
		}},
		{"refresh", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			return list(db.RotateRefresh(t.Context(), query[[]byte](t, d, `select token_hash from refresh_tokens where family = $1`, 5000+times), fmt.Append(nil, "next", times)))
		}},
		{"logout", pgtest.Auth, most, func(db *store.DB) error {
			times++
			return db.EndSession(t.Context(), query[[]byte](t, d, `select token_hash from refresh_tokens where family = $1 limit 1`, 6000+times))
		}},
	}
	// PostgreSQL chooses between a custom and a generic plan from the sixth time on. One connection each, or none would
	// send a statement so often.
	const calls = 10
	for _, tt := range tests {
		before := readsOf(t, d, tt.login)
		db, err := store.Open(d.URL(tt.login), 1)
		if err != nil {
			t.Fatal(err)
		}
		db.Limit(time.Minute)
		for range calls {
			if err := tt.call(db); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		db.Close()
		after := readsOf(t, d, tt.login)
		for table, n := range after.sequential {
			if scans := n - before.sequential[table]; scans > 0 && !small[table] {
				t.Errorf("%s: %d scans of all of %s in %d calls", tt.name, scans, table, calls)
			}
		}
		if entries := (after.entries - before.entries) / calls; entries > tt.most {
			t.Errorf("%s: %d index entries a call, want at most %d", tt.name, entries, tt.most)
		} else {
			t.Logf("%s: %d index entries a call", tt.name, entries)
		}
	}
}
