package main

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/function"
)

// FuzzEdge sends bytes that resemble a request. Whatever the bytes are, the answer is not a 500 and arrives in time, and the edge
// signs what reaches a function.
func FuzzEdge(f *testing.F) {
	backend := serve(f, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reason := unsigned(r, function.TestKey)
		if told := r.Header[experiment.Header]; told != nil {
			reason = "a request carries an assignment, and there is no experiment"
		}
		if reason != "" {
			http.Error(w, reason, http.StatusInternalServerError) // the function below never expects one
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	edge := start(f, config{origins: []string{"*"}}, functionEntry{Name: "x", URL: backend, Routes: []string{"/2/tweets", "/2/tweets/{id}", "/auth/"}})
	for _, seed := range []struct{ method, target, headers, body string }{
		{"GET", "/2/tweets/1?x=1", "Host: edge\r\nAccept-Encoding: zstd", ""},
		{"POST", "/2/tweets", "Host: edge\r\nContent-Length: 2\r\nIdempotency-Key: k", "{}"},
		{"POST", "/auth/login", "Host: edge\r\nTransfer-Encoding: chunked", "2\r\n{}\r\n0\r\nWarble-Client: 1.2.3.4\r\n\r\n"},
		{"POST", "/2/tweets", "Host: edge\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nTrailer: Warble-Client", "1\r\na\r\n0\r\n\r\n"},
		{"GET", "http://elsewhere//2/../2/tweets/%2e%2e", "Host: edge", ""},
		{"OPTIONS", "*", "Host: edge\r\nOrigin: null\r\nAccess-Control-Request-Method: POST", ""},
		{"CONNECT", "edge:80", "Host: edge", ""},
		{"GET", "/2/tweets/%00", "Host: edge\r\nWarble-Client: 1.2.3.4\r\nwarble-signature: x\r\nConnection: Warble-Signature, Upgrade\r\nUpgrade: \x80", ""},
		{"GET", "/2/tweets/1?a=%zz;b", "Host: edge\r\nAuthorization: Bearer e30.e30.e30\r\nX-Forwarded-For: ,,::1\r\nX-Request-Id: a b\r\nExpect: 100-continue", ""},
		{"GET", "/2/tweets/1?#1", "Host: edge", ""},
		{"HEAD", "/docs/", "Host: edge\r\nRange: bytes=0-1\r\nIf-None-Match: *", ""},
		{"PRI", "*", "", "SM\r\n\r\n"},
	} {
		f.Add(seed.method, seed.target, seed.headers, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, method, target, headers string, body []byte) {
		connection := dial(t, edge.url)
		defer connection.Close()
		if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		request := method + " " + target + " HTTP/1.1\r\nConnection: close\r\n" + headers + "\r\n\r\n" + string(body)
		_, _ = io.WriteString(connection, request) // the edge may have answered and closed before the end
		_ = connection.CloseWrite()
		answer, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
		if timedOut(err) {
			t.Fatalf("no answer to %q", request)
		}
		if err != nil {
			return // HTTP/2's preface, or another text after which the server hangs up
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if timedOut(err) {
			t.Fatalf("half an answer to %q: %q", request, text)
		}
		if answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented && answer.StatusCode != http.StatusHTTPVersionNotSupported { // net/http's own answer
			t.Errorf("%s %q to %q", answer.Status, text, request)
		}
		if answer.StatusCode >= 300 && answer.StatusCode < 400 && answer.StatusCode != http.StatusNotModified {
			t.Errorf("%s to %q in answer to %q", answer.Status, answer.Header.Get("Location"), request)
		}
	})
}

func timedOut(err error) bool {
	timeout, ok := err.(interface{ Timeout() bool }) //nolint:errorlint // net's, as it comes
	return ok && timeout.Timeout()
}

// unsigned returns what is wrong with the edge's headers on a request; empty if nothing is.
func unsigned(r *http.Request, key []byte) string {
	at, err := strconv.ParseInt(r.Header.Get(function.HeaderTime), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
		return "a request is signed at no good time"
	}
	again := r.Clone(r.Context())
	again.Header.Del(function.HeaderSignature)
	if again.URL, err = url.ParseRequestURI(r.RequestURI); err != nil { // RequestURI has no fragment: a server reads # as a character
		return err.Error()
	}
	function.Sign(again, key, time.Unix(at, 0))
	if again.Header.Get(function.HeaderSignature) != r.Header.Get(function.HeaderSignature) {
		return "a signature does not hold"
	}
	for name := range r.Header {
		switch name {
		case function.HeaderClient, function.HeaderDeadline, function.HeaderTime, function.HeaderSignature, experiment.Header:
		default:
			if strings.HasPrefix(name, "Warble-") {
				return "a request carries " + name + ", which the edge does not set"
			}
		}
	}
	if client := r.Header[http.CanonicalHeaderKey(function.HeaderClient)]; len(client) != 1 || client[0] != "127.0.0.1" {
		return "a request is said to be of " + strings.Join(client, ", ")
	}
	return ""
}
