package store_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// BenchmarkCreateTweet compares the modes in which pgx can send a statement. All except cache_statement, the default, leave nothing
// on the server between two calls. PgBouncer before 1.21 requires this in transaction mode.
func BenchmarkCreateTweet(b *testing.B) {
	for _, mode := range []string{"cache_statement", "cache_describe", "exec", "simple_protocol"} {
		for _, key := range []string{"", "with a key"} {
			b.Run(mode+"/"+key, func(b *testing.B) {
				d := pgtest.New(b)
				db, err := store.Open(d.URL(pgtest.Owner)+"&default_query_exec_mode="+mode, 4)
				if err != nil {
					b.Fatal(err)
				}
				defer db.Close()
				if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `insert into users (id, username, name) values (1, 'ada', 'Ada')`); err != nil {
					b.Fatal(err)
				}
				tweet := store.NewTweet{AuthorID: 1, Community: "gophers", Text: "hello"}
				n := 0
				b.ResetTimer()
				for b.Loop() {
					k := idempotency.Key{Route: "POST /2/tweets", Fingerprint: []byte("f")}
					if key != "" {
						n++
						k.Key = strconv.Itoa(n)
					}
					if _, err := db.CreateTweet(b.Context(), tweet, k, store.Body{Status: 201, Before: `{"data":{"id":"`, After: `"}}`}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkExpose measures the cost of Expose for the second and each further request of an exposed user.
func BenchmarkExpose(b *testing.B) {
	d := pgtest.New(b)
	db := d.Open(b, pgtest.API)
	if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `insert into users (id, username, name) values (1, 'ada', 'Ada')`); err != nil {
		b.Fatal(err)
	}
	e := store.Exposure{Experiment: "likes", UserID: 1, Unit: "gophers", Assigned: "treatment", Served: "treatment", Revision: "like-00002"}
	b.ReportAllocs()
	for b.Loop() {
		if err := db.Expose(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPeriods reads a million count periods: 30 days of two Services.
func BenchmarkPeriods(b *testing.B) {
	d := pgtest.New(b)
	if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `
		insert into windows (experiment, step, service, arm, start, requests, errors, slow)
		select 'likes', n / 86400, service, arm, $1::timestamptz + interval '10 s' * n, 100, 1, '{2}'
		from generate_series(0, 30 * 8640 - 1) n, unnest(array['like', 'timeline']) service, unnest(array['control', 'treatment']) arm`, entry); err != nil {
		b.Fatal(err)
	}
	if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `vacuum analyze windows`); err != nil {
		b.Fatal(err)
	}
	db := d.Open(b, pgtest.Ops)
	span := store.Span{Experiment: "likes", Begin: entry, End: entry.Add(31 * 24 * time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		if err := db.Snapshot(b.Context(), func(ctx context.Context, s *store.Snapshot) error {
			strata, err := s.Periods(ctx, ratio(b, "error_share"), span, 0)
			if n := len(strata); n != 6 {
				b.Errorf("%d strata", n)
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecordOutcomes records what an edge posts every 10 s for four experiments on two Services each, after nine other edges.
func BenchmarkRecordOutcomes(b *testing.B) {
	d := pgtest.New(b)
	db := d.Open(b, pgtest.Ops)
	n := 0
	for b.Loop() {
		counts := make([]experiment.Outcomes, 0, 16)
		for i := range 16 {
			one := counted(experiment.Arms[i%2], n/10, 2)
			one.Experiment, one.Service = fmt.Sprint("e", i/4), fmt.Sprint("service-", i/2%2)
			for bucket := range one.Requests {
				one.Requests[bucket] = 40
			}
			counts = append(counts, one)
		}
		if err := db.RecordOutcomes(b.Context(), fmt.Sprint("edge-", n%10), counts); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// BenchmarkHomeTimeline reads a page of 20 from a community with 100 000 tweets in three ways: as functions read it, without a
// horizon, and with a plan for each statement. The three take turns. The figures are medians of the ratios of how much each reads
// within 0.2 s.
func BenchmarkHomeTimeline(b *testing.B) {
	d := pgtest.New(b)
	if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `insert into users (id, username, name) values (1, 'ada', 'Ada')`); err != nil {
		b.Fatal(err)
	}
	if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `insert into tweets (author_id, community, text) select 1, 'gophers', 'hello' from generate_series(1, 100000)`); err != nil {
		b.Fatal(err)
	}
	if err := pgtest.Exec(b.Context(), d.URL(pgtest.Owner), `vacuum analyze`); err != nil {
		b.Fatal(err)
	}
	db := d.Open(b, pgtest.API)
	planning, err := store.Open(d.URL(pgtest.API)+"&plan_cache_mode=auto", 4)
	if err != nil {
		b.Fatal(err)
	}
	defer planning.Close()
	var horizon, planned []float64
	for b.Loop() {
		var reads [3]float64
		for turn := range reads {
			i := (turn + len(horizon)) % len(reads)
			db := []*store.DB{db, db, planning}[i]
			for began := time.Now(); time.Since(began) < 200*time.Millisecond; reads[i]++ {
				page := store.Page{Limit: 21, Reader: 1}
				if i != 1 {
					if page.Horizon, err = db.Horizon(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				if list, err := db.CommunityTweets(b.Context(), "gophers", page); err != nil || len(list) != 21 {
					b.Fatal(len(list), err)
				}
			}
		}
		horizon, planned = append(horizon, reads[0]/reads[1]), append(planned, reads[0]/reads[2])
	}
	slices.Sort(horizon)
	slices.Sort(planned)
	b.ReportMetric(horizon[len(horizon)/2], "horizon/none")
	b.ReportMetric(planned[len(planned)/2], "kept/planned")
}
