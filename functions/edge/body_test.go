package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"warble/shared/problem"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	edge, _ := mirrored(t, config{})
	const most = 64 << 10
	for _, length := range []int{0, 1, most - 1, most, most + 1, 4 * most} {
		for _, chunked := range []bool{false, true} {
			text := strings.Repeat("a", length)
			var body io.Reader = strings.NewReader(text)
			if chunked {
				body = io.MultiReader(body) // of a length that the client does not know
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, edge.url+"/m/x", body)
			if err != nil {
				t.Fatal(err)
			}
			// A connection of its own: the edge closes one on which a body is left over.
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
	edge, functionLog := mirrored(t, config{})
	connection := dial(t, edge.url)
	if _, err := io.WriteString(connection, "POST /m/x HTTP/1.1\r\nHost: edge\r\nX-Request-Id: short\r\nContent-Length: 10\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := connection.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest || strings.Contains(functionLog.String(), "short") {
		t.Errorf("%s, and the function's log: %s", answer.Status, functionLog)
	}
}
