package telemetry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	httptrace "gopkg.in/DataDog/dd-trace-go.v1/contrib/net/http"
	"gopkg.in/DataDog/dd-trace-go.v1/ddtrace"
	"gopkg.in/DataDog/dd-trace-go.v1/ddtrace/ext"
	"gopkg.in/DataDog/dd-trace-go.v1/ddtrace/tracer"
)

// Tracing reports whether traces are sent.
func (t *Telemetry) Tracing() bool { return t.tracing }

// sampleRate is the default of DD_TRACE_SAMPLE_RATE: the share of traces that are kept, out of those that begin here. A request that
// comes with a sampling decision keeps it. A trace that is not kept has no spans, because they would cost a third of validate's
// throughput. So Datadog's own counts cover only kept traces; the complete counts are in Prometheus.
const sampleRate = 0.1

// Start starts the tracer if traces are on. Otherwise it starts no goroutine and opens no socket. Trace contexts are sent in Datadog's
// and in W3C's headers, the tracer's default.
func (t *Telemetry) Start() {
	if !t.tracing {
		return
	}
	options := []tracer.StartOption{
		tracer.WithService(t.service),
		tracer.WithServiceVersion(t.version),
		tracer.WithLogStartup(false),
		tracer.WithLogger(tracerLog{t}),
	}
	if !t.ownRules {
		options = append(options, tracer.WithSamplingRules([]tracer.SamplingRule{tracer.RateRule(1)})) // Telemetry.kept has decided already
	}
	tracer.Start(options...)
}

// Close sends the spans that the tracer still has.
func (t *Telemetry) Close() {
	if t.tracing {
		tracer.Stop()
	}
}

// Trace returns next with a server span for each request whose trace is kept. The span is a child of the request's traceparent or
// Datadog headers. pattern returns the span's resource. If traces are off, Trace returns next itself.
func (t *Telemetry) Trace(next http.Handler, pattern func(*http.Request) string) http.Handler {
	if !t.tracing {
		return next
	}
	traced := httptrace.WrapHandler(next, t.service, "", httptrace.WithResourceNamer(func(r *http.Request) string {
		return r.Method + " " + pattern(r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t.kept(r.Header) {
			traced.ServeHTTP(w, r)
		} else {
			next.ServeHTTP(w, r)
		}
	})
}

// kept reports whether a request's trace is kept. If the request has no sampling decision, kept makes one. It writes a decision
// against the trace into the header, so that the next process follows it.
func (t *Telemetry) kept(header http.Header) bool {
	if parent := header.Get("Traceparent"); parent != "" {
		return sampled(parent)
	}
	if priority := header.Get("X-Datadog-Sampling-Priority"); priority != "" {
		return priority[0] != '-' && priority != "0"
	}
	if rand.Float64() < t.sampleRate { //nolint:gosec // a sample, no secret
		return true
	}
	header.Set("Traceparent", fmt.Sprintf("00-%016x%016x-%016x-00", rand.Uint64(), rand.Uint64()|1, rand.Uint64()|1)) //nolint:gosec // nor this
	return false
}

// sampled reports whether a traceparent (W3C Trace Context, section 3.2) says that its trace is kept.
func sampled(traceparent string) bool {
	const flags = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-")
	if len(traceparent) < flags+2 {
		return false
	}
	value, err := strconv.ParseUint(traceparent[flags:flags+2], 16, 8)
	return err == nil && value&1 == 1
}

// Traced reports whether ctx is within a trace that is kept.
func Traced(ctx context.Context) bool {
	_, ok := tracer.SpanFromContext(ctx)
	return ok
}

// Transport returns next with a client span for each request in a trace that is kept, and sends the trace's context. If traces are off,
// Transport returns next itself.
func (t *Telemetry) Transport(next http.RoundTripper) http.RoundTripper {
	if !t.tracing {
		return next
	}
	return transport{next, httptrace.WrapRoundTripper(next)}
}

type transport struct{ plain, traced http.RoundTripper }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if Traced(r.Context()) {
		return t.traced.RoundTrip(r)
	}
	return t.plain.RoundTrip(r)
}

// Send begins a span for sending a message, in the trace of traceparent; done ends the span. If the trace is not kept, or traceparent
// is empty, Send and done do nothing.
func (t *Telemetry) Send(ctx context.Context, message, traceparent string) (_ context.Context, done func(error)) {
	if !t.tracing || !sampled(traceparent) {
		return ctx, func(error) {}
	}
	options := []tracer.StartSpanOption{
		tracer.ServiceName(t.service),
		tracer.ResourceName(message),
		tracer.SpanType(ext.SpanTypeMessageProducer),
		tracer.Tag(ext.SpanKind, ext.SpanKindProducer),
	}
	if parent, err := tracer.Extract(tracer.TextMapCarrier{"traceparent": traceparent}); err == nil {
		options = append(options, tracer.ChildOf(parent))
	}
	span, ctx := tracer.StartSpanFromContext(ctx, "message.send", options...)
	return ctx, func(err error) { span.Finish(tracer.WithError(err)) }
}

// Traceparent returns the W3C traceparent of the current span; empty if there is none.
func Traceparent(ctx context.Context) string {
	span, ok := tracer.SpanFromContext(ctx)
	if !ok {
		return ""
	}
	carrier := tracer.TextMapCarrier{}
	if err := tracer.Inject(span.Context(), carrier); err != nil {
		return ""
	}
	return carrier["traceparent"]
}

// ids returns the trace and span ids in the formats with which Datadog correlates logs: 128 bits in hexadecimal, and decimal.
func ids(ctx context.Context) (trace, span string) {
	current, ok := tracer.SpanFromContext(ctx)
	if !ok {
		return "", ""
	}
	span = strconv.FormatUint(current.Context().SpanID(), 10)
	if w3c, ok := current.Context().(ddtrace.SpanContextW3C); ok {
		return w3c.TraceID128(), span
	}
	return strconv.FormatUint(current.Context().TraceID(), 10), span
}

// tracerLog writes the tracer's messages as JSON lines.
type tracerLog struct{ *Telemetry }

func (l tracerLog) Log(message string) { l.Telemetry.Log.Warn().Msg(strings.TrimSpace(message)) }
