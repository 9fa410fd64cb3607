// Command steer is the Knative function that moves experiments: each minute, when a PingSource asks it to, and at once when an
// edge has seen that somebody wants something else. It also stores what the edges have counted of the arms, and the events that
// are outcomes of experiments.
package main

import (
	"log/slog"
	"time"

	"github.com/rs/zerolog"
	"k8s.io/klog/v2"

	"warble/shared/function"
	"warble/shared/knative"
	"warble/shared/rollout"
	"warble/shared/store"
)

func main() {
	f := function.New()
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(f.Telemetry.Log))) // client-go's own lines, in the form of ours
	db := store.FromEnv(f.Env, f.Telemetry)
	connections := f.Env.Int("DATABASE_CONNECTIONS", 0, 0, 1_000_000)
	var cluster rollout.Cluster // none outside: outcomes are stored, and nothing is moved
	if host := f.Env.String("KUBERNETES_SERVICE_HOST", ""); host != "" {
		config, namespace, err := knative.Inside()
		if err == nil {
			cluster, err = knative.New(config, namespace, knative.AskInside())
		}
		if err != nil {
			f.Env.Reject("KUBERNETES_SERVICE_HOST", host, "a service account with automountServiceAccountToken: true in a cluster, or no such variable outside: "+err.Error())
		}
	}
	f.Every(10*time.Minute, "sweep windows", db.SweepWindows)
	f.Every(10*time.Minute, "sweep events", db.SweepEvents)
	f.Serve(New(db, cluster, connections, f.Telemetry), db)
}
