// Command timeline is the Knative function that pages through the tweets of a user, or of the members of a user's community.
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
	tokens := token.VerifierFromEnv(f.Env)
	f.Telemetry.TweetMetrics() // these metrics count each request
	f.RecordLatencies(db.RecordLatencies)
	f.Serve(New(db, tokens, feature.FromEnv(f.Env)), db, tokens)
}
