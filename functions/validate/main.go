// Command validate is the Knative function that returns the claims of an access token, and publishes the keys that verify it.
package main

import (
	"warble/shared/function"
	"warble/shared/token"
)

func main() {
	f := function.New()
	tokens := token.VerifierFromEnv(f.Env)
	f.Serve(New(tokens, f.Telemetry.AuthMetrics()), tokens)
}
