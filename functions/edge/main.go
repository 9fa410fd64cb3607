// Command edge is the only function that the public reaches. It sends each request to the function that answers it.
//
// In a cluster (KUBERNETES_SERVICE_HOST is set, and there is a service account's token) it watches the Knative Services of its
// namespace for their routes, and the Experiments for the arms. If it has not seen them after 5 s, it uses ROUTES_FILE
// meanwhile. Outside a cluster it uses ROUTES_FILE alone.
package main

import (
	"context"
	"time"

	"warble/shared/function"
	"warble/shared/token"
)

// routesInterval is how often the routes file is read. A change takes effect well within 250 ms.
const routesInterval = 100 * time.Millisecond

func main() {
	f := function.New()
	f.Env.Required("EDGE_KEY_FILE", "the path of the key that signs the headers that functions believe") // without it functions ignore what the edge says
	tokens := token.VerifierFromEnv(f.Env)
	config := configFromEnv(f.Env)
	routes := newRoutes(f.Env, f.Telemetry.Log)
	edge := New(config, routes, tokens, f.EdgeKey(), f.Telemetry)
	f.Every(routesInterval, "routes", routes.refresh)
	w := watchFromEnv(f.Env, routes, edge.divide)
	registerMetrics(f.Telemetry, routes, w)
	if w != nil {
		f.Every(time.Second, "watch", w.run)
		f.Every(time.Second, "wishes", func(ctx context.Context) error { return w.forwardWishes(ctx, edge.outcomes.requestTurn) })
	}
	f.Every(outcomesInterval, "outcomes", edge.outcomes.send)
	f.Every(time.Second, "issuers", routes.issuers.refresh)
	f.ServeHandler(edge, routes, tokens, edge.outcomes)
}
