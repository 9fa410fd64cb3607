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

// maxWindows is how many windows a process keeps for a database that does not take them: an hour's.
const maxWindows = 360

// RecordLatencies has record keep how long the requests of this process's arm take, see experiment.Latencies: every 10 s,
// and once more after the last request. Every function with a database calls it before Serve, so that an experiment may
// name any of them; a process that is of no arm counts nothing.
//
// Of an arm are the requests that the edge assigned to its experiment, and those that it assigned to none, which a canary
// gets by Knative's percent.
func (f *Function) RecordLatencies(record func(ctx context.Context, pod string, windows []experiment.Latencies) error) {
	if f.served.experiment == "" {
		return
	}
	host, _ := os.Hostname() // a part of a name that is unique without it
	f.latencies = &latencies{served: f.served, service: f.service, pod: host + "-" + rand.Text()[:8], record: record}
	f.Every(experiment.Window, "record latencies", f.latencies.flush)
}

// latencies counts requests by how long they took, in windows by when they ended.
type latencies struct {
	served  served
	service string
	pod     string // of this process alone: one that started anew in its pod would hide what the first one counted
	record  func(ctx context.Context, pod string, windows []experiment.Latencies) error

	mu      sync.Mutex
	windows []window // of rising numbers; only the last one still counts
}

// window is what was counted in one experiment.Window.
type window struct {
	number   int64 // of windows since 1970
	buckets  []int64
	count    int64 // of requests, in all buckets
	recorded int64 // of them
}

// observe counts a request that ended at a time after so long. It blocks nobody for longer than it takes to count.
func (l *latencies) observe(ended time.Time, took time.Duration) {
	number := ended.UnixNano() / int64(experiment.Window)
	bucket, _ := slices.BinarySearch(experiment.LatencyBounds, float64(took)/float64(time.Millisecond))
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.windows) - 1
	if last < 0 || l.windows[last].number < number { // else a clock that was set back, or one that was overtaken on the way here
		l.windows = append(l.windows, window{number: number, buckets: make([]int64, len(experiment.LatencyBounds)+1)})
		last++
	}
	l.windows[last].buckets[bucket]++
	l.windows[last].count++
}

// flush records what was counted since, each window as it stands by now. What is not recorded stays for the next time.
func (l *latencies) flush(ctx context.Context) error {
	batch, counts := l.unrecorded()
	if len(batch) == 0 {
		return nil
	}
	if err := l.record(ctx, l.pod, batch); err != nil {
		if dropped := l.drop(); dropped > 0 {
			err = fmt.Errorf("%d windows that are older than an hour are dropped: %w", dropped, err)
		}
		return err
	}
	l.recorded(counts)
	return nil
}

// unrecorded returns the windows that have something new, and their counts by number.
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
			Buckets:    slices.Clone(w.buckets),
		})
	}
	return batch, counts
}

// recorded forgets the windows that are recorded and over.
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

// drop forgets the oldest windows of more than maxWindows, and says how many.
func (l *latencies) drop() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	dropped := max(0, len(l.windows)-maxWindows)
	l.windows = slices.Delete(l.windows, 0, dropped)
	return dropped
}
