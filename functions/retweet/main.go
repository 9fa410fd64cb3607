// Command retweet is the Knative function that retweets, undoes it, and lists who retweeted a tweet.
package main

import (
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/token"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	tokens := token.VerifierFromEnv(f.Env)
	f.RecordLatencies(db.RecordLatencies)
	f.Serve(New(db, tokens, f.Telemetry.TweetMetrics()), db, tokens)
}
