package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"warble/shared/clocktest"
	"warble/shared/function"
	"warble/shared/problem"
)

// answeredWithin sends a request and checks how long its answer took.
func answeredWithin(t *testing.T, low, high time.Duration, method, url, body string, headers ...string) (a answer) {
	t.Helper()
	begun := time.Now()
	took := clocktest.Took(func() { a = send(t, method, url, body, headers...) })
	if waited := time.Since(begun); waited < low || took > high {
		t.Errorf("answered after %s, of which %s are not this machine's, want %s to %s", waited, took, low, high)
	}
	return a
}

func TestAFunctionThatRefusesTheConnectionIsA503Immediately(t *testing.T) {
	t.Parallel()
	edge := start(t, config{}, functionEntry{Name: "x", URL: "http://" + refusingAddress(t), Routes: []string{"/x"}})
	for _, body := range []string{"", "text"} {
		a := answeredWithin(t, 0, time.Second, http.MethodPost, edge.url+"/x", body)
		wantProblem(t, a, problem.Unavailable)
		if retry := a.Header.Get("Retry-After"); retry != "1" {
			t.Errorf("Retry-After %q", retry)
		}
		line := edge.log.line(t, a.Header.Get("X-Request-Id"))
		if cause, _ := line["error.message"].(string); line["level"] != "error" || !strings.Contains(cause, "x: dial tcp") || !strings.Contains(cause, "refused") {
			t.Errorf("log line %v", line)
		}
		if strings.Contains(a.body, "dial") || strings.Contains(a.body, "127.0.0.1") {
			t.Errorf("the answer tells where the function is: %s", a.body)
		}
	}
}

// TestAStartingFunctionIsWaitedFor sends requests with and without a body before the function listens. The function answers all of
// them, at its old address or at a new one.
func TestAStartingFunctionIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, moves := range []bool{false, true} {
		address := refusingAddress(t)
		starting := functionEntry{Name: "x", URL: "http://" + address, Starting: true, Routes: []string{"/x"}}
		edge := start(t, config{}, starting)
		var all sync.WaitGroup
		var answered atomic.Int32
		for range 10 {
			for _, body := range []string{"", "text"} {
				all.Go(func() {
					a, err := try(t.Context(), http.MethodPost, edge.url+"/x", body)
					answered.Add(1)
					if err != nil || a.StatusCode != http.StatusOK || a.body != "got "+body {
						t.Errorf("moves %v: %v %+v", moves, err, a)
					}
				})
			}
		}
		handler := function.NewTest(io.Discard).Handler(function.Routes{"/x": handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, "got "+string(body))
		})})
		// The function starts only after the edge has waited for a while. From outside, this shows only in the missing answers.
		time.Sleep(150 * time.Millisecond)
		if answered.Load() != 0 {
			t.Error("answered before the function was there")
		}
		if moves {
			address = "127.0.0.1:0"
		}
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}} //nolint:gosec // a test's
		server.Start()
		t.Cleanup(server.Close)
		if moves {
			edge.write(t, functionEntry{Name: "x", URL: server.URL, Routes: []string{"/x"}})
		}
		all.Wait()
	}
}

// TestTheWaitForAStartIsBounded checks that the edge waits until UPSTREAM_TIMEOUT at most, and not after the start has ended.
func TestTheWaitForAStartIsBounded(t *testing.T) {
	t.Parallel()
	const timeout = 400 * time.Millisecond
	x := functionEntry{Name: "x", URL: "http://" + refusingAddress(t), Starting: true, Routes: []string{"/x"}}
	edge := start(t, config{upstreamTimeout: timeout}, x)
	a := answeredWithin(t, timeout-50*time.Millisecond, timeout+2*time.Second, http.MethodPost, edge.url+"/x", "text")
	wantProblem(t, a, problem.Unavailable)
	if line := edge.log.line(t, a.Header.Get("X-Request-Id")); line["level"] != "error" || !strings.HasPrefix(line["error.message"].(string), "unavailable: x") {
		t.Errorf("log line %v", line)
	}

	patient := start(t, config{upstreamTimeout: 2 * time.Minute}, x)
	for name, after := range map[string][]functionEntry{"it failed to start": {{Name: "x", URL: x.URL, Routes: x.Routes}}, "it is gone": nil} {
		patient.write(t, x)
		answered := make(chan answer)
		go func() {
			a, err := try(t.Context(), http.MethodGet, patient.url+"/x", "")
			if err != nil {
				t.Error(name, err)
			}
			answered <- a
		}()
		select {
		case a := <-answered:
			t.Errorf("%s: not waited for: %s", name, a.Status)
			continue
		case <-time.After(100 * time.Millisecond): // the edge waits
		}
		patient.write(t, after...)
		select {
		case a := <-answered:
			wantProblem(t, a, problem.Unavailable)
		case <-time.After(time.Minute):
			t.Fatalf("%s, and the request still hangs", name)
		}
	}
}

func TestAClientThatLeavesWhileAFunctionStartsIsA499(t *testing.T) {
	t.Parallel()
	edge := start(t, config{}, functionEntry{Name: "x", URL: "http://" + refusingAddress(t), Starting: true, Routes: []string{"/x"}})
	// On a busy machine a client may leave before the edge knows of it; then another client comes.
	eventually(t, "a client that leaves", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := try(ctx, http.MethodGet, edge.url+"/x", "", "X-Request-Id", "impatient"); err == nil {
			t.Error("answered")
		}
		return strings.Contains(edge.log.String(), "impatient")
	})
	if line := edge.log.line(t, "impatient"); line["http.status_code"] != 499.0 {
		t.Errorf("log line %v", line)
	}
}

// TestAFunctionThatNeverAnswersIsA503, whether nobody reads its socket or its handler is slow.
func TestAFunctionThatNeverAnswersIsA503(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	deaf, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts, and nobody reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { deaf.Close() })
	slow, _ := serveFunction(t, function.Routes{"/slow": handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // ended by the edge's deadline, which the function receives
	})})
	edge := start(t, config{upstreamTimeout: timeout},
		functionEntry{Name: "deaf", URL: "http://" + deaf.Addr().String(), Routes: []string{"/deaf"}}, functionEntry{Name: "slow", URL: slow, Routes: []string{"/slow"}})
	for _, body := range []string{"", "text"} {
		a := answeredWithin(t, timeout-50*time.Millisecond, timeout+2*time.Second, http.MethodPost, edge.url+"/deaf", body)
		wantProblem(t, a, problem.Unavailable)
		if line := edge.log.line(t, a.Header.Get("X-Request-Id")); line["error.message"] == nil || !strings.Contains(line["error.message"].(string), "deadline exceeded") {
			t.Errorf("log line %v", line)
		}
	}
	answeredWithin(t, 0, timeout+2*time.Second, http.MethodGet, edge.url+"/slow", "")
}

// TestAClientSeesThatAnAnswerBrokeOff, and the log says why.
func TestAClientSeesThatAnAnswerBrokeOff(t *testing.T) {
	t.Parallel()
	half := strings.Repeat("half", 1000)
	for name, length := range map[string]string{"of a known length": "8000", "chunked": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, handlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, half)
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler) // a client cannot distinguish this from a process that dies
			}))
			edge := start(t, config{}, functionEntry{Name: "x", URL: url, Routes: []string{"/x"}})
			a, err := try(t.Context(), http.MethodGet, edge.url+"/x", "", "X-Request-Id", "half")
			if err == nil {
				t.Errorf("%s: %d bytes pass for a whole answer", a.Status, len(a.body))
			}
			line := edge.log.line(t, "half")
			if cause, _ := line["error.message"].(string); line["level"] != "error" || !strings.Contains(cause, "the answer broke off: unexpected EOF") {
				t.Errorf("log line %v", line)
			}
		})
	}
	t.Run("past the deadline", func(t *testing.T) {
		t.Parallel()
		url := serve(t, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, half)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		for timeout := 2 * time.Second; ; timeout *= 2 { // the first bytes arrive long before the timeout; on a busy machine, before a longer one
			edge := start(t, config{upstreamTimeout: timeout}, functionEntry{Name: "x", URL: url, Routes: []string{"/x"}})
			a, err := try(t.Context(), http.MethodGet, edge.url+"/x", "", "X-Request-Id", "late")
			if err == nil && a.StatusCode == http.StatusServiceUnavailable && timeout < time.Minute {
				continue
			}
			if err == nil {
				t.Errorf("%s: %d bytes pass for a whole answer", a.Status, len(a.body))
			}
			if line := edge.log.line(t, "late"); line["error.message"] != "the answer broke off: context deadline exceeded" {
				t.Errorf("log line %v", line)
			}
			return
		}
	})
}

// TestABusyFunctionKeepsItsConnections: 200 concurrent requests dial 200 times, and later requests hardly ever dial.
func TestABusyFunctionKeepsItsConnections(t *testing.T) {
	t.Parallel()
	const concurrent, rounds = 200, 10
	var dials atomic.Int32
	var entered sync.WaitGroup // all requests of the first round hold a connection at the same time
	entered.Add(concurrent)
	var arrived atomic.Int32
	server := httptest.NewUnstartedServer(function.NewTest(io.Discard).Handler(function.Routes{"POST /x": handlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if arrived.Add(1) <= concurrent {
			entered.Done()
			entered.Wait()
		}
		_, _ = io.WriteString(w, "x")
	})}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dials.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	edge := start(t, config{}, functionEntry{Name: "x", URL: server.URL, Routes: []string{"/x"}})
	for range rounds {
		var all sync.WaitGroup
		for range concurrent {
			all.Go(func() {
				if a, err := try(t.Context(), http.MethodPost, edge.url+"/x", "text"); err != nil || a.StatusCode != http.StatusOK {
					t.Errorf("%v %+v", err, a)
				}
			})
		}
		all.Wait()
	}
	// A connection becomes idle a moment after its answer was read. So a round that begins in that moment may dial a few more, or
	// on a busy machine some dozens more. An edge that keeps half of the connections dials a hundred in each round.
	if n := dials.Load(); n < concurrent || n > concurrent*rounds/2 {
		t.Errorf("%d dials for %d requests, %d at once", n, concurrent*rounds, concurrent)
	}
}

// newUpstreamTo returns the edge's transport to a function, in a cluster or outside.
func newUpstreamTo(t *testing.T, cluster bool, to *target) *upstream {
	t.Helper()
	r := &routes{cluster: cluster}
	if err := r.replace(view{targets: []*target{to}}); err != nil {
		t.Fatal(err)
	}
	return newUpstream(r)
}

// dialWith replaces the dial function of an upstream.
func (u *upstream) dialWith(by func(ctx context.Context, network, address string) (net.Conn, error)) {
	u.RoundTripper.(*http.Transport).DialContext = by
}

// roundTrip sends a request to a function, or to its tag, as the edge does.
func (u *upstream) roundTrip(ctx context.Context, t *testing.T, to *target, tag string) (body string, err error) {
	t.Helper()
	p := &passage{name: to.name, url: to.url, tag: tag}
	if tag != "" {
		p.url = to.tags[tag].url
	}
	request, err := http.NewRequestWithContext(context.WithValue(ctx, passageKey{}, p), http.MethodPost, p.url.String(), strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := u.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

func targetAt(t *testing.T, host string) *target {
	t.Helper()
	address, err := parseAddress("http://" + host)
	if err != nil {
		t.Fatal(err)
	}
	return &target{name: "x", url: address, tags: map[string]tagged{"likes-control": {url: address}}}
}

// TestADialIsRepeatedInACluster: a request whose first two dials fail is not lost if somebody listens at the third.
func TestADialIsRepeatedInACluster(t *testing.T) {
	t.Parallel()
	host := refusingAddress(t)
	to := targetAt(t, host)
	u := newUpstreamTo(t, true, to)
	u.redial = time.Minute // on a busy machine three dials may take longer than the edge allows
	dials := 0
	u.dialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials == 3 {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", host)
			if err != nil {
				return nil, err
			}
			server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}} //nolint:gosec // a test's
			server.Start()
			t.Cleanup(server.Close)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	if body, err := u.roundTrip(t.Context(), t, to, ""); err != nil || body != "text" || dials != 3 {
		t.Errorf("%q after %d dials, %v", body, dials, err)
	}
}

// TestADialIsRepeatedForAWhile: in a cluster for 3 s, or as long as the request has time; outside not at all. The error says why,
// and how often. Nothing answers for an arm that refuses.
func TestADialIsRepeatedForAWhile(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		time    time.Duration // the request's time limit
		cluster bool
		tag     string
		took    time.Duration
		says    string
	}{
		"outside":              {time.Minute, false, "", 0, "x: dial tcp: connection refused"},
		"in a cluster":         {time.Minute, true, "", redialLimit, "x: dial tcp: connection refused (31 dials in 3s)"},
		"an arm":               {time.Minute, true, "likes-control", redialLimit, "x: dial tcp: connection refused (31 dials in 3s)"},
		"an arm, outside":      {time.Minute, false, "likes-control", 0, "x: dial tcp: connection refused"},
		"a request in a hurry": {450 * time.Millisecond, true, "", 450 * time.Millisecond, "x: context deadline exceeded: dial tcp: connection refused (5 dials in 450ms)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := targetAt(t, "refuses.example")
			if tt.tag != "" {
				to.url = targetAt(t, "serves.example").url
			}
			synctest.Test(t, func(t *testing.T) {
				u := newUpstreamTo(t, tt.cluster, to)
				u.dialWith(func(_ context.Context, _, address string) (net.Conn, error) {
					if address != "refuses.example:80" {
						t.Errorf("%s is dialled", address)
					}
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
				})
				ctx, cancel := context.WithTimeout(t.Context(), tt.time)
				defer cancel()
				begun := time.Now()
				_, err := u.roundTrip(ctx, t, to, tt.tag)
				if took := time.Since(begun); err == nil || err.Error() != tt.says || took != tt.took {
					t.Errorf("%v after %s, want %s after %s", err, took, tt.says, tt.took)
				}
			})
		})
	}
}
