package observability_test

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

// span is what Datadog's agent gets of one, in its protocol v0.4.
type span struct {
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

// agent takes the place of Datadog's agent, and keeps all that it is sent.
type agent struct {
	mu     sync.Mutex
	spans  []span
	bodies [][]byte // of every kind: what must not leave a function is in none of them
	err    error
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var traces [][]span
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

// trace is what has come of one, and everything that any function has sent.
func (a *agent) trace(id uint64) (spans []span, bodies [][]byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.spans {
		if s.TraceID == id {
			spans = append(spans, s)
		}
	}
	return spans, slices.Clone(a.bodies), a.err
}
