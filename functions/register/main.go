// Command register is the Knative function that creates accounts.
package main

import (
	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/store"
	"warble/shared/token"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	issuer := token.IssuerFromEnv(f.Env)
	passwords := password.FromEnv(f.Env, f.Telemetry)
	f.Serve(New(db, issuer, passwords, policy.FromEnv(f.Env), f.Telemetry.AuthMetrics()), db, issuer)
}
