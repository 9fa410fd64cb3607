package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	edge, _ := startWithMirror(t, config{})
	const most = 64 << 10
	for _, length := range []int{0, 1, most - 1, most, most + 1, 4 * most} {
		for _, chunked := range []bool{false, true} {
			text := strings.Repeat("a", length)
			var body io.Reader = strings.NewReader(text)
			if chunked {
				body = io.MultiReader(body) // without a known length
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, edge.url+"/m/x", body)
			if err != nil {
				t.Fatal(err)
			}
			// A new connection each time, because the edge closes a connection on which a body is left over.
			own := &http.Transport{DisableKeepAlives: true}
			response, err := own.RoundTrip(r)
			if err != nil {
				t.Fatalf("%d bytes, chunked %v: %v", length, chunked, err)
			}
			read, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			a := answer{response, string(read)}
			if length > most {
				wantProblem(t, a, problem.TooLarge)
				continue
			}
			got := a.seen(t)
			if got.Body != text || len(got.Header["Transfer-Encoding"]) > 0 || length > 0 && got.Header.Get("Content-Length") != fmt.Sprint(length) {
				t.Errorf("%d bytes, chunked %v: the function got %d and %v", length, chunked, len(got.Body), got.Header)
			}
		}
	}
}

func TestABodyThatEndsEarlyReachesNoFunction(t *testing.T) {
	t.Parallel()
	edge, functionLog := startWithMirror(t, config{})
	connection := dial(t, edge.url)
	if _, err := io.WriteString(connection, "POST /m/x HTTP/1.1\r\nHost: edge\r\nX-Request-Id: short\r\nContent-Length: 10\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := connection.CloseWrite(); err != nil {
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
	wantProblem(t, answer{response, string(text)}, problem.Malformed)
	if strings.Contains(functionLog.String(), "short") {
		t.Errorf("the function's log: %s", functionLog)
	}
}

// TestAnAnswerAfter100ContinueHasAllHeaders compares them with the headers of any other answer.
func TestAnAnswerAfter100ContinueHasAllHeaders(t *testing.T) {
	t.Parallel()
	url, _ := serveFunction(t, function.Routes{"POST /auth/x": function.JSON(func(context.Context, struct{}) (map[string]string, error) {
		return map[string]string{}, nil
	})})
	rules := openTo("likes", experiment.User, "x")
	host := strings.TrimPrefix(url, "http://")
	rules.Reach["x"] = experiment.Reach{Host: "nobody.example", Control: sideAt(host, "control"), Treatment: sideAt(host, "treatment")}
	edge := start(t, config{origins: []string{"https://app.example.org"}})
	edge.writeExperiments(t, []experiment.Rules{rules}, functionEntry{Name: "x", URL: url, Routes: []string{"/auth/"}})
	patient := &http.Transport{ExpectContinueTimeout: time.Minute} // the client sends the body only after a 100
	defer patient.CloseIdleConnections()
	names := func(expect string) []string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, edge.url+"/auth/x", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", "https://app.example.org")
		r.Header.Set("Authorization", edge.bearer(t, 1))
		if expect != "" {
			r.Header.Set("Expect", expect)
		}
		answer, err := patient.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("%s %s %v", answer.Status, text, err)
		}
		return slices.Sorted(maps.Keys(answer.Header))
	}
	want := names("")
	for _, name := range []string{"Cache-Control", "X-Rate-Limit-Remaining", "Ratelimit", "Access-Control-Allow-Origin", headerExperiment, headerVariant} {
		if !slices.Contains(want, name) {
			t.Errorf("the answer has no %s: %v", name, want)
		}
	}
	for _, expect := range []string{"100-continue", "100-Continue"} {
		if diff := cmp.Diff(want, names(expect)); diff != "" {
			t.Errorf("Expect: %s: %s", expect, diff)
		}
	}
}

// TestAHeaderOfMoreThan32KiBIsAProblem tests sizes up to 64 KiB, at which net/http answers itself.
func TestAHeaderOfMoreThan32KiBIsAProblem(t *testing.T) {
	t.Parallel()
	edge, _ := startWithMirror(t, config{})
	if a := send(t, http.MethodGet, edge.url+"/m/x", "", "X-Long", strings.Repeat("a", 30<<10)); a.StatusCode != http.StatusOK {
		t.Errorf("30 KiB: %s %s", a.Status, a.body)
	}
	a := send(t, http.MethodGet, edge.url+"/m/x", "", "X-Long", strings.Repeat("a", 33<<10))
	wantProblem(t, a, problem.HeaderTooLarge)
	if a.Header.Get("X-Rate-Limit-Limit") == "" {
		t.Errorf("no limits: %v", a.Header)
	}
	wantProblem(t, send(t, http.MethodGet, edge.url+"/m/"+strings.Repeat("a", 33<<10), ""), problem.HeaderTooLarge)
}

// TestAConnectionWithALengthAndChunksIsClosed checks that a smuggled request behind the body is not read.
func TestAConnectionWithALengthAndChunksIsClosed(t *testing.T) {
	t.Parallel()
	edge, functionLog := startWithMirror(t, config{})
	connection := dial(t, edge.url)
	const request = "POST /m/x HTTP/1.1\r\nHost: edge\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
		"GET /m/x HTTP/1.1\r\nHost: edge\r\nX-Request-Id: smuggled\r\n\r\n"
	if _, err := io.WriteString(connection, request); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK || !answer.Close {
		t.Errorf("%s, closes %t, %v", answer.Status, answer.Close, err)
	}
	if rest, _ := io.ReadAll(reader); len(rest) > 0 || strings.Contains(functionLog.String(), "smuggled") {
		t.Errorf("a second answer: %q", rest)
	}
}
