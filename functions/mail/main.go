// Command mail is the Knative function that sends mail. Events call it: each names a request of mail, which the database keeps.
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
