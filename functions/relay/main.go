// Command relay is the Knative function that publishes the events in the outbox as CloudEvents.
package main

import (
	"os"
	"time"

	"warble/shared/function"
	"warble/shared/store"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	sink := SinkFromEnv(f.Env, f.Telemetry)
	host, _ := os.Hostname() // only a part of the name, which is unique without it
	relay := New(db, sink, f.Telemetry, host, f.Env.Duration("RELAY_LEASE", 5*time.Second, time.Second, time.Minute))
	f.Every(time.Second, "publish the outbox", relay.Run)
	f.Every(time.Minute, "finish deletions of accounts", db.FinishDeletions)
	f.Every(15*time.Second, "measure the backlog", relay.Measure)
	f.Serve(nil, db)
}
