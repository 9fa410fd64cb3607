// Command like is the Knative function that likes tweets, takes likes back, and lists them by tweet and by user: the
// feature likes, without which it says that it is not open.
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
	f.Telemetry.TweetMetrics() // they count each request
	f.RecordLatencies(db.RecordLatencies)
	f.Serve(New(db, tokens, feature.FromEnv(f.Env)), db, tokens)
}
