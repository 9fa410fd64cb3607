// Command tweet is the Knative function that posts, looks up and deletes tweets.
package main

import (
	"time"

	"warble/shared/feature"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/token"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	db.PostsFromEnv(f.Env)
	tokens := token.VerifierFromEnv(f.Env)
	f.RecordLatencies(db.RecordLatencies)
	f.Every(10*time.Minute, "sweep idempotency keys", db.SweepKeys)
	f.Serve(New(db, tokens, f.Telemetry.TweetMetrics(), feature.FromEnv(f.Env)), db, tokens)
}
