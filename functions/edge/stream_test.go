package main

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"warble/shared/function"
)

// TestAStreamHasItsOwnTimeLimit checks that a stream's limit is its Service's timeout. For the function's other answers,
// UPSTREAM_TIMEOUT limits the whole answer.
func TestAStreamHasItsOwnTimeLimit(t *testing.T) {
	t.Parallel()
	const (
		timeout = 200 * time.Millisecond
		parts   = 40
	)
	part := bytes.Repeat([]byte("x"), 256<<10)
	slow := handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		for n := 0; n < parts && r.Context().Err() == nil; n++ {
			if _, err := w.Write(part); err != nil {
				return
			}
			for n == parts/2 && time.Since(begun) < 4*timeout && r.Context().Err() == nil {
				time.Sleep(timeout / 10)
			}
		}
	})
	url, log := serveFunction(t, function.Routes{"GET /x/all": slow, "GET /x/rest": slow})
	edge := start(t, config{upstreamTimeout: timeout}, functionEntry{Name: "x", URL: url, Routes: []string{"/x/all", "/x/rest"}, Streams: map[string]int{"/x/all": 300}})
	for path, whole := range map[string]bool{"/x/all": true, "/x/rest": false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if got := err == nil && n == parts*int64(len(part)); got != whole {
			t.Errorf("%s: %s, %d bytes, %v: want the whole: %t\n%s", path, answer.Status, n, err, whole, log)
		}
	}
}
