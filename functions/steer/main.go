// Command steer is the Knative function that moves experiments: each minute, when a PingSource calls it, and immediately when an
// edge has seen a new wish. It also stores the edges' counts of the arms, and the events from which metrics of experiments are
// computed.
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
	klog.SetSlogLogger(slog.New(zerolog.NewSlogHandler(f.Telemetry.Log))) // client-go's log lines, in the same format as ours
	db := store.FromEnv(f.Env, f.Telemetry)
	connections := f.Env.Int("DATABASE_CONNECTIONS", 0, 0, 1_000_000)
	var cluster rollout.Cluster // nil outside a cluster: outcomes are stored, but no experiment is moved
	if host := f.Env.String("KUBERNETES_SERVICE_HOST", ""); host != "" {
		config, namespace, err := knative.Inside()
		if err == nil {
			cluster, err = knative.New(config, namespace, knative.AskInside())
		}
		if err != nil {
			f.Env.Reject("KUBERNETES_SERVICE_HOST", host, "a service account with automountServiceAccountToken: true in a cluster, or no such variable outside a cluster: "+err.Error())
		}
	}
	f.Every(10*time.Minute, "sweep count periods", db.SweepPeriods)
	f.Every(10*time.Minute, "sweep events", db.SweepEvents)
	f.Serve(New(db, cluster, connections, f.Telemetry), db)
}
