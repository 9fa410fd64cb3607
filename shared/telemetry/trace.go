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

// sampleRate is the share of traces that are kept where DD_TRACE_SAMPLE_RATE does not say: of those that begin here, for what
// comes with a decision has it. Of what is not kept there are no spans at all, for they would cost a third of the throughput
// of validate; so Datadog's own counts are those of the kept, and everybody's are Prometheus's.
const sampleRate = 0.1

// Start starts the tracer, where traces are on. Without it no goroutine runs and no socket opens. Contexts travel in
// Datadog's headers and W3C's, which are the tracer's own default.
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
		options = append(options, tracer.WithSamplingRules([]tracer.SamplingRule{tracer.RateRule(1)})) // kept has decided
	}
	tracer.Start(options...)
}

// Close sends what the tracer still holds.
func (t *Telemetry) Close() {
	if t.tracing {
		tracer.Stop()
	}
}

// Trace puts a server span around next, child of the traceparent or Datadog headers that the request carries, where its
// trace is kept. pattern names its resource. Where traces are off, it is next itself.
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

// kept reports what was decided of a request's trace, or decides. A decision against it goes on in the header, for whoever
// the request is passed on to.
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

// Transport puts a client span around next within a trace that is kept, and carries its context on. Where traces are off, it
// is next itself.
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

// Send begins the span of a message that is sent, in the trace that traceparent names; done ends it. Where that is not kept,
// or there is none, nothing happens.
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

// Traceparent is the W3C traceparent of the current span, and empty where there is none.
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

// ids are the trace and span ids as Datadog correlates logs by them: 128 bits in hexadecimal, and decimal.
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

// tracerLog writes what the tracer has to say as JSON lines.
type tracerLog struct{ *Telemetry }

func (l tracerLog) Log(message string) { l.Telemetry.Log.Warn().Msg(strings.TrimSpace(message)) }
