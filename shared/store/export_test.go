package store

import "github.com/jackc/pgx/v5"

// Waiting is how many tweets wait to leave.
func (db *DB) Waiting() int {
	db.tweets.mu.Lock()
	defer db.tweets.mu.Unlock()
	return len(db.tweets.waiting)
}

// TraceBatches makes spans of the members of batches, as the pool's tracer does of statements.
func (db *DB) TraceBatches(spans pgx.QueryTracer) { db.tweets.spans = spans }
