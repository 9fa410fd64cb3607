package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/token"
)

// TestAnAnswerOfAProxyBecomesAProblem tests Knative's ingress, activator and queue proxy, which answer in plain text.
func TestAnAnswerOfAProxyBecomesAProblem(t *testing.T) {
	t.Parallel()
	var host string // the host of the request, by which Knative's ingress routes
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		switch r.URL.Path {
		case "/function":
			problem.Write(w, problem.Unavailable.Detail("the database is away").After(7*time.Second), "1")
		case "/nobody":
			problem.Write(w, problem.NotFound.Detail("no such tweet"), "1")
		case "/activator":
			http.Error(w, "context deadline exceeded", http.StatusServiceUnavailable)
		case "/queue":
			http.Error(w, "dial tcp 127.0.0.1:8080: connect: connection refused", http.StatusBadGateway)
		case "/slow":
			http.Error(w, "request timeout", http.StatusGatewayTimeout)
		case "/ingress":
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(upstream.Close)
	address, err := url.Parse(strings.Replace(upstream.URL, "127.0.0.1", "localhost", 1))
	if err != nil {
		t.Fatal(err)
	}
	log := new(journal)
	f := function.NewTest(log)
	r := &routes{log: zerolog.Nop()}
	if err := r.replace(view{targets: []*target{{name: "tweet", url: address, routes: []string{"/"}}}}); err != nil {
		t.Fatal(err)
	}
	unlimited := limit{1000, time.Minute}
	edge := New(config{upstreamTimeout: time.Minute, limits: limits{unlimited, unlimited, unlimited}}, r, new(token.Verifier), function.TestKey, f.Telemetry)
	server := httptest.NewServer(f.WholeHandler(edge, r))
	t.Cleanup(server.Close)

	check := func(path string, status int, retry, has string) {
		t.Helper()
		a := send(t, http.MethodGet, server.URL+path, "")
		if a.StatusCode != status || a.Header.Get("Content-Type") != problem.MediaType || a.Header.Get("Retry-After") != retry || !strings.Contains(a.body, has) {
			t.Errorf("%s: %s %v %s", path, a.Status, a.Header, a.body)
		}
		if host != address.Host {
			t.Errorf("%s was for %q, want %q", path, host, address.Host)
		}
	}
	check("/function", http.StatusServiceUnavailable, "7", "the database is away")
	check("/nobody", http.StatusNotFound, "", "no such tweet")
	for _, path := range []string{"/activator", "/queue", "/slow", "/ingress"} {
		check(path, http.StatusServiceUnavailable, "1", "not available")
	}
	eventually(t, "the log says what the activator said", func() bool {
		return log.count(address.Host+` answered 503 Service Unavailable, and the answer is not a function's: \"context deadline exceeded\\n\"`) == 1
	})
}

func TestTheLimitsAreDividedByTheReplicas(t *testing.T) {
	t.Parallel()
	m := newLimiter(limits{{10, time.Minute}, {10, time.Minute}, {3, time.Minute}}, time.Now)
	take := func(c class) (limit, remaining, policy string, refused bool) {
		header := make(http.Header)
		wait := m.take(header, c, 1, clientAddress(httptest.NewRequest(http.MethodGet, "/", nil), nil))
		return header.Get("X-Rate-Limit-Limit"), header.Get("X-Rate-Limit-Remaining"), header.Get("Ratelimit-Policy"), wait > 0
	}
	expect := func(c class, replicas int, limit, remaining, policy string, refused bool) {
		t.Helper()
		m.divide(replicas)
		if l, r, p, no := take(c); l != limit || r != remaining || p != policy || no != refused {
			t.Errorf("of %d: limit %s, remaining %s, %s, refused %t", replicas, l, r, p, no)
		}
	}
	expect(read, 1, "10", "9", `"read";q=10;w=60`, false)
	expect(read, 4, "2", "0", `"read";q=2;w=60`, false) // the second of this window
	expect(read, 5, "2", "0", `"read";q=2;w=60`, true)
	expect(read, 2, "5", "1", `"read";q=5;w=60`, false)
	expect(auth, 100, "1", "0", `"auth";q=1;w=60`, false) // everybody has at least one call
}
