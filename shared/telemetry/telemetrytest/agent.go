// Package telemetrytest replaces Datadog's agent in tests of what functions send to it.
package telemetrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"

	"github.com/tinylib/msgp/msgp"
)

// Span has what Datadog's agent gets for a span, in its protocol v0.4.
type Span struct {
	Service  string             `json:"service"`
	Name     string             `json:"name"`
	Resource string             `json:"resource"`
	TraceID  uint64             `json:"trace_id"`
	SpanID   uint64             `json:"span_id"`
	ParentID uint64             `json:"parent_id"`
	Error    int                `json:"error"`
	Meta     map[string]string  `json:"meta"`
	Metrics  map[string]float64 `json:"metrics"`
}

// Agent is a handler at DD_TRACE_AGENT_URL, and keeps all that it is sent. Its zero value is ready.
type Agent struct {
	mu     sync.Mutex
	spans  []Span
	bodies [][]byte // of all requests, so that tests can check what has left a function
	err    error
}

func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var traces [][]Span
	if r.URL.Path == "/v0.4/traces" && err == nil {
		var text bytes.Buffer
		if _, err = msgp.UnmarshalAsJSON(&text, body); err == nil {
			err = json.Unmarshal(text.Bytes(), &traces)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bodies = append(a.bodies, body)
	a.spans = append(a.spans, slices.Concat(traces...)...)
	if err != nil {
		a.err = fmt.Errorf("%s: %w", r.URL.Path, err)
	}
	_, _ = io.WriteString(w, "{}")
}

// Spans returns all that was sent. Errors: what was sent is not in the agent's protocol.
func (a *Agent) Spans() ([]Span, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.spans), a.err
}

// Trace returns the spans of the trace whose id has this lower half, and the bodies of all requests. Errors: what was sent is
// not in the agent's protocol.
func (a *Agent) Trace(id uint64) (spans []Span, bodies [][]byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.spans {
		if s.TraceID == id {
			spans = append(spans, s)
		}
	}
	return spans, slices.Clone(a.bodies), a.err
}
