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

// maxPeriods is how many count periods a process keeps while the database is away: those of an hour.
const maxPeriods = 360

// RecordLatencies counts how long the requests of this process's arm take, and calls record with the counts every 10 s and once
// more after the last request. See experiment.Latencies. Every function with a database calls it before Serve, so that an
// experiment may have any of them. A process that belongs to no arm counts nothing.
//
// The requests of an arm are those that the edge assigned to its experiment, and those that it assigned to none: Knative sends such
// requests to a canary.
func (f *Function) RecordLatencies(record func(ctx context.Context, pod string, periods []experiment.Latencies) error) {
	if f.served.experiment == "" {
		return
	}
	host, _ := os.Hostname() // the name is unique without it
	f.latencies = &latencies{served: f.served, service: f.service, pod: host + "-" + rand.Text()[:8], record: record}
	f.Every(experiment.CountPeriod, "record latencies", f.latencies.flush)
}

// latencies counts requests by how long they took. Each request counts in the count period in which it ended.
type latencies struct {
	served  served
	service string
	pod     string // unique for this process: if the pod restarts it, the counts of the new process must not replace those of the old one
	record  func(ctx context.Context, pod string, periods []experiment.Latencies) error

	mu      sync.Mutex
	periods []period // by rising number; requests are added only to the last one
}

// period has the counts of one count period.
type period struct {
	number   int64   // of count periods since 1970
	counts   []int64 // of requests, by intervals of LatencyBounds
	count    int64   // of all requests
	recorded int64   // how many of them are recorded
}

// observe counts a request by its duration and its end. It holds the lock only while it counts.
func (l *latencies) observe(ended time.Time, took time.Duration) {
	number := ended.UnixNano() / int64(experiment.CountPeriod)
	interval, _ := slices.BinarySearch(experiment.LatencyBounds, float64(took)/float64(time.Millisecond))
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.periods) - 1
	// A request that ended before the last period is added to the last period: the clock was set back, or another request was
	// faster to get here.
	if last < 0 || l.periods[last].number < number {
		l.periods = append(l.periods, period{number: number, counts: make([]int64, len(experiment.LatencyBounds)+1)})
		last++
	}
	l.periods[last].counts[interval]++
	l.periods[last].count++
}

// flush records every period that has new counts, with all its counts so far. Periods that cannot be recorded stay for the next time.
func (l *latencies) flush(ctx context.Context) error {
	batch, counts := l.unrecorded()
	if len(batch) == 0 {
		return nil
	}
	if err := l.record(ctx, l.pod, batch); err != nil {
		if dropped := l.drop(); dropped > 0 {
			err = fmt.Errorf("dropped %d count periods that are older than an hour: %w", dropped, err)
		}
		return err
	}
	l.recorded(counts)
	return nil
}

// unrecorded returns the periods that have new counts, and their numbers of requests, by period number.
func (l *latencies) unrecorded() (batch []experiment.Latencies, counts map[int64]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts = make(map[int64]int64)
	for _, w := range l.periods {
		if w.count == w.recorded {
			continue
		}
		counts[w.number] = w.count
		batch = append(batch, experiment.Latencies{
			Experiment: l.served.experiment,
			Arm:        l.served.arm,
			Service:    l.service,
			Start:      time.Unix(0, w.number*int64(experiment.CountPeriod)).UTC(),
			Counts:     slices.Clone(w.counts),
		})
	}
	return batch, counts
}

// recorded notes that so many requests of each period are recorded. It forgets periods that are over and completely recorded.
func (l *latencies) recorded(counts map[int64]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.periods) - 1
	for i := range l.periods {
		if count, ok := counts[l.periods[i].number]; ok {
			l.periods[i].recorded = count
		}
	}
	over := slices.DeleteFunc(l.periods[:last], func(w period) bool { return w.count == w.recorded })
	l.periods = append(over, l.periods[last])
}

// drop forgets the oldest periods if there are more than maxPeriods, and returns how many it forgot.
func (l *latencies) drop() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	dropped := max(0, len(l.periods)-maxPeriods)
	l.periods = slices.Delete(l.periods, 0, dropped)
	return dropped
}
