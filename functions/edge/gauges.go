package main

import (
	"sync"
	"time"

	"warble/shared/telemetry"
)

// registerMetrics registers the metrics of the edge's view of the cluster. w is nil outside a cluster.
func registerMetrics(t *telemetry.Telemetry, r *routes, w *watch) {
	t.Gauge("edge_routes", "Routes in force; 0 before the first view.", func() float64 {
		if table := r.current.Load(); table != nil {
			return float64(len(table.owners))
		}
		return 0
	})
	t.Info("warble_experiment_info", "1 for each experiment, with its phase.", []string{"experiment", "phase"}, func() (all [][]string) {
		if table := r.current.Load(); table != nil {
			for name, phase := range table.phases {
				all = append(all, []string{name, string(phase)})
			}
		}
		return all
	})
	t.Gauge("edge_watch_interrupted_seconds", "How long the watch of the cluster has been interrupted; 0 if it works, or outside a cluster.", func() float64 {
		if w == nil {
			return 0
		}
		return w.outages.longest(time.Now()).Seconds()
	})
}

// outages records the kinds of objects about which the API server does not answer at present, and since when.
type outages struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// note records the API server's answer to a request about a kind.
func (o *outages) note(kind string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		delete(o.since, kind)
		return
	}
	if o.since == nil {
		o.since = make(map[string]time.Time)
	}
	if _, known := o.since[kind]; !known {
		o.since[kind] = time.Now()
	}
}

// longest returns the duration of the oldest outage.
func (o *outages) longest(now time.Time) (d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, since := range o.since {
		d = max(d, now.Sub(since))
	}
	return d
}
