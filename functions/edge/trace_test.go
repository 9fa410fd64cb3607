package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/function"
	"warble/shared/telemetry/telemetrytest"
)

// TestATraceGoesThroughEdgeAndFunction, from the client's traceparent through the edge to the function, and into the logs of both.
func TestATraceGoesThroughEdgeAndFunction(t *testing.T) { //nolint:paralleltest // the tracer is one for the process
	received := new(telemetrytest.Agent)
	t.Setenv("DD_TRACE_AGENT_URL", serve(t, received))
	t.Setenv("DD_INSTRUMENTATION_TELEMETRY_ENABLED", "false")
	t.Setenv("DD_REMOTE_CONFIGURATION_ENABLED", "false")
	t.Setenv("DD_RUNTIME_METRICS_ENABLED", "false")
	traced := func(name string) (*function.Function, *logBuffer) {
		t.Setenv("K_SERVICE", name)
		f, log := function.New(), new(logBuffer)
		f.Telemetry.Log = f.Telemetry.Log.Output(log)
		return f, log
	}
	note, noteLog := traced("note")
	var got http.Header
	url := serve(t, note.Handler(function.Routes{"GET /notes/{id}": handlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header })}))

	front, edgeLog := traced("edge")
	r := &routes{file: t.TempDir() + "/routes.json", log: front.Telemetry.Log}
	writeRoutes(t, r.file, nil, functionEntry{Name: "note", URL: url, Routes: []string{"/notes/{id}"}})
	if err := r.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, tokens := tokenPair(t)
	edge := serve(t, front.WholeHandler(New(config{upstreamTimeout: time.Minute, limits: generous}, r, tokens, function.TestKey, front.Telemetry)))

	front.Telemetry.Start()
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	a := send(t, http.MethodGet, edge+"/notes/1", "", "X-Request-Id", "one", "Traceparent", "00-"+trace+"-"+parent+"-01")
	if a.StatusCode != http.StatusOK {
		t.Errorf("%s %s", a.Status, a.body)
	}
	edgeLine, noteLine := edgeLog.line(t, "one"), noteLog.line(t, "one")
	front.Telemetry.Close() // sends the spans that it has

	spans, err := received.Spans()
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string]telemetrytest.Span{} // "edge server": the service, and its side of a call
	for _, s := range spans {
		kind := s.Meta["span.kind"]
		if kind == "client" {
			s.Service = "edge" // one process has one tracer, and its name is the edge's
		}
		byKind[s.Service+" "+kind] = s
	}
	if diff := cmp.Diff([]string{"edge client", "edge server", "note server"}, slices.Sorted(maps.Keys(byKind))); diff != "" || len(spans) != 3 {
		t.Fatalf("%s in %+v", diff, spans)
	}
	in, out, far := byKind["edge server"], byKind["edge client"], byKind["note server"]
	low, err := strconv.ParseUint(trace[16:], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := strconv.ParseUint(parent, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	chain := func(s ...telemetrytest.Span) (links [][2]uint64) {
		for _, s := range s {
			links = append(links, [2]uint64{s.TraceID, s.ParentID})
		}
		return links
	}
	if diff := cmp.Diff([][2]uint64{{low, caller}, {low, in.SpanID}, {low, out.SpanID}}, chain(in, out, far)); diff != "" {
		t.Errorf("trace and parent of the edge's, its call's and the function's span: %s", diff)
	}
	names := []string{in.Name, in.Resource, out.Name, far.Name, far.Resource}
	if diff := cmp.Diff([]string{"http.request", "GET /notes/{id}", "http.request", "http.request", "GET /notes/{id}"}, names); diff != "" {
		t.Error(diff)
	}
	if want := fmt.Sprintf("00-%s-%016x-01", trace, out.SpanID); got.Get("Traceparent") != want {
		t.Errorf("the function gets %s, want %s", got.Get("Traceparent"), want)
	}
	for name, pair := range map[string]struct {
		line map[string]any
		span telemetrytest.Span
	}{"edge": {edgeLine, in}, "note": {noteLine, far}} {
		if pair.line["dd.trace_id"] != trace || pair.line["dd.span_id"] != strconv.FormatUint(pair.span.SpanID, 10) {
			t.Errorf("%s logs %v of the span %d", name, pair.line, pair.span.SpanID)
		}
	}
}
