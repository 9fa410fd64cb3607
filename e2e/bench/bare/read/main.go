// Command read is a bare server of net/http and pgx with which functions/tweet and functions/timeline are compared. It reads the
// same data with the same statements, which are in TWEETS_SQL and HOME_SQL. It has no logs, no metrics, no authentication and no
// fields to choose.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type tweet struct {
	ID       string `json:"id"`
	AuthorID string `json:"author_id"`
	Text     string `json:"text"`

	id, author, source int64
	created            time.Time
	retweets, likes    int
}

func scan(row pgx.CollectableRow) (t tweet, err error) {
	err = row.Scan(&t.id, &t.author, &t.Text, &t.created, &t.source, &t.retweets, &t.likes)
	t.ID, t.AuthorID = strconv.FormatInt(t.id, 10), strconv.FormatInt(t.author, 10)
	return t, err
}

func main() {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	conns, err := strconv.ParseInt(os.Getenv("DATABASE_MAX_CONNS"), 10, 32)
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = int32(conns) //nolint:gosec // parsed as 32 bits
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	answer := func(w http.ResponseWriter, r *http.Request, sql string, args ...any) {
		rows, _ := pool.Query(r.Context(), sql, args...) // the next line returns the error
		list, err := pgx.CollectRows(rows, scan)
		if err != nil || len(list) == 0 {
			log.Print(len(list), " rows: ", err)
			http.Error(w, "internal server error", http.StatusInternalServerError)
			return
		}
		text, err := json.Marshal(map[string][]tweet{"data": list})
		if err != nil {
			log.Fatal(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text)
	}
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello, world\n")
	})
	http.HandleFunc("GET /2/tweets/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // text that is not a number gives 0, which is no tweet's id
		answer(w, r, os.Getenv("TWEETS_SQL"), []int64{id})
	})
	http.HandleFunc("GET /2/users/{id}/timelines/reverse_chronological", func(w http.ResponseWriter, r *http.Request) {
		reader, _ := strconv.ParseInt(r.PathValue("id"), 10, 64) // likewise 0, which is no user's id
		answer(w, r, os.Getenv("HOME_SQL"), "gophers", 0, int64(math.MaxInt64), false, int64(math.MaxInt64), reader, 21)
	})
	address := net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT"))
	log.Fatal(http.ListenAndServe(address, nil)) //nolint:gosec // bare: timeouts would be a function's work
}
