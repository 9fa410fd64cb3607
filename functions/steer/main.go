// Command steer is the Knative function that moves experiments: each minute, when a PingSource asks it to. It also stores
// what the edges have counted of the arms.
package main

import (
	"log/slog"

	"github.com/rs/zerolog"
	"k8s.io/klog/v2"

	"warble/shared/function"
	"warble/shared/rollout"
	"warble/shared/store"
)

func main() {
	f := function.New()
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(f.Telemetry.Log))) // client-go's own lines, in the form of ours
	db := store.FromEnv(f.Env, f.Telemetry)
	var cluster rollout.Cluster // none outside: outcomes are stored, and nothing is moved
	if host := f.Env.String("KUBERNETES_SERVICE_HOST", ""); host != "" {
		inside, err := rollout.InCluster("steer")
		if err != nil {
			f.Env.Reject("KUBERNETES_SERVICE_HOST", host, "a service account with automountServiceAccountToken: true in a cluster, or no such variable outside: "+err.Error())
		}
		cluster = inside
	}
	f.Serve(New(db, cluster, f.Telemetry), db)
}
