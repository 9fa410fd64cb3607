package function_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"warble/shared/function"
)

// slow is a body that takes its time.
type slow struct {
	parts int
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.parts == 0 {
		return 0, io.EOF
	}
	time.Sleep(s.pause)
	s.parts--
	return copy(p, strings.Repeat("x", 20<<10)), nil
}

// TestStreamLiftsTheLimits checks the limits of size and of time, which are lifted for one request only.
func TestStreamLiftsTheLimits(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	f := function.NewTest(io.Discard)
	server := httptest.NewUnstartedServer(f.WholeHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streamed" {
			function.Current(r.Context()).Stream(r)
		}
		n, err := io.Copy(io.Discard, r.Body)
		time.Sleep(limit)
		fmt.Fprint(w, n, " ", err, " ", r.Context().Err())
	})))
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	for range 2 { // on one connection
		answer, err := http.Post(server.URL+"/streamed", "", &slow{4, limit / 2})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if want := fmt.Sprint(4*20<<10, " <nil> <nil>"); string(text) != want || err != nil {
			t.Errorf("a body of 80 KiB in 1 s, and an answer after another half: %q, %v, want %q", text, err, want)
		}
	}
	if answer, err := http.Post(server.URL, "", &slow{4, limit / 2}); err == nil {
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err == nil && strings.HasSuffix(string(text), "<nil> <nil>") {
			t.Errorf("without Stream: %q", text)
		}
	}
}

// TestTheEdgesDeadlineReplacesTheServersLimits checks a deadline that is later than the limits, as for a function that streams its answer.
func TestTheEdgesDeadlineReplacesTheServersLimits(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	f := function.NewTest(io.Discard)
	server := httptest.NewUnstartedServer(f.WholeHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * limit)
		fmt.Fprint(w, r.Context().Err())
	})))
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	for range 2 { // on one connection
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(function.HeaderClient, "192.0.2.1")
		r.Header.Set(function.HeaderDeadline, strconv.FormatInt(time.Now().Add(10*time.Minute).UnixMilli(), 10))
		function.Sign(r, function.TestKey, time.Now())
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if string(text) != "<nil>" || err != nil {
			t.Errorf("an answer after 1.5 s: %q, %v", text, err)
		}
	}
}
