package telemetry

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// other is the label value that counts what came after a bound was reached.
const other = "other"

// bounded hands out label values until limit different combinations are in use, and other for each label after that.
// A process that runs for long among many users would otherwise keep one time series for each of them.
type bounded struct {
	limit int
	mu    sync.RWMutex
	seen  map[string]struct{}
	rest  []string
}

func newBounded(limit, labels int) *bounded {
	rest := make([]string, labels)
	for i := range rest {
		rest[i] = other
	}
	return &bounded{limit: limit, seen: make(map[string]struct{}), rest: rest}
}

func (b *bounded) values(values []string) []string {
	key := strings.Join(values, "\x00")
	b.mu.RLock()
	_, known := b.seen[key]
	full := len(b.seen) >= b.limit
	b.mu.RUnlock()
	if known {
		return values
	}
	if full {
		return b.rest
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) >= b.limit {
		return b.rest
	}
	b.seen[strings.Clone(key)] = struct{}{}
	return values
}

// Counter counts events by labels.
type Counter struct {
	vec   *prometheus.CounterVec // nil where nothing is counted
	bound *bounded
}

// maxSeries is how many label combinations a counter keeps per process.
const maxSeries = 1000

// Counter registers a counter. At most 1000 combinations of label values are told apart in one process; the rest count
// under "other".
func (t *Telemetry) Counter(name, help string, labels ...string) *Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	t.registry.MustRegister(vec)
	if t.uncounted {
		return &Counter{}
	}
	if len(labels) == 0 {
		vec.WithLabelValues() // so that it is there, at 0, before the first event
	}
	return &Counter{vec, newBounded(maxSeries, len(labels))}
}

// Inc counts one event. values are those of the labels, in their order.
func (c *Counter) Inc(values ...string) {
	if c.vec != nil {
		c.vec.WithLabelValues(c.bound.values(values)...).Inc()
	}
}

// Histogram observes values by labels.
type Histogram struct {
	vec   *prometheus.HistogramVec // nil where nothing is counted
	bound *bounded
}

// Histogram registers a histogram that tells at most limit combinations of label values apart.
func (t *Telemetry) Histogram(name, help string, buckets []float64, limit int, labels ...string) *Histogram {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	t.registry.MustRegister(vec)
	if t.uncounted {
		return &Histogram{}
	}
	return &Histogram{vec, newBounded(limit, len(labels))}
}

// Observe records one value.
func (h *Histogram) Observe(value float64, values ...string) {
	if h.vec == nil {
		return
	}
	h.vec.WithLabelValues(h.bound.values(values)...).Observe(value)
}
