package telemetry

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Access describes one request. Its log line has no body, no query and no secret.
type Access struct {
	RequestID string
	Method    string
	Route     string // the pattern, never the path
	Status    int
	Duration  time.Duration
	Bytes     int64
	UserID    string     // empty without a token
	Client    netip.Addr // only for the original system's metrics, which have its Network; the line does not have it
	Err       error      // the cause of a 5xx, or of an answer that was cut off

	Experiment, Variant string // empty if the user is in no experiment
	Revision            string // the one that answered, if this can be another than the process's own; empty if it is not known
}

// Access writes the log line of a request and observes its duration. The level is error from status 500 on and if the answer was
// cut off, otherwise info. The line's members are Datadog's standard attributes: duration is in nanoseconds, and "status" is not
// used, because Datadog reads it as the line's severity.
func (t *Telemetry) Access(ctx context.Context, a Access) {
	var trace, span string
	if t.tracing {
		trace, span = ids(ctx)
	}
	if !t.uncounted {
		t.requests.observe(a, trace)
	}
	if t.counted != nil {
		t.counted(a)
	}
	event := t.Log.Info()
	if a.Status >= 500 || a.Err != nil {
		event = t.Log.Error().AnErr(errorField, a.Err)
	}
	event = event.Str("http.request_id", a.RequestID)
	if trace != "" {
		event = event.Str("dd.trace_id", trace).Str("dd.span_id", span)
	}
	event = event.Str("http.method", a.Method).Str("http.route", a.Route).Int("http.status_code", a.Status).
		Int64("duration", a.Duration.Nanoseconds()).Int64("network.bytes_written", a.Bytes)
	if a.UserID != "" {
		event = event.Str("usr.id", a.UserID)
	}
	if a.Experiment != "" {
		event = event.Str("experiment", a.Experiment).Str("variant", a.Variant)
	}
	if a.Revision != "" && a.Revision != t.requests.revision {
		event = event.Str("answered_by", a.Revision)
	}
	event.Send()
}

// Network returns the /24 of an IPv4 address or the /48 of an IPv6 address ("203.0.113.0/24"), or "unknown". This is precise enough for
// logs, metrics and failure counts, and protects people's privacy.
func Network(address netip.Addr) string {
	bits := 48
	if address.Is4() {
		bits = 24
	}
	prefix, err := address.Prefix(bits)
	if err != nil || !prefix.IsValid() { // no error for no address
		return "unknown"
	}
	return prefix.String()
}

// requests is the RED histogram with a cache of its observers, because finding one by its labels costs more than observing.
type requests struct {
	*prometheus.HistogramVec
	revision string

	mu        sync.RWMutex
	observers map[series]prometheus.Observer
}

type series struct {
	route, method string
	status        int
}

// buckets reach from a cached read to a cold start, in seconds.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newRequests(registry *prometheus.Registry, revision string) *requests {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "http_server_request_duration_seconds",
		Help:    "How long requests took, by route pattern, method, status code and revision.",
		Buckets: buckets,
	}, []string{"route", "method", "code", "revision"})
	registry.MustRegister(vec)
	return &requests{HistogramVec: vec, revision: revision, observers: make(map[series]prometheus.Observer)}
}

// observe counts a request. trace is the id of its trace, empty if the trace is not kept. The bucket has the trace as its exemplar, so
// that a slow bucket leads to a slow request.
func (r *requests) observe(a Access, trace string) {
	key := series{a.Route, knownMethod(a.Method), a.Status}
	r.mu.RLock()
	observer, ok := r.observers[key]
	r.mu.RUnlock()
	if !ok {
		observer = r.WithLabelValues(key.route, key.method, strconv.Itoa(key.status), r.revision)
		r.mu.Lock()
		r.observers[key] = observer // the same one, if another request was first
		r.mu.Unlock()
	}
	if exemplar, ok := observer.(prometheus.ExemplarObserver); ok && trace != "" {
		exemplar.ObserveWithExemplar(a.Duration.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	observer.Observe(a.Duration.Seconds())
}

// knownMethod limits the values of the label, because a client may send any word as its method.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return other
}
