package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/experiment"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// reads has PostgreSQL's counts of reads of a database's tables.
type reads struct {
	sequential map[string]int64 // scans of a whole table, by table
	entries    int64            // index entries read, in all
}

// readsOf returns the counts after every session of a login has ended, because a session adds its counts when it ends.
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

// small are tables that stay small, so that reading them as a whole is right.
var small = map[string]bool{"communities": true, "schema_version": true, "relays": true, "outbox_leases": true, "dead_letters": true,
	"experiments": true, "experiment_transitions": true}

// crowd fills the database with 10 000 users in 4 communities and 100 000 tweets, of which every tenth is a retweet and every
// fiftieth is deleted. It adds as many likes, most of them for few tweets, and the events, keys, sessions and failures that all
// this leaves behind.
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

	insert into experiments (name, spec, salt, planned_units, started_at)
	select 'e' || n, '{"metrics": {"guardrails": [{"name": "slow_share", "over": "250ms", "margin": "1pp"}]}}', 's', 0, now()
	from generate_series(1, 10) n;

	insert into windows (experiment, step, service, arm, start, requests, errors, slow)
	select name, 0, service, arm, '2026-11-01Z'::timestamptz + n * interval '10 s', 100, 1, '{2}'
	from experiments, unnest(array['like', 'tweet']) service, unnest(array['control', 'treatment']) arm, generate_series(1, 3000) n;

	insert into buckets (experiment, step, service, arm, bucket, requests, errors, slow)
	select name, step, service, arm, bucket, 100, 1, '{2}'
	from experiments, generate_series(0, 4) step, unnest(array['like', 'tweet']) service, unnest(array['control', 'treatment']) arm, generate_series(0, 31) bucket;

	insert into windows_taken (experiment, start, pod, taken_at)
	select 'e' || e, now() - n * interval '10 s', 'edge', now() - n * interval '10 s'
	from generate_series(1, 10) e, generate_series(1, 1000) n;

	insert into latencies (experiment, arm, start, service, pod, buckets)
	select experiment, arm, start, service, 'like', array[1, 2, 3]
	from windows;

	insert into refresh_tokens (token_hash, family, user_id, expires_at)
	select sha256(convert_to(n::text, 'UTF8')), n, u.id, now() + interval '1 minute' * n
	from generate_series(1, 20000) n
	join users u on u.id = (1 + n % 10000)::bigint << 22;

	insert into feedback (user_id, score, text)
	select id, 4, 'fine'
	from users;

	insert into retired_usernames (hash)
	select username_hash('gone' || n)
	from generate_series(1, 2000) n;

	insert into deletions (user_id, finished_at)
	select id, now()
	from users
	where id < 2000::bigint << 22;

	insert into sessions (id, user_id)
	select family, user_id
	from refresh_tokens;

	insert into login_failures (account, network, failures)
	select sha256(convert_to(username, 'UTF8')), '192.0.2.0/24', 1
	from users;

	insert into known_networks (account, network)
	select account, network
	from login_failures;

	insert into mail_requests (kind, address, user_id, created_at)
	select kind, address_hash(username || '@example.org'), id, now() - interval '1 s' * (row_number() over ())
	from users, unnest(array['verify', 'reset']) kind;

	insert into mail_tokens (token_hash, request)
	select sha256(convert_to(user_id::text || kind, 'UTF8')), id
	from mail_requests`

// mailToken returns the token of a mail of the crowd.
func mailToken(user int, kind string) []byte {
	hash := sha256.Sum256([]byte(strconv.FormatInt(int64(user)<<22, 10) + kind))
	return hash[:]
}

// No query of the API may read a whole table, or more of an index than a small multiple of what it returns: with 100 000 tweets it
// must cost as much as with 100. EXPLAIN would show the plan of a statement copied into a test. This test shows what PostgreSQL
// really does with the statements as they are sent: prepared, and often enough for a generic plan.
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
	key := func() idempotency.Key {
		times++
		return idempotency.Key{Route: "POST /2/tweets", Key: fmt.Sprint("key", times), Fingerprint: []byte("f")}
	}
	list := func(_ any, err error) error { return err }
	read := func(p store.Page) store.Page { // as functions do
		p.Limit, p.Horizon, p.Reader = page, 1<<60, user
		return p
	}
	tests := []struct {
		name  string
		login string
		most  int64
		call  func(db *store.DB) error
	}{
		{"user's tweets", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.UserTweets(t.Context(), user, read(store.Page{})))
		}},
		{"user's tweets, a page back", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.UserTweets(t.Context(), user, read(store.Page{After: 30000 << 22, Oldest: true})))
		}},
		{"home timeline", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.CommunityTweets(t.Context(), "gophers", read(store.Page{})))
		}},
		{"home timeline, deep", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.CommunityTweets(t.Context(), "gophers", read(store.Page{Before: 60000 << 22, ExcludeRetweets: true})))
		}},
		{"lookup", pgtest.API, 4 * page, func(db *store.DB) error { return list(db.Tweets(t.Context(), tweets)) }},
		{"retweeted by", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.RetweetedBy(t.Context(), source, read(store.Page{})))
		}},
		{"retweets", pgtest.API, 5 * page, func(db *store.DB) error { return list(db.Retweets(t.Context(), source, read(store.Page{}))) }},
		{"horizon", pgtest.API, 0, func(db *store.DB) error { return list(db.Horizon(t.Context())) }},
		{"source", pgtest.API, most, func(db *store.DB) error { return list(db.Source(t.Context(), source)) }},
		{"liking users", pgtest.API, 4 * page, func(db *store.DB) error {
			return list(db.LikingUsers(t.Context(), source, read(store.Page{})))
		}},
		{"liked tweets", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.LikedTweets(t.Context(), user, read(store.Page{})))
		}},
		{"liked tweets, a page back", pgtest.API, 5 * page, func(db *store.DB) error {
			return list(db.LikedTweets(t.Context(), user, read(store.Page{After: 1, Oldest: true})))
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
		{"a count period's latencies, and once more", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			w := []experiment.Latencies{{Experiment: "e1", Arm: experiment.Control, Service: "like", Start: time.Unix(int64(times/2)*10, 0), Counts: []int64{1}}}
			return db.RecordLatencies(t.Context(), "pod", w)
		}},
		{"a count period's outcomes, and once more", pgtest.Ops, 2 * most, func(db *store.DB) error {
			times++
			return db.RecordOutcomes(t.Context(), "pod", []experiment.Outcomes{counted(experiment.Control, times/2, 1)})
		}},
		{"an experiment's count periods", pgtest.Ops, 4 * 3000, func(db *store.DB) error {
			return db.Snapshot(t.Context(), func(ctx context.Context, s *store.Snapshot) error {
				span := store.Span{Experiment: "e3", Begin: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), End: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
				return list(s.Periods(ctx, ratio(t, experiment.ErrorShare), span, 0))
			})
		}},
		{"an experiment's buckets", pgtest.Ops, 5*4*32 + most, func(db *store.DB) error {
			return db.Snapshot(t.Context(), func(ctx context.Context, s *store.Snapshot) error {
				return list(s.Buckets(ctx, ratio(t, experiment.SlowShare), "e3", 250*time.Millisecond))
			})
		}},
		{"sweep of count periods", pgtest.Ops, most, func(db *store.DB) error { return db.SweepPeriods(t.Context()) }},
		{"tweet with a key", pgtest.API, most, func(db *store.DB) error {
			return list(db.CreateTweet(t.Context(), store.NewTweet{AuthorID: user, Community: "gophers", Text: "x"}, key(), posted))
		}},
		{"tweet with a known key", pgtest.API, most, func(db *store.DB) error {
			k := idempotency.Key{Route: "POST /2/tweets", Key: "again", Fingerprint: []byte("f")}
			return list(db.CreateTweet(t.Context(), store.NewTweet{AuthorID: user, Community: "gophers", Text: "x"}, k, posted))
		}},
		{"retweet", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			return list(db.Retweet(t.Context(), store.NewRetweet{UserID: int64(times) << 22, TweetID: source}, key(), posted))
		}},
		{"retweet again", pgtest.API, 2 * most, func(db *store.DB) error {
			return list(db.Retweet(t.Context(), store.NewRetweet{UserID: 5000 << 22, TweetID: source}, key(), posted))
		}},
		{"undo a retweet", pgtest.API, 2 * most, func(db *store.DB) error { return db.UndoRetweet(t.Context(), store.Author{ID: 5000 << 22}, source) }},
		{"like", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			return list(db.Like(t.Context(), store.NewLike{UserID: int64(times) << 22, TweetID: source + 1<<22}, key(), liked))
		}},
		{"like again", pgtest.API, 2 * most, func(db *store.DB) error {
			return list(db.Like(t.Context(), store.NewLike{UserID: 5000 << 22, TweetID: source}, key(), liked))
		}},
		{"take a like back", pgtest.API, 2 * most, func(db *store.DB) error { return db.UndoLike(t.Context(), store.Author{ID: 5000 << 22}, source) }},
		{"feedback", pgtest.API, most, func(db *store.DB) error {
			return list(db.CreateFeedback(t.Context(), store.NewFeedback{UserID: user, Score: 5}, key(), posted))
		}},
		{"delete", pgtest.API, 2 * most, func(db *store.DB) error {
			times++
			id := int64(50000+10*times+3) << 22
			return db.DeleteTweet(t.Context(), id, store.Author{ID: query[int64](t, d, `select author_id from tweets where id = $1`, id)})
		}},
		{"sweep of keys", pgtest.API, most, func(db *store.DB) error { return db.SweepKeys(t.Context()) }},
		{"sweep of accounts", pgtest.Auth, most, func(db *store.DB) error { return db.SweepAccounts(t.Context()) }},
		{"look into the outbox", pgtest.Ops, 12 * store.Partitions * 2, func(db *store.DB) error { return list(db.UnpublishedEvents(t.Context(), beginnings(), nil, 4, 2)) }},
		{"look past those in hand", pgtest.Ops, 12 * store.Partitions * 2, func(db *store.DB) error {
			return list(db.UnpublishedEvents(t.Context(), beginnings(), users, 4, 2))
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
			return list(db.CreateAccount(t.Context(), store.NewAccount{Email: name + "@example.org", Username: name, Name: "x", Community: "sres", RefreshHash: []byte(name), From: store.Client{Network: "192.0.2.0/24"}}))
		}},
		{"login", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			l, err := db.BeginLogin(t.Context(), "u77@example.org", store.Client{Network: "198.51.100.0/24"})
			if err != nil {
				return err
			}
			return list(db.FinishLogin(t.Context(), l, fmt.Append(nil, "session", times), ""))
		}},
		{"failed login", pgtest.Auth, most, func(db *store.DB) error {
			times++
			l, err := db.BeginLogin(t.Context(), fmt.Sprintf("u%d@example.org", times), store.Client{Network: "198.51.100.0/24"})
			if err != nil {
				return err
			}
			return db.FailLogin(t.Context(), l)
		}},
		{"refresh", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			return list(db.RotateRefresh(t.Context(), store.Client{}, query[[]byte](t, d, `select token_hash from refresh_tokens where family = $1`, 5000+times), fmt.Append(nil, "next", times)))
		}},
		{"refresh once more", pgtest.Auth, 3 * most, func(db *store.DB) error {
			used, next := query[[]byte](t, d, `select token_hash from refresh_tokens where family = $1 and token_hash <> 'next of 4000'`, 4000), []byte("next of 4000")
			if err := list(db.RotateRefresh(t.Context(), store.Client{}, used, next)); err != nil {
				return err
			}
			return list(db.RotateRefresh(t.Context(), store.Client{}, used, []byte("of another key"), next))
		}},
		{"sessions", pgtest.Auth, most, func(db *store.DB) error { return list(db.Sessions(t.Context(), user)) }},
		{"end a session", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			id := int64(7000 + times)
			return db.EndSessionByID(t.Context(), store.Author{ID: query[int64](t, d, `select user_id from sessions where id = $1`, id)}, id)
		}},
		{"end other sessions", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			return db.EndOtherSessions(t.Context(), store.Author{ID: int64(8000+times) << 22})
		}},
		{"change a password", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			l, err := db.BeginLogin(t.Context(), fmt.Sprintf("u%d@example.org", 8500+times), store.Client{Network: "198.51.100.0/24"})
			if err != nil {
				return err
			}
			return db.ChangePassword(t.Context(), store.Author{ID: l.User.ID}, l, "changed")
		}},
		{"own tweets", pgtest.Auth, store.ExportPage, func(db *store.DB) error { return list(db.OwnTweets(t.Context(), user, 0)) }},
		{"own likes", pgtest.Auth, store.ExportPage, func(db *store.DB) error { return list(db.OwnLikes(t.Context(), 7<<22, 0)) }},
		{"own feedback", pgtest.Auth, store.ExportPage, func(db *store.DB) error { return list(db.OwnFeedback(t.Context(), user, 0)) }},
		{"own days", pgtest.Auth, store.ExportPage, func(db *store.DB) error { return list(db.OwnDays(t.Context(), user, time.Time{})) }},
		{"delete an account", pgtest.Auth, 4 * most, func(db *store.DB) error {
			times++
			return db.DeleteAccount(t.Context(), store.Author{ID: int64(9000+times) << 22})
		}},
		{"finish a deletion", pgtest.Ops, page, func(db *store.DB) error {
			exec(t, d, `update deletions set requested_at = now() - interval '2 minutes' where user_id = (select min(user_id) from deletions where finished_at is null)`)
			return db.FinishDeletions(t.Context())
		}},
		{"ask for a mail", pgtest.Auth, most, func(db *store.DB) error { return db.RequestReset(t.Context(), "u77@example.org") }},
		{"ask for another verification", pgtest.Auth, 2 * most, func(db *store.DB) error {
			times++
			return db.AskVerification(t.Context(), store.Author{ID: int64(9900+times%50) << 22})
		}},
		{"send a mail", pgtest.Mail, most, func(db *store.DB) error {
			times++
			request := query[int64](t, d, `select id from mail_requests where user_id = $1 and kind = 'reset' and finished_at is null`, int64(9500+times)<<22)
			if _, send, err := db.BeginMail(t.Context(), request, fmt.Append(nil, "mail", times)); err != nil || !send {
				return fmt.Errorf("request %d: send %t, %w", request, send, err)
			}
			return errors.Join(db.ReleaseMail(t.Context(), request), db.FinishMail(t.Context(), request, true))
		}},
		{"verify an email", pgtest.Auth, most, func(db *store.DB) error {
			times++
			return db.VerifyEmail(t.Context(), mailToken(9600+times, "verify"))
		}},
		{"reset a password", pgtest.Auth, 3 * most, func(db *store.DB) error {
			times++
			hash := mailToken(9700+times, "reset")
			if _, _, err := db.Resetter(t.Context(), hash); err != nil {
				return err
			}
			return db.ResetPassword(t.Context(), hash, "reset")
		}},
		{"whether an email is verified", pgtest.API, most, func(db *store.DB) error {
			times++
			db.PostsFromEnv(onlyVerified)
			if err := db.MayPost(t.Context(), int64(9800+times)<<22); !errors.Is(err, problem.Forbidden) {
				return fmt.Errorf("%w: want a 403", err)
			}
			return nil
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
