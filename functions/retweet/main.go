// Command retweet is the Knative function that retweets, undoes retweets, and lists a tweet's retweets and the users who made them.
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
	f.RecordLatencies(db.RecordLatencies)
	f.Serve(New(db, tokens, f.Telemetry.TweetMetrics(), feature.FromEnv(f.Env)), db, tokens)
}
