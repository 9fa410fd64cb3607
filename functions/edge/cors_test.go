package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/function"
)

// corsOf returns the CORS headers of an answer.
func corsOf(header http.Header) map[string]string {
	found := map[string]string{}
	for name := range maps.Keys(header) {
		if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
			found[name] = strings.Join(header[name], "; ")
		}
	}
	return found
}

func TestCORS(t *testing.T) {
	t.Parallel()
	url, _ := serveFunction(t, function.Routes{"GET /x": handlerFunc(func(http.ResponseWriter, *http.Request) {})})
	const page = "https://app.example.org"
	preflight := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"}
	allowed := map[string]string{"Vary": "Origin", "Access-Control-Allow-Origin": page, "Access-Control-Expose-Headers": corsExposed}
	tests := []struct {
		name    string
		origins []string
		method  string
		headers []string
		status  int
		want    map[string]string
	}{
		{"off by default", nil, "GET", []string{"Origin", page}, 200, map[string]string{}},
		{"off by default, beforehand", nil, "OPTIONS", append([]string{"Origin", page}, preflight...), 405, map[string]string{}},
		{"listed", []string{"https://other.example.org", page}, "GET", []string{"Origin", page}, 200, allowed},
		{"any", []string{"*"}, "GET", []string{"Origin", page}, 200, allowed},
		{"not listed", []string{page}, "GET", []string{"Origin", "https://evil.example.org"}, 200, map[string]string{"Vary": "Origin"}},
		{"a listed one's beginning", []string{page}, "GET", []string{"Origin", page + ".evil.org"}, 200, map[string]string{"Vary": "Origin"}},
		{"null", []string{page}, "GET", []string{"Origin", "null"}, 200, map[string]string{"Vary": "Origin"}},
		{"no browser", []string{page}, "GET", nil, 200, map[string]string{"Vary": "Origin"}},
		{"beforehand", []string{page}, "OPTIONS", append([]string{"Origin", page}, preflight...), 204, map[string]string{
			"Vary": "Origin", "Access-Control-Allow-Origin": page, "Access-Control-Allow-Methods": "GET, HEAD, POST, DELETE",
			"Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-None-Match, X-Request-Id", "Access-Control-Max-Age": "600",
		}},
		{"beforehand, not listed", []string{page}, "OPTIONS", append([]string{"Origin", "https://evil.example.org"}, preflight...), 405, map[string]string{"Vary": "Origin"}},
		{"OPTIONS that is no preflight", []string{page}, "OPTIONS", []string{"Origin", page}, 405, allowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			edge := start(t, config{origins: tt.origins}, functionEntry{Name: "x", URL: url, Routes: []string{"/x"}})
			a := send(t, tt.method, edge.url+"/x", "", tt.headers...)
			if diff := cmp.Diff(tt.want, corsOf(a.Header)); diff != "" || a.StatusCode != tt.status {
				t.Errorf("%s %s", a.Status, diff)
			}
			if a.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("cookies are nothing to us")
			}
		})
	}
}

// TestPagesCanReadEveryHeaderThatAnswersHave is needed because a page cannot see a header that is not exposed.
func TestPagesCanReadEveryHeaderThatAnswersHave(t *testing.T) {
	t.Parallel()
	url, _ := serveFunction(t, function.Routes{"GET /x": handlerFunc(func(http.ResponseWriter, *http.Request) {})})
	edge := start(t, config{origins: []string{"*"}, limits: limits{read: {1, 1e9}, write: {1, 1e9}, auth: {1, 1e9}}},
		functionEntry{Name: "x", URL: url, Routes: []string{"/x"}})
	exposed := strings.Split(corsExposed, ", ")
	safe := []string{"Content-Length", "Content-Type", "Date"} // readable without this, or useless to pages
	for range 2 {                                              // the second is a 429
		a := send(t, http.MethodGet, edge.url+"/x", "", "Origin", "https://app.example.org")
		for name := range a.Header {
			if !slices.ContainsFunc(slices.Concat(exposed, safe), func(e string) bool { return strings.EqualFold(e, name) }) &&
				!strings.HasPrefix(name, "Access-Control-") && name != "Vary" {
				t.Errorf("%s: %s is not exposed", a.Status, name)
			}
		}
	}
}

func TestAPreflightCostsNoCall(t *testing.T) {
	t.Parallel()
	edge := start(t, config{origins: []string{"*"}, limits: limits{read: {1, 3600e9}, write: {1, 3600e9}, auth: {1, 3600e9}}})
	for range 3 {
		if a := send(t, http.MethodOptions, edge.url+"/x", "", "Origin", "https://app.example.org", "Access-Control-Request-Method", "POST"); a.StatusCode != http.StatusNoContent {
			t.Errorf("%s %s", a.Status, a.body)
		}
	}
}
