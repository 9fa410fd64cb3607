package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/function"
	"warble/shared/problem"
)

// seen has the parts of a request that a function saw.
type seen struct {
	Method, Target, Host, Body, Client, ID string
	Header                                 http.Header
	Deadline                               time.Time
}

// mirror serves a function that answers every request under /m with what it saw of the request.
func mirror(t testing.TB) (url string, log *logBuffer) {
	t.Helper()
	return serveFunction(t, function.Routes{"/m/{rest...}": handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s := seen{r.Method, r.RequestURI, r.Host, string(body), function.Client(r.Context()).String(), function.RequestID(r.Context()), r.Header, time.Time{}}
		s.Deadline, _ = r.Context().Deadline()
		text, err := json.Marshal(s)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	})})
}

func (a answer) seen(t testing.TB) (s seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &s); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %v", a.Status, a.body, err)
	}
	return s
}

func startWithMirror(t testing.TB, c config) (edge *rig, functionLog *logBuffer) {
	t.Helper()
	url, log := mirror(t)
	return start(t, c, functionEntry{Name: "mirror", URL: url, Routes: []string{"/m/"}}), log
}

// TestOnlyTheEdgeCanSetItsHeaders: the edge removes a client's headers of these names, and the function believes only the edge's.
func TestOnlyTheEdgeCanSetItsHeaders(t *testing.T) {
	t.Parallel()
	const timeout = time.Minute
	edge, _ := startWithMirror(t, config{upstreamTimeout: timeout})
	forged, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url+"/m/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	forged.Header.Set("X-Request-Id", "one")
	forged.Header.Set(function.HeaderClient, "192.0.2.66")
	forged.Header.Set(function.HeaderDeadline, "99999999999999")
	function.Sign(forged, []byte("a key that a client made up"), time.Now())
	for name, headers := range map[string][]string{
		"none": nil,
		"forged": {
			"X-Request-Id", "one", function.HeaderClient, "192.0.2.66", function.HeaderDeadline, "99999999999999",
			function.HeaderTime, forged.Header.Get(function.HeaderTime), function.HeaderSignature, forged.Header.Get(function.HeaderSignature),
		},
		"unknown":   {"Warble-Assignment", "likes=treatment", "warble-variant", "b", "WARBLE-X", "1", "Knative-Serving-Tag", "candidate"},
		"several":   {function.HeaderClient, "192.0.2.66", function.HeaderClient, "192.0.2.67"},
		"dropped":   {"Connection", "Warble-Signature, Warble-Client, X-Request-Id, Knative-Serving-Tag", "Knative-Serving-Tag", "candidate"},
		"as a hop":  {"Connection", "close", "X-Real-Ip", "192.0.2.66"},
		"forwarded": {"X-Forwarded-Host", "evil.example.org", "X-Forwarded-Proto", "gopher", "Forwarded", "for=192.0.2.66"},
	} {
		before := time.Now()
		got := send(t, http.MethodGet, edge.url+"/m/x?a=1", "", headers...).seen(t)
		if got.Client != "127.0.0.1" {
			t.Errorf("%s: the function takes the client for %s", name, got.Client)
		}
		if at := got.Deadline.Add(-timeout); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("%s: the function has until %s, want %s from %s on", name, got.Deadline, timeout, before)
		}
		asserted := map[string]bool{}
		for header, values := range got.Header {
			if strings.HasPrefix(header, "Warble-") {
				asserted[header] = len(values) == 1
			}
			if strings.HasPrefix(header, "Knative-") || strings.HasPrefix(header, "X-Forwarded-") && header != "X-Forwarded-For" || header == "Forwarded" {
				t.Errorf("%s: %s reaches the function", name, header)
			}
		}
		want := map[string]bool{function.HeaderClient: true, function.HeaderDeadline: true, function.HeaderTime: true, function.HeaderSignature: true}
		if diff := cmp.Diff(want, asserted); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTheRequestIDIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	edge, functionLog := startWithMirror(t, config{})
	for sent, kept := range map[string]bool{
		"abc-1.2_3": true, strings.Repeat("a", 64): true, strings.Repeat("b", 65): false, "": false, "a b": false, "<script>": false, "é": false,
	} {
		a := send(t, http.MethodGet, edge.url+"/m/x", "", "X-Request-Id", sent)
		ids := a.Header["X-Request-Id"]
		if len(ids) != 1 || (ids[0] == sent) != kept || ids[0] == "" {
			t.Fatalf("sent %q, got %q", sent, ids)
		}
		if got := a.seen(t); got.ID != ids[0] {
			t.Errorf("the client has %q, the function %q", ids[0], got.ID)
		}
		if line := edge.log.line(t, ids[0]); line["http.route"] != "/m/" || line["http.status_code"] != 200.0 {
			t.Errorf("the edge's line: %v", line)
		}
		functionLog.line(t, ids[0])
	}
}

// TestTheHeadersThatAFunctionReceives compares all headers of a request.
func TestTheHeadersThatAFunctionReceives(t *testing.T) {
	t.Parallel()
	edge, _ := startWithMirror(t, config{})
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	a := send(t, http.MethodPost, edge.url+"/m/a%2Fb?x=1&y=%20;z=%zz", `{"text":"a"}`,
		"Authorization", "Bearer x", "Content-Type", "application/json", "Idempotency-Key", "k", "Traceparent", traceparent, "Tracestate", "a=b",
		"User-Agent", "test", "If-None-Match", `"x"`,
		"Accept-Encoding", "gzip, ZSTD", "Accept-Encoding", "zstd;q=1, *", "Connection", "X-Hop, keep-alive", "X-Hop", "1", "Keep-Alive", "timeout=5",
		"Proxy-Authorization", "Basic x", "Te", "gzip", "Proxy-Connection", "keep-alive", "Upgrade", "websocket")
	got := a.seen(t)
	for _, changes := range []string{function.HeaderClient, function.HeaderDeadline, function.HeaderTime, function.HeaderSignature, "X-Request-Id"} {
		got.Header.Del(changes)
	}
	want := http.Header{
		"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}, "Idempotency-Key": {"k"}, "Traceparent": {traceparent}, "Tracestate": {"a=b"},
		"User-Agent": {"test"}, "If-None-Match": {`"x"`}, "Content-Length": {"12"}, "X-Forwarded-For": {"127.0.0.1"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Error(diff)
	}
	if got.Method != "POST" || got.Target != "/m/a%2Fb?x=1&y=%20;z=%zz" || got.Body != `{"text":"a"}` || strings.Contains(edge.url, got.Host) {
		t.Errorf("%+v", got)
	}
}

// TestTheHeadersThatAClientReceives: the function's headers, except those that belong to the connection between edge and function.
func TestTheHeadersThatAClientReceives(t *testing.T) {
	t.Parallel()
	url, _ := serveFunction(t, function.Routes{"GET /x": handlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Etag": `"x"`, "X-Revision": "x-1", "Keep-Alive": "timeout=5", "Connection": "X-Hop", "X-Hop": "1", "Proxy-Authenticate": "x", "Retry-After": "7"} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	})})
	edge := start(t, config{}, functionEntry{Name: "x", URL: url, Routes: []string{"/x"}})
	a := send(t, http.MethodGet, edge.url+"/x", "")
	for _, ours := range []string{"X-Request-Id", "X-Rate-Limit-Limit", "X-Rate-Limit-Remaining", "X-Rate-Limit-Reset", "Ratelimit", "Ratelimit-Policy", "Date"} {
		if len(a.Header[ours]) != 1 {
			t.Errorf("%s: %q", ours, a.Header[ours])
		}
		a.Header.Del(ours)
	}
	want := http.Header{"Etag": {`"x"`}, "X-Revision": {"x-1"}, "Retry-After": {"7"}, "Content-Length": {"15"}, "Content-Type": {"text/plain; charset=utf-8"}}
	if diff := cmp.Diff(want, a.Header); diff != "" || a.StatusCode != http.StatusTeapot || a.body != "short and stout" {
		t.Errorf("%s %q %s", a.Status, a.body, diff)
	}
	head := send(t, http.MethodHead, edge.url+"/x", "")
	if head.StatusCode != http.StatusTeapot || head.body != "" || head.Header.Get("Content-Length") != "15" {
		t.Errorf("HEAD: %s %q %v", head.Status, head.body, head.Header)
	}
	wantProblem(t, send(t, http.MethodPut, edge.url+"/x", ""), problem.WrongMethod) // the function's own header, unchanged
}

func dial(t testing.TB, url string) *net.TCPConn {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return connection.(*net.TCPConn)
}

func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	edge, _ := startWithMirror(t, config{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	two := &http.Transport{Protocols: protocols}
	t.Cleanup(two.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, edge.url+"/m/x", strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("warble-client", "192.0.2.66")
	response, err := two.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := (answer{response, string(text)}).seen(t); response.ProtoMajor != 2 || got.Body != "text" || got.Client != "127.0.0.1" {
		t.Errorf("%s %+v", response.Proto, got)
	}
}

// TestUpgradesAreNotPassedOn checks all headers that concern only the client's connection to the edge.
func TestUpgradesAreNotPassedOn(t *testing.T) {
	t.Parallel()
	edge, _ := startWithMirror(t, config{})
	for _, upgrade := range []string{"websocket", "h2c", "\x80\xff", "a, b"} {
		connection := dial(t, edge.url)
		if _, err := fmt.Fprintf(connection, "GET /m/x HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", upgrade); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		got := (answer{response, string(text)}).seen(t)
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			if values := got.Header[name]; values != nil {
				t.Errorf("Upgrade %q: the function gets %s %q", upgrade, name, values)
			}
		}
	}
}

// TestAClientThatLeavesIsA499 in the log, with or without a body, and the function's context ends.
func TestAClientThatLeavesIsA499(t *testing.T) {
	t.Parallel()
	arrived, left := make(chan struct{}), make(chan struct{})
	url, _ := serveFunction(t, function.Routes{"/x": handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	})})
	edge := start(t, config{}, functionEntry{Name: "x", URL: url, Routes: []string{"/x"}})
	for id, body := range map[string]string{"leaves-1": "", "leaves-2": "text"} {
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := try(ctx, http.MethodPost, edge.url+"/x", body, "X-Request-Id", id)
			gone <- err
		}()
		<-arrived
		leave()
		if err := <-gone; err == nil {
			t.Error("the client was answered")
		}
		<-left
		if line := edge.log.line(t, id); line["http.status_code"] != 499.0 || line["level"] != "info" || line["error.message"] != nil {
			t.Errorf("log line %v", line)
		}
	}
}
