// Command login is the Knative function that starts, renews and ends sessions.
package main

import (
	"time"

	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/store"
	"warble/shared/token"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	issuer := token.IssuerFromEnv(f.Env)
	f.Every(10*time.Minute, "sweep sessions and failures", db.SweepAccounts)
	f.Serve(New(db, issuer, password.FromEnv(f.Env, f.Telemetry), f.Telemetry.AuthMetrics()), db, issuer)
}
