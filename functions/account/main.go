// Command account is the Knative function with which users manage their accounts: password, sessions, export, deletion, and the
// links in mail.
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
	tokens := token.VerifierFromEnv(f.Env)
	f.Serve(New(db, tokens, password.FromEnv(f.Env, f.Telemetry), policy.FromEnv(f.Env)), db, tokens)
}
