package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/token"
)

// instantTransport answers every request immediately, so that the benchmark measures only the edge.
type instantTransport struct{}

func (instantTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: 2, Body: io.NopCloser(strings.NewReader("{}")),
		Header: http.Header{"Content-Type": {"application/json"}, "X-Revision": {"tweet-00001"}},
	}, nil
}

// BenchmarkServe measures the edge's own work for one GET: to a function, to a function beside a guest, to a guest without an
// experiment, and to a guest with an experiment of visitors.
func BenchmarkServe(b *testing.B) {
	functions := targetsOf("tweet")
	shop := targetsOf("shop")[0]
	shop.guest = &guest{timeout: time.Minute}
	visitors := openTo("checkout", experiment.User, "shop")
	visitors.Identity.Kind = experiment.ByVisitor
	for name, c := range map[string]struct {
		view view
		path string
	}{
		"function":              {view{targets: functions}, "/tweet"},
		"function beside guest": {view{targets: append(targetsOf("tweet"), shop)}, "/tweet"},
		"guest":                 {view{targets: []*target{shop}}, "/shop"},
		"visitor":               {view{targets: []*target{shop}, experiments: []experiment.Rules{visitors}}, "/shop"},
	} {
		b.Run(name, func(b *testing.B) {
			f := function.NewTest(io.Discard)
			r := &routes{log: f.Telemetry.Log}
			if err := r.replace(c.view); err != nil {
				b.Fatal(err)
			}
			edge := New(config{limits: generous, upstreamTimeout: time.Minute, steerURL: "http://" + refusingAddress(b)}, r, new(token.Verifier), function.TestKey, f.Telemetry)
			edge.proxy.Transport, edge.guests.proxy.Transport = armFallback{instantTransport{}}, guestFallback{instantTransport{}}
			handler := f.WholeHandler(edge, r)
			first := httptest.NewRecorder()
			handler.ServeHTTP(first, httptest.NewRequest(http.MethodGet, c.path, http.NoBody))
			if first.Code != http.StatusOK {
				b.Fatalf("%d %s", first.Code, first.Body)
			}
			cookie := cookieFrom(answer{Response: first.Result()})
			b.ReportAllocs()
			for b.Loop() {
				request := httptest.NewRequest(http.MethodGet, c.path, http.NoBody)
				if cookie != "" {
					request.Header.Set("Cookie", cookie)
				}
				handler.ServeHTTP(httptest.NewRecorder(), request)
			}
		})
	}
}
