package telemetry

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// other is the label value for everything that comes after the limit was reached.
const other = "other"

// bounded has the metrics of at most limit combinations of label values. For further combinations it returns the metric whose
// labels are all other. Otherwise a process that runs for long would have a time series for each user. It caches each metric,
// because Prometheus's own look-up by labels costs more than counting.
type bounded[T any] struct {
	limit int
	with  func(values ...string) T
	rest  []string
	mu    sync.RWMutex
	seen  map[string]T
}

func newBounded[T any](limit, labels int, with func(values ...string) T) *bounded[T] {
	rest := make([]string, labels)
	for i := range rest {
		rest[i] = other
	}
	return &bounded[T]{limit: limit, with: with, rest: rest, seen: make(map[string]T)}
}

// get returns the metric of the values. It copies values that it stores, and does not allocate for values that it has seen.
func (b *bounded[T]) get(values []string) T {
	var buffer [128]byte
	key := buffer[:0]
	for _, value := range values {
		key = append(append(key, value...), 0)
	}
	b.mu.RLock()
	known, ok := b.seen[string(key)]
	b.mu.RUnlock()
	if ok {
		return known
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if known, ok := b.seen[string(key)]; ok {
		return known
	}
	if len(b.seen) >= b.limit {
		return b.with(b.rest...)
	}
	own := make([]string, len(values))
	for i, value := range values {
		own[i] = strings.Clone(value)
	}
	made := b.with(own...)
	b.seen[string(key)] = made
	return made
}

// Counter counts events by labels.
type Counter struct {
	series *bounded[prometheus.Counter] // nil if nothing is counted
}

// maxSeries is how many label combinations a counter keeps per process.
const maxSeries = 1000

// Counter registers a counter. A process distinguishes at most 1000 combinations of label values; all others count as "other".
func (t *Telemetry) Counter(name, help string, labels ...string) *Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	t.registry.MustRegister(vec)
	if t.uncounted {
		return &Counter{}
	}
	if len(labels) == 0 {
		vec.WithLabelValues() // so that it is there, at 0, before the first event
	}
	return &Counter{newBounded(maxSeries, len(labels), vec.WithLabelValues)}
}

// Inc counts one event. values are the values of the labels, in the same order.
func (c *Counter) Inc(values ...string) {
	if c.series != nil {
		c.series.get(values).Inc()
	}
}

// Histogram observes values by labels.
type Histogram struct {
	series *bounded[prometheus.Observer] // nil if nothing is counted
}

// Histogram registers a histogram that distinguishes at most limit combinations of label values; all others count as "other".
func (t *Telemetry) Histogram(name, help string, buckets []float64, limit int, labels ...string) *Histogram {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	t.registry.MustRegister(vec)
	if t.uncounted {
		return &Histogram{}
	}
	return &Histogram{newBounded(limit, len(labels), vec.WithLabelValues)}
}

// Observe records one value.
func (h *Histogram) Observe(value float64, values ...string) {
	if h.series != nil {
		h.series.get(values).Observe(value)
	}
}
