// Command edge is the one function that the public reaches: it routes a request to the function that answers it.
//
// In a cluster (KUBERNETES_SERVICE_HOST, and a service account's token) it watches the Knative Services of its namespace
// for their routes, and the Experiments for who goes to which arm. Where it has not seen them after 5 s, it serves what
// ROUTES_FILE says until it has. Elsewhere ROUTES_FILE is all there is.
package main

import (
	"context"
	"time"

	"warble/shared/function"
	"warble/shared/token"
)

// routesInterval is how often the routes file is looked at: a change is in force well within 250 ms.
const routesInterval = 100 * time.Millisecond

func main() {
	f := function.New()
	f.Env.Required("EDGE_KEY_FILE", "the path of the key that signs what functions are told") // without it they believe nothing
	tokens := token.VerifierFromEnv(f.Env)
	config := configFromEnv(f.Env)
	routes := newRoutes(f.Env, f.Telemetry.Log)
	edge := New(config, routes, tokens, f.EdgeKey(), f.Telemetry)
	f.Every(routesInterval, "routes", routes.refresh)
	w := watchFromEnv(f.Env, routes, edge.divide)
	meter(f.Telemetry, routes, w)
	if w != nil {
		f.Every(time.Second, "watch", w.run)
		f.Every(time.Second, "wishes", func(ctx context.Context) error { return w.pass(ctx, edge.outcomes.ask) })
	}
	f.Every(outcomesInterval, "outcomes", edge.outcomes.send)
	f.Every(time.Second, "issuers", routes.issuers.refresh)
	f.ServeHandler(edge, routes, tokens, edge.outcomes)
}
