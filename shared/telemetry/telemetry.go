// Package telemetry is what a process tells about itself: one zerolog line per request on stdout, Prometheus metrics,
// and Datadog traces. It is set up once, and nothing else imports Prometheus or dd-trace.
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
	uncounted        bool // nobody asks
	sampleRate       float64
	ownRules         bool // of sampling: the tracer's, from Datadog's variables
	requests         *requests
	counted          func(Access) // the original system's request counter, where the function has one
}

// FromEnv reads LOG_LEVEL (debug, info, warn, error; info) and logs to stdout. Traces are on where DD_AGENT_HOST or
// DD_TRACE_AGENT_URL is set. DD_VERSION (the revision) and DD_ENV tag traces and, where traces are on, lines as well; the
// tracer itself reads Datadog's other variables.
func FromEnv(e *env.Reader, service, revision string) *Telemetry {
	zerolog.ErrorFieldName = errorField // zerolog keeps it for the whole process
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

// errorField is where Datadog looks for what went wrong.
const errorField = "error.message"

// stamp is the hook that says when, under the name and in the form that Datadog takes for the line's own time. zerolog's
// name is one of the whole process.
type stamp struct{}

func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Bytes("timestamp", time.Now().UTC().AppendFormat(make([]byte, 0, 32), "2006-01-02T15:04:05.000Z07:00"))
}

// New returns a Telemetry without a tracer that logs to log. It writes each line in one Write and keeps none back: a
// process that is killed after it answered has told so.
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

// CountNothing is for a process that nobody scrapes: requests are not observed, and what Counter and Histogram return
// from then on does nothing.
func (t *Telemetry) CountNothing() { t.uncounted = true }

// Metrics serves the registry in Prometheus's text format, or OpenMetrics where the scraper asks for it.
func (t *Telemetry) Metrics() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Gauge registers a metric that is read when it is scraped. name says its unit.
func (t *Telemetry) Gauge(name, help string, read func() float64) {
	t.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// CounterFunc registers a counter that is read when it is scraped. name ends in _total.
func (t *Telemetry) CounterFunc(name, help string, read func() float64) {
	t.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Info registers a gauge of 1 for each set of label values that read returns when it is scraped, each at most once. At most
// 1000 of them are told.
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
