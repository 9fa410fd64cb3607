// Command mail is the Knative function that sends mail. Each event that calls it names a request for mail in the database.
package main

import (
	"warble/shared/function"
	"warble/shared/store"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	f.Serve(New(db, SenderFromEnv(f.Env, f.Telemetry), f.Telemetry), db)
}
