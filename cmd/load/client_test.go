package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func newTestClient(t *testing.T, url string) *client {
	t.Helper()
	c, err := newClient(t.Context(), url, "", time.Minute, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// A name may resolve to another address at the next connection, so each connection is checked.
func TestConnectionsToOtherMachinesAreRefused(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"http://192.0.2.1", "http://[2001:db8::1]:8080", "http://[::ffff:192.0.2.1]", "http://0.0.0.0:80", "http://10.89.0.1"} {
		c := newTestClient(t, "http://127.0.0.1:8080")
		c.base = base
		_, err := c.call(t.Context(), http.MethodGet, "/communities", "", nil, nil)
		if err == nil || !strings.Contains(err.Error(), "is not on this machine") {
			t.Errorf("%s: %v", base, err)
		}
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	r, err := newTestClient(t, server.URL).call(t.Context(), http.MethodGet, "/communities", "", nil, nil)
	if err != nil || r.status != http.StatusTemporaryRedirect || !isError(outcome(r, err)) {
		t.Errorf("%+v %v, want an error of 307", r, err)
	}
}

func TestOutcomesHaveNames(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/fine", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen-Host", r.Host)
		_, _ = w.Write([]byte(`{"data":[]}`))
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/nonsense", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) })
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-hangs })
	mux.HandleFunc("/gone", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hangs) })
	c := newTestClient(t, server.URL)
	for path, want := range map[string]string{
		"/fine": "200", "/broken": "503", "/nonsense": "unreadable", "/hangs": "timeout", "/gone": "connection",
	} {
		c.http.Timeout = time.Minute
		if path == "/hangs" {
			c.http.Timeout = 200 * time.Millisecond
		}
		var list struct{ Data []string }
		if got := outcome(c.call(t.Context(), http.MethodGet, path, "", nil, &list)); got != want || isError(got) != (want != "200") {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
