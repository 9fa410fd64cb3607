package store

import "github.com/jackc/pgx/v5"

// Waiting returns how many tweets wait to be sent.
func (db *DB) Waiting() int {
	db.tweets.mu.Lock()
	defer db.tweets.mu.Unlock()
	return len(db.tweets.waiting)
}

// TraceBatches makes batches report a span for each member to spans.
func (db *DB) TraceBatches(spans pgx.QueryTracer) { db.tweets.spans = spans }
