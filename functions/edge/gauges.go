package main

import (
	"sync"
	"time"

	"warble/shared/telemetry"
)

// meter registers what the edge tells of its view of the cluster. w is nil where there is none.
func meter(t *telemetry.Telemetry, r *routes, w *watch) {
	t.Gauge("edge_routes", "Routes in force; 0 before the first were seen.", func() float64 {
		if table := r.current.Load(); table != nil {
			return float64(len(table.owners))
		}
		return 0
	})
	t.Info("warble_experiment_info", "1 for each experiment there is, with its phase.", []string{"experiment", "phase"}, func() (all [][]string) {
		if table := r.current.Load(); table != nil {
			for name, phase := range table.phases {
				all = append(all, []string{name, string(phase)})
			}
		}
		return all
	})
	t.Gauge("edge_watch_interrupted_seconds", "How long what Knative has to say has not been heard; 0 while it is, or where nothing is watched.", func() float64 {
		if w == nil {
			return 0
		}
		return w.outages.longest(time.Now()).Seconds()
	})
}

// outages are the kinds of objects that the API server does not tell of at present.
type outages struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// heard notes what the API server answered to a question about a kind.
func (o *outages) heard(kind string, err error) {
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

// longest is how long the oldest of them has lasted.
func (o *outages) longest(now time.Time) (d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, since := range o.since {
		d = max(d, now.Sub(since))
	}
	return d
}
