// Package telemetry writes a process's logs, metrics and traces: one zerolog line per request on stdout, Prometheus metrics,
// and Datadog traces. It is set up once, and no other package imports Prometheus or dd-trace.
package telemetry

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"warble/shared/env"
)

// Telemetry is one process's logger, metrics and tracer.
type Telemetry struct {
	Log zerolog.Logger

	service, version string
	registry         *prometheus.Registry
	tracing          bool
	uncounted        bool // whether metrics are off
	sampleRate       float64
	ownRules         bool // whether Datadog's variables set the sampling rules
	requests         *requests
	counted          func(Access) // the original system's request counter, if the function has one; otherwise nil
}

// FromEnv reads LOG_LEVEL (debug, info, warn, error; default info) and logs to stdout. Traces are on if DD_AGENT_HOST or
// DD_TRACE_AGENT_URL is set. DD_VERSION (default: the revision) and DD_ENV tag traces and, if traces are on, also lines. The
// tracer itself reads Datadog's other variables.
func FromEnv(e *env.Reader, service, revision string) *Telemetry {
	zerolog.ErrorFieldName = errorField // a setting of the whole process
	t := New(service, revision, os.Stdout)
	level, err := zerolog.ParseLevel(e.String("LOG_LEVEL", "info"))
	if err != nil {
		e.Reject("LOG_LEVEL", e.String("LOG_LEVEL", ""), "debug, info, warn or error")
	}
	t.Log = t.Log.Level(level)
	t.tracing = e.String("DD_AGENT_HOST", "") != "" || e.String("DD_TRACE_AGENT_URL", "") != ""
	t.version = e.String("DD_VERSION", revision)
	t.sampleRate = sampleRate
	if text := e.String("DD_TRACE_SAMPLE_RATE", ""); text != "" {
		if t.sampleRate, err = strconv.ParseFloat(text, 64); err != nil || !(t.sampleRate >= 0 && t.sampleRate <= 1) {
			e.Reject("DD_TRACE_SAMPLE_RATE", text, "a share from 0 to 1")
		}
	}
	if t.ownRules = e.String("DD_TRACE_SAMPLING_RULES", "") != ""; t.ownRules {
		t.sampleRate = 1 // all have spans, and the rules decide
	}
	if t.tracing {
		t.Log = t.Log.With().Str("dd.env", e.String("DD_ENV", "")).Str("dd.version", t.version).Logger()
	}
	return t
}

// errorField is the attribute in which Datadog expects an error's text.
const errorField = "error.message"

// stamp is the hook that adds the time, with the name and in the format that Datadog uses for a line's time. zerolog's own name
// for it is a setting of the whole process.
type stamp struct{}

func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Bytes("timestamp", time.Now().UTC().AppendFormat(make([]byte, 0, 32), "2006-01-02T15:04:05.000Z07:00"))
}

// New returns a Telemetry without a tracer. It writes each line to log immediately, in one Write, so that a process that is killed
// after an answer has already logged it.
func New(service, revision string, log io.Writer) *Telemetry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	t := &Telemetry{
		Log:      zerolog.New(log).Hook(stamp{}).With().Str("service", service).Str("revision", revision).Logger(),
		service:  service,
		version:  revision,
		registry: registry,
	}
	t.requests = newRequests(registry, revision)
	return t
}

// CountNothing switches metrics off, for a process that nobody scrapes: requests are not observed, and the metrics that Counter and
// Histogram return from then on do nothing.
func (t *Telemetry) CountNothing() { t.uncounted = true }

// Metrics serves the metrics in Prometheus's text format, or in OpenMetrics if the scraper asks for it.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Gauge registers a gauge that is read when it is scraped. name must contain the unit.
func (t *Telemetry) Gauge(name, help string, read func() float64) {
	t.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// CounterFunc registers a counter that is read when it is scraped. name must end in _total.
func (t *Telemetry) CounterFunc(name, help string, read func() float64) {
	t.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Info registers a gauge of 1 for each set of label values that read returns when it is scraped. read must return each set once. At
// most 1000 sets are exported.
func (t *Telemetry) Info(name, help string, labels []string, read func() [][]string) {
	t.registry.MustRegister(info{prometheus.NewDesc(name, help, labels, nil), read})
}

// info implements prometheus.Collector.
type info struct {
	desc *prometheus.Desc
	read func() [][]string
}

func (i info) Describe(to chan<- *prometheus.Desc) { to <- i.desc }

func (i info) Collect(to chan<- prometheus.Metric) {
	all := i.read()
	for _, values := range all[:min(len(all), maxSeries)] {
		metric, err := prometheus.NewConstMetric(i.desc, prometheus.GaugeValue, 1, values...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(i.desc, err)
		}
		to <- metric
	}
}
