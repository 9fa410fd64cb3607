// Command register is the Knative function that makes accounts.
package main

import (
	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/store"
	"warble/shared/token"
)

func main() {
	f := function.New()
	db := store.FromEnv(f.Env, f.Telemetry)
	issuer := token.IssuerFromEnv(f.Env)
	passwords := Passwords{
		Hasher:    password.FromEnv(f.Env, f.Telemetry),
		MinLength: f.Env.Int("PASSWORD_MIN_LENGTH", 8, 8, maxPassword),
	}
	f.Serve(New(db, issuer, passwords, f.Telemetry.AuthMetrics()), db, issuer)
}
