package store_test

import (
	"strconv"
	"testing"

	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// BenchmarkCreateTweet compares the ways in which pgx can send a statement. All but cache_statement, the default, leave
// nothing on the server between two calls, which PgBouncer before 1.21 requires in transaction mode.
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
					k := store.Key{Route: "POST /2/tweets", Fingerprint: []byte("f")}
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

// BenchmarkExpose is what the second and each further request of an exposed user pays.
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
