package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// horizonOver polls until the horizon has reached an id, because other tests write to the same server and hold the horizon back.
func horizonOver(t *testing.T, db *store.DB, id int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		horizon, err := db.Horizon(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if horizon >= id {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the horizon is %d, want %d", horizon, id)
		}
	}
}

// If a transaction has drawn an id and not committed, the horizon stays below the id until the transaction ends, or for 2 s. If the
// machine stalls for that long, the test is tried again.
func TestTheHorizonStaysBelowIdsOfRunningTransactions(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	for deadline := time.Now().Add(time.Minute); ; {
		horizonOver(t, db, post(t, db, ada, "before"))
		writer := connect(t, d, pgtest.API)
		began := time.Now()
		if _, err := writer.Exec(t.Context(), `begin`); err != nil {
			t.Fatal(err)
		}
		var early int64
		if err := writer.QueryRow(t.Context(), `select next_id()`).Scan(&early); err != nil {
			t.Fatal(err)
		}
		late := post(t, db, ada, "late")
		var reached int64
		for range 60 {
			horizon, err := db.Horizon(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			reached = max(reached, horizon)
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(began)
		if early >= late {
			t.Fatalf("%d was drawn before %d", early, late)
		}
		if reached >= early && took > 2*time.Second && time.Now().Before(deadline) {
			_, _ = writer.Exec(t.Context(), `rollback`)
			continue
		}
		if reached >= early {
			t.Errorf("the horizon was %d while %d was being written, after %s", reached, early, took)
		}
		horizonOver(t, db, late) // by itself: the transaction goes on
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("the horizon is past a transaction that runs after %s", took)
		}
		if _, err := writer.Exec(t.Context(), `rollback`); err != nil {
			t.Fatal(err)
		}
		return
	}
}

// A process that has never read a list does not show an empty one because somebody is just writing.
func TestTheFirstHorizonIsNotFarBelowTheLastId(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	d.Hold(t, `insert into users (username, name) values ('ada', 'Ada')`)
	exec(t, d, `insert into users (id, username, name) values (id_at(now() - interval '4 s'), 'bob', 'Bob')`)
	bob := query[int64](t, d, `select id from users`)
	last := query[int64](t, d, `select next_id()`)
	horizon, err := d.Open(t, pgtest.API).Horizon(t.Context())
	if err != nil || horizon < bob || horizon > last {
		t.Errorf("the horizon is %d, want %d to %d; %v", horizon, bob, last, err)
	}
}

// No matter how many lists are read, the database is asked about 20 times a second, and up to 20 times more before the first list.
func TestTheHorizonIsNotReadForEachList(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	exec(t, d, `alter database `+query[string](t, d, `select current_database()`)+` set track_functions = 'pl'`)
	db := d.Open(t, pgtest.API)
	began := time.Now()
	lists := 0
	for ; time.Since(began) < 500*time.Millisecond; lists++ {
		if _, err := db.Horizon(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	most := 25 + int(time.Since(began)/(50*time.Millisecond))
	db.Close()
	var calls int
	for deadline := time.Now().Add(time.Minute); calls == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		calls = query[int](t, d, `select coalesce(sum(calls), 0) from pg_stat_user_functions where funcname = 'last_id'`)
	}
	if calls == 0 || calls > most || lists < 10*most {
		t.Errorf("%d calls for %d lists, want at most %d", calls, lists, most)
	}
}

// While 8 connections write, readers ask again and again for rows that are newer than the last one that they have seen. Each reader
// sees every row once.
func TestAReaderOfNewRowsSeesEveryRowOnce(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 100
	d := pgtest.New(t)
	exec(t, d, `insert into users (id, username, name) select n, 'u' || n, 'User' from generate_series(1, 800) n`)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	source := post(t, db, ada, "hello")
	exec(t, d, `insert into tweets (id, author_id, text) select 1000 + n, 1, 'hello' from generate_series(1, 800) n`)

	var writing, reading sync.WaitGroup
	for w := range writers {
		db := d.Open(t, pgtest.API)
		writing.Go(func() {
			for n := int64(w*each + 1); n <= int64((w+1)*each); n++ {
				_, posting := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: n, Community: "sres", Text: "x"}, idempotency.Key{}, posted)
				_, again := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: ada, Text: "x"}, idempotency.Key{}, posted)
				_, liking := db.Like(t.Context(), store.NewLike{UserID: n, TweetID: source}, idempotency.Key{}, liked)
				_, likingToo := db.Like(t.Context(), store.NewLike{UserID: ada, TweetID: 1000 + n}, idempotency.Key{}, liked)
				_, repeating := db.Retweet(t.Context(), store.NewRetweet{UserID: n, TweetID: source}, idempotency.Key{}, posted)
				if err := errors.Join(posting, again, liking, likingToo, repeating); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { writing.Wait(); close(ended) }()
	tweets := func(list []store.Tweet, err error) (ids []int64, _ error) {
		for _, tweet := range list {
			ids = append(ids, tweet.ID)
		}
		return ids, err
	}
	for name, list := range map[string]struct {
		read func(store.Page) ([]int64, error)
		all  string
	}{
		"home timeline": {
			func(p store.Page) ([]int64, error) { return tweets(db.CommunityTweets(t.Context(), "sres", p)) },
			`select array_agg(id order by id) from tweets where community = 'sres'`,
		},
		"user's tweets": {
			func(p store.Page) ([]int64, error) { return tweets(db.UserTweets(t.Context(), ada, p)) },
			fmt.Sprint(`select array_agg(id order by id) from tweets where author_id = `, ada),
		},
		"retweets": {
			func(p store.Page) ([]int64, error) { return tweets(db.Retweets(t.Context(), source, p)) },
			`select array_agg(id order by id) from tweets where retweet_of is not null`,
		},
		"retweeted by": {
			func(p store.Page) ([]int64, error) { return positions(db.RetweetedBy(t.Context(), source, p)) },
			`select array_agg(id order by id) from tweets where retweet_of is not null`,
		},
		"liking users": {
			func(p store.Page) ([]int64, error) { return positions(db.LikingUsers(t.Context(), source, p)) },
			fmt.Sprint(`select array_agg(id order by id) from likes where tweet_id = `, source),
		},
		"liked tweets": {
			func(p store.Page) ([]int64, error) { return positions(db.LikedTweets(t.Context(), ada, p)) },
			fmt.Sprint(`select array_agg(id order by id) from likes where user_id = `, ada),
		},
	} {
		reading.Go(func() {
			var met, all []int64
			for deadline, over := time.Now().Add(time.Minute), false; ; {
				select {
				case <-ended:
					over = true
				default:
				}
				horizon, err := db.Horizon(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				page := store.Page{Limit: 100, Oldest: true, Horizon: horizon}
				if len(met) > 0 {
					page.After = met[len(met)-1]
				}
				ids, err := list.read(page)
				if err != nil {
					t.Error(err)
					return
				}
				slices.Reverse(ids)
				met = append(met, ids...)
				if over && all == nil {
					all = query[[]int64](t, d, list.all)
				}
				if over && (len(met) >= len(all) || time.Now().After(deadline)) {
					break
				}
			}
			if !slices.Equal(met, all) {
				t.Errorf("%s: of %d rows a reader met %d", name, len(all), len(met))
			}
		})
	}
	reading.Wait()
}

func positions[T any](list []store.Listed[T], err error) (ids []int64, _ error) {
	for _, l := range list {
		ids = append(ids, l.Position)
	}
	return ids, err
}
