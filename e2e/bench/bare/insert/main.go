// Command insert is a bare server of net/http and pgx with which functions/tweet is compared. It inserts the same rows in the
// shortest statement that does so. It has no logs, no metrics, no authentication and no idempotency keys.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
)

const insert = `
	with tweet as (
		insert into tweets (author_id, community, text)
		values ($1, $2, $3)
		returning id, author_id, community, text, created_at
	),
	event as (
		insert into outbox (user_id, type, data)
		select author_id, 'dev.warble.tweet.posted.v1',
			jsonb_build_object('id', id::text, 'author_id', author_id::text, 'community', community, 'text', text, 'created_at', created_at)
		from tweet
	)
	select id::text from tweet`

type tweet struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func main() {
	pool, err := open(os.Getenv("DATABASE_URL"), os.Getenv("DATABASE_MAX_CONNS"))
	if err != nil {
		log.Fatal(err)
	}
	authors, err := strconv.ParseInt(os.Getenv("AUTHORS"), 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	var count atomic.Int64
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello, world\n")
	})
	http.HandleFunc("POST /2/tweets", func(w http.ResponseWriter, r *http.Request) {
		var t tweet
		if err := json.NewDecoder(r.Body).Decode(&t); err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		author := (1 + count.Add(1)%authors) << 22
		if err := pool.QueryRow(r.Context(), insert, author, "gophers", t.Text).Scan(&t.ID); err != nil {
			log.Print(err)
			http.Error(w, "internal server error", http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]tweet{"data": t})
	})
	address := net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT"))
	log.Fatal(http.ListenAndServe(address, nil)) //nolint:gosec // bare: timeouts would be a function's work
}

func open(url, maxConns string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(maxConns, 10, 32)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(n)
	return pgxpool.NewWithConfig(context.Background(), config)
}
