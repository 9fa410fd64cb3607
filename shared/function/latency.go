package function

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"warble/shared/experiment"
)

// maxWindows is how many windows a process keeps while the database is away: those of an hour.
const maxWindows = 360

// RecordLatencies counts how long the requests of this process's arm take, and calls record with the counts every 10 s and once
// more after the last request. See experiment.Latencies. Every function with a database calls it before Serve, so that an
// experiment may have any of them. A process that belongs to no arm counts nothing.
//
// The requests of an arm are those that the edge assigned to its experiment, and those that it assigned to none: Knative sends such
// requests to a canary.
func (f *Function) RecordLatencies(record func(ctx context.Context, pod string, windows []experiment.Latencies) error) {
	if f.served.experiment == "" {
		return
	}
	host, _ := os.Hostname() // the name is unique without it
	f.latencies = &latencies{served: f.served, service: f.service, pod: host + "-" + rand.Text()[:8], record: record}
	f.Every(experiment.Window, "record latencies", f.latencies.flush)
}

// latencies counts requests by how long they took. Each request counts in the window of time in which it ended.
type latencies struct {
	served  served
	service string
	pod     string // unique for this process: if the pod restarts it, the counts of the new process must not replace those of the old one
	record  func(ctx context.Context, pod string, windows []experiment.Latencies) error

	mu      sync.Mutex
	windows []window // by rising number; requests are added only to the last one
}

// window has the counts of one experiment.Window.
type window struct {
	number   int64   // of windows since 1970
	counts   []int64 // of requests, by intervals of LatencyBounds
	count    int64   // of all requests
	recorded int64   // how many of them are recorded
}

// observe counts a request by its duration and its end. It holds the lock only while it counts.
func (l *latencies) observe(ended time.Time, took time.Duration) {
	number := ended.UnixNano() / int64(experiment.Window)
	interval, _ := slices.BinarySearch(experiment.LatencyBounds, float64(took)/float64(time.Millisecond))
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.windows) - 1
	// A request that ended before the last window is added to the last window: the clock was set back, or another request was
	// faster to get here.
	if last < 0 || l.windows[last].number < number {
		l.windows = append(l.windows, window{number: number, counts: make([]int64, len(experiment.LatencyBounds)+1)})
		last++
	}
	l.windows[last].counts[interval]++
	l.windows[last].count++
}

// flush records every window that has new counts, with all its counts so far. Windows that cannot be recorded stay for the next time.
func (l *latencies) flush(ctx context.Context) error {
	batch, counts := l.unrecorded()
	if len(batch) == 0 {
		return nil
	}
	if err := l.record(ctx, l.pod, batch); err != nil {
		if dropped := l.drop(); dropped > 0 {
			err = fmt.Errorf("dropped %d windows that are older than an hour: %w", dropped, err)
		}
		return err
	}
	l.recorded(counts)
	return nil
}

// unrecorded returns the windows that have new counts, and their numbers of requests, by window number.
func (l *latencies) unrecorded() (batch []experiment.Latencies, counts map[int64]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts = make(map[int64]int64)
	for _, w := range l.windows {
		if w.count == w.recorded {
			continue
		}
		counts[w.number] = w.count
		batch = append(batch, experiment.Latencies{
			Experiment: l.served.experiment,
			Arm:        l.served.arm,
			Service:    l.service,
			Start:      time.Unix(0, w.number*int64(experiment.Window)).UTC(),
			Counts:     slices.Clone(w.counts),
		})
	}
	return batch, counts
}

// recorded notes that so many requests of each window are recorded. It forgets windows that are over and completely recorded.
func (l *latencies) recorded(counts map[int64]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.windows) - 1
	for i := range l.windows {
		if count, ok := counts[l.windows[i].number]; ok {
			l.windows[i].recorded = count
		}
	}
	over := slices.DeleteFunc(l.windows[:last], func(w window) bool { return w.count == w.recorded })
	l.windows = append(over, l.windows[last])
}

// drop forgets the oldest windows if there are more than maxWindows, and returns how many it forgot.
func (l *latencies) drop() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	dropped := max(0, len(l.windows)-maxWindows)
	l.windows = slices.Delete(l.windows, 0, dropped)
	return dropped
}
