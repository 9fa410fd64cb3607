package telemetry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"warble/shared/env"
	"warble/shared/telemetry"
)

// sockets counts this process's open sockets.
func sockets(t *testing.T) (n int) {
	t.Helper()
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(filepath.Join("/dev/fd", file.Name()))
		if err == nil && info.Mode()&os.ModeSocket != 0 { // ReadDir's own is closed by now
			n++
		}
	}
	return n
}

// A tracer that is off has no goroutine and no socket, and wraps nothing. functions/edge tests a tracer that is on.
func TestATracerThatIsOffCostsNothing(t *testing.T) { //nolint:paralleltest // it counts what the whole process has
	running, open := goleak.IgnoreCurrent(), sockets(t)
	m := telemetry.New("tweet", "tweet-00001", io.Discard)
	m.Start()
	handler := http.NewServeMux()
	if m.Trace(handler, func(*http.Request) string { return "x" }) != http.Handler(handler) {
		t.Error("a handler is wrapped")
	}
	if m.Transport(http.DefaultTransport) != http.DefaultTransport {
		t.Error("a transport is wrapped")
	}
	if m.Tracing() || telemetry.Traceparent(t.Context()) != "" {
		t.Error("there is a span")
	}
	if err := goleak.Find(running); err != nil {
		t.Error(err)
	}
	if now := sockets(t); now != open {
		t.Errorf("%d sockets, and %d before", now, open)
	}
	m.Close()
}

// exemplar matches a bucket in OpenMetrics that names the trace of one of its requests.
var exemplar = regexp.MustCompile(`(?m)^http_server_request_duration_seconds_bucket\{[^}]*le="0.025"\} 1 # \{trace_id="[0-9a-f]{32}"\} 0\.02 `)

// A request's own sampling decision is followed. Without one, the decision is made at the set rate and passed on in the header.
// Only traces that are kept have spans, and only these are named in buckets.
func TestOnlyTracesThatAreKeptHaveSpans(t *testing.T) { //nolint:paralleltest // the tracer is one for the process
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer agent.Close()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	for _, tt := range []struct {
		name, rate, header, value string
		kept                      bool
	}{
		{"none, at 1", "1", "", "", true},
		{"none, at 0", "0", "", "", false},
		{"kept, at 0", "0", "Traceparent", parent + "01", true},
		{"not kept, at 1", "1", "Traceparent", parent + "00", false},
		{"not a traceparent", "1", "Traceparent", "01", false},
		{"Datadog keeps", "0", "X-Datadog-Sampling-Priority", "1", true},
		{"Datadog drops", "1", "X-Datadog-Sampling-Priority", "-1", false},
	} {
		settings := map[string]string{"DD_TRACE_AGENT_URL": agent.URL, "DD_TRACE_SAMPLE_RATE": tt.rate}
		e := env.New(func(name string) (string, bool) { value, ok := settings[name]; return value, ok })
		m := telemetry.FromEnv(e, "tweet", "tweet-00001")
		m.Log = m.Log.Output(io.Discard)
		t.Setenv("DD_TRACE_AGENT_URL", agent.URL)
		m.Start()
		var traced bool
		var header http.Header
		handler := m.Trace(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			traced, header = telemetry.Traced(r.Context()), r.Header
			m.Access(r.Context(), telemetry.Access{Method: r.Method, Route: "/x", Status: http.StatusOK, Duration: 20 * time.Millisecond})
		}), func(*http.Request) string { return "/x" })
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil)
		if tt.header != "" {
			request.Header.Set(tt.header, tt.value)
		}
		handler.ServeHTTP(httptest.NewRecorder(), request)
		m.Close()
		scrape := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		scrape.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		told := httptest.NewRecorder()
		m.Metrics().ServeHTTP(told, scrape)
		if exemplar.MatchString(told.Body.String()) != tt.kept {
			t.Errorf("%s: kept is %t, and what is scraped is\n%s", tt.name, tt.kept, told.Body)
		}
		if err := e.Err(); err != nil || traced != tt.kept {
			t.Errorf("%s: in a trace: %t, want %t; %v", tt.name, traced, tt.kept, err)
		}
		if tt.header == "" && !tt.kept && !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-00$`).MatchString(header.Get("Traceparent")) {
			t.Errorf("%s: it is passed on as %q", tt.name, header.Get("Traceparent"))
		}
	}
	e := env.New(func(name string) (string, bool) { return "2", name == "DD_TRACE_SAMPLE_RATE" })
	if telemetry.FromEnv(e, "tweet", "tweet-00001"); e.Err() == nil || !strings.Contains(e.Err().Error(), "DD_TRACE_SAMPLE_RATE") {
		t.Errorf("a rate of 2: %v", e.Err())
	}
}
