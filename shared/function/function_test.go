package function_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/problem"
)

// syncBuffer is a log that a test reads while a server writes it.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var lines []map[string]any
	for line := range strings.Lines(b.Buffer.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		lines = append(lines, fields)
	}
	return lines
}

// dependency is up or not.
type dependency struct{ down atomic.Bool }

func (d *dependency) Ready(context.Context) error {
	if d.down.Load() {
		return errors.New("the database has not answered: secret postgres://user:password@host")
	}
	return nil
}

func (d *dependency) Close() {}

func TestTheProbeLatchesAndReadyzDoesNot(t *testing.T) {
	t.Parallel()
	var database dependency
	database.down.Store(true)
	url, log := serve(t, function.Routes{}, &database)
	expect := func(path string, status int) {
		t.Helper()
		answer, body := apitest.Send(t, http.MethodGet, url+path, "")
		if answer.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", path, answer.StatusCode, body, status)
		}
		if strings.Contains(body, "password") {
			t.Errorf("%s tells the client the cause: %s", path, body)
		}
	}
	expect("/healthz", 503)
	expect("/readyz", 503)
	database.down.Store(false)
	expect("/healthz", 200)
	expect("/readyz", 200)
	database.down.Store(true)
	expect("/healthz", 200)
	expect("/readyz", 503)
	if answer, body := apitest.Send(t, http.MethodPost, url+"/healthz", ""); answer.StatusCode != 405 || answer.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %s, Allow %q", answer.StatusCode, body, answer.Header.Get("Allow"))
	}
	if lines := log.lines(t); len(lines) != 1 || lines[0]["message"] != "not ready" {
		t.Errorf("want the reason logged once, got %v", lines)
	}
}

func TestAPanicIsAProblemAndALogLine(t *testing.T) {
	t.Parallel()
	url, log := serve(t, function.Routes{
		"GET /panic": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("the secret cause") }),
		"GET /half": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat("half", 4096)))
			panic("in the middle")
		}),
	})
	answer, body := apitest.Send(t, http.MethodGet, url+"/panic", "", "X-Request-Id", "my.id-1")
	if answer.StatusCode != 500 || strings.Contains(body, "secret") || !strings.Contains(body, `"instance":"my.id-1"`) {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
	line := log.lines(t)[0]
	if line["level"] != "error" || line["http.request_id"] != "my.id-1" || !strings.Contains(line["error.message"].(string), "the secret cause") {
		t.Errorf("log line %v", line)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/half", nil)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := http.DefaultTransport.RoundTrip(r); err == nil {
		defer answer.Body.Close()
		if _, err := new(bytes.Buffer).ReadFrom(answer.Body); err == nil {
			t.Error("an answer cut in half passes for a whole one")
		}
	}
}

func TestASaneRequestIDIsKeptAndOthersAreReplaced(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, function.Routes{})
	for sent, kept := range map[string]bool{
		"abc-1.2_3": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "ä": false, "a;b": false,
	} {
		answer, _ := apitest.Send(t, http.MethodGet, url+"/", "", "X-Request-Id", sent)
		if got := answer.Header.Get("X-Request-Id"); (got == sent) != kept || got == "" {
			t.Errorf("sent %q, got %q", sent, got)
		}
	}
}

func TestOnlyASignedAssertionIsBelieved(t *testing.T) {
	t.Parallel()
	routes := function.Routes{"GET /who": function.JSON(func(ctx context.Context, _ struct{}) (map[string]string, error) {
		_, limited := ctx.Deadline()
		return map[string]string{"network": function.Network(ctx), "limited": map[bool]string{true: "yes"}[limited]}, nil
	})}
	url, _ := serve(t, routes)
	ask := func(change func(*http.Request)) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/who?x=%2F", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Request-Id", "one")
		r.Header.Set(function.HeaderClient, "203.0.113.9")
		change(r)
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(answer.Body); err != nil {
			t.Fatal(err)
		}
		return body.String()
	}
	const believed = "203.0.113.0/24"
	now := time.Now()
	sign := func(r *http.Request) { function.Sign(r, function.TestKey, now) }
	tests := []struct {
		name   string
		change func(*http.Request)
		want   bool
	}{
		{"signed", sign, true},
		{"unsigned", func(*http.Request) {}, false},
		{"other key", func(r *http.Request) { function.Sign(r, []byte("another"), now) }, false},
		{"old", func(r *http.Request) { function.Sign(r, function.TestKey, now.Add(-2*time.Minute)) }, false},
		{"client changed", func(r *http.Request) { sign(r); r.Header.Set(function.HeaderClient, "203.0.113.77") }, false},
		{"header added", func(r *http.Request) { sign(r); r.Header.Set("Warble-Assignment", "likes=treatment") }, false},
		{"second value added", func(r *http.Request) { sign(r); r.Header.Add(function.HeaderClient, "203.0.113.78") }, false},
		{"for another request", func(r *http.Request) { sign(r); r.Header.Set("X-Request-Id", "two") }, false},
		{"for another path", func(r *http.Request) { sign(r); r.URL.RawQuery = "x=2" }, false},
	}
	for _, tt := range tests {
		if body := ask(tt.change); strings.Contains(body, believed) != tt.want {
			t.Errorf("%s: %s", tt.name, body)
		}
	}
	for address, network := range map[string]string{"::ffff:203.0.113.9": "203.0.113.0/24", "2001:db8:1:2::3": "2001:db8:1::/48"} {
		if body := ask(func(r *http.Request) { r.Header.Set(function.HeaderClient, address); sign(r) }); !strings.Contains(body, network) {
			t.Errorf("%s: %s, want %s", address, body, network)
		}
	}
	body := ask(func(r *http.Request) {
		r.Header.Set(function.HeaderDeadline, "99999999999999")
		sign(r)
	})
	if !strings.Contains(body, `"limited":"yes"`) {
		t.Errorf("the edge's deadline does not reach the handler: %s", body)
	}
}

func TestAnUnmatchedPathIsNeverALabel(t *testing.T) {
	t.Parallel()
	url, log := serve(t, function.Routes{"GET /notes/{id}": function.JSON(echo)})
	apitest.Send(t, http.MethodGet, url+"/notes/5?secret=1", "")
	apitest.Send(t, http.MethodGet, url+"/random/5", "")
	lines := log.lines(t)
	if len(lines) != 2 || lines[0]["http.route"] != "/notes/{id}" || lines[1]["http.route"] != "unmatched" {
		t.Errorf("%v", lines)
	}
}

// The answer is a problem, sent when the time for the body is over.
func TestABodyThatDoesNotArriveIsAnswered408(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(function.NewTest(new(syncBuffer)).Handler(function.Routes{"POST /notes/{id}": function.JSON(echo)}))
	server.Config.ReadTimeout = 300 * time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	for name, body := range map[string]string{"length": "Content-Length: 10\r\n\r\n{", "chunks": "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"} {
		connection, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(connection, "POST /notes/1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+body); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusRequestTimeout || !answer.Close || !strings.Contains(string(text), problem.TimedOut.Type()) {
			t.Errorf("%s: %s, closes %t: %s %v", name, answer.Status, answer.Close, text, err)
		}
	}
}
