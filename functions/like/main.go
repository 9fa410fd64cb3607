// Command like is the Knative function that likes tweets, undoes likes, and lists them by tweet and by user. These requests are the
// feature likes. Without the feature it answers that the feature is not open.
package main

import (
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
	f.Telemetry.TweetMetrics() // these metrics count each request
	f.RecordLatencies(db.RecordLatencies)
	f.Serve(New(db, tokens, feature.FromEnv(f.Env)), db, tokens)
}
