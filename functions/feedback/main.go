// Command feedback is the Knative function that stores users' opinions of Warble.
package main

import (
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
	f.Serve(New(db, tokens), db, tokens)
}
