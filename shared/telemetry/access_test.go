package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/function"
	"warble/shared/telemetry"
)

// line decodes the one line of a log.
func line(t *testing.T, log *bytes.Buffer) (fields map[string]any) {
	t.Helper()
	if n := bytes.Count(log.Bytes(), []byte("\n")); n != 1 {
		t.Fatalf("%d lines, want 1: %s", n, log)
	}
	if err := json.Unmarshal(log.Bytes(), &fields); err != nil {
		t.Fatalf("%s: %v", log, err)
	}
	return fields
}

func TestTheAccessLineHasTheseFieldsAndNoOthers(t *testing.T) {
	t.Parallel()
	whole := telemetry.Access{
		RequestID: "id-1", Method: "POST", Route: "/2/tweets/{id}", Status: 201, Duration: 1234567 * time.Nanosecond, Bytes: 56, UserID: "7",
		Client: netip.MustParseAddr("203.0.113.7"), Revision: "tweet-00007",
	}
	failed, cut, stranger, passedOn := whole, whole, whole, whole
	failed.Status, failed.Err = 503, errors.New("the database has not answered")
	cut.Err = errors.New("the answer broke off")
	stranger.UserID, stranger.Status = "", 404
	passedOn.Revision = "like-00003"
	with := func(changes map[string]any) map[string]any {
		want := map[string]any{
			"level": "info", "service": "tweet", "revision": "tweet-00007", "http.request_id": "id-1", "http.method": "POST", "http.route": "/2/tweets/{id}",
			"http.status_code": 201.0, "duration": 1234567.0, "network.bytes_written": 56.0, "usr.id": "7",
		}
		maps.Copy(want, changes)
		maps.DeleteFunc(want, func(_ string, value any) bool { return value == nil })
		return want
	}
	tests := []struct {
		name   string
		access telemetry.Access
		want   map[string]any
	}{
		{"a success", whole, with(nil)},
		{"without a token", stranger, with(map[string]any{"http.status_code": 404.0, "usr.id": nil})},
		{"a 5xx says why", failed, with(map[string]any{"level": "error", "http.status_code": 503.0, "error.message": "the database has not answered"})},
		{"an answer of another revision", passedOn, with(map[string]any{"answered_by": "like-00003"})},
		{"so does an answer that was cut off", cut, with(map[string]any{"level": "error", "error.message": "the answer broke off"})},
	}
	for _, tt := range tests {
		log := new(bytes.Buffer)
		telemetry.New("tweet", "tweet-00007", log).Access(t.Context(), tt.access)
		got := line(t, log)
		if _, err := time.Parse(time.RFC3339, got["timestamp"].(string)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		delete(got, "timestamp")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// Neither the path nor the query, the body, the token or the client's address is logged, for a success, a refusal and a failure.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	log := new(bytes.Buffer)
	f := function.NewTest(log)
	handler := f.Handler(function.Routes{
		"POST /good/{id}": function.JSON(func(_ context.Context, q struct{ Password string }) (struct{ Token string }, error) {
			return struct{ Token string }{"secret-answer"}, nil
		}),
		"POST /bad/{id}": function.JSON(func(context.Context, struct{ Password string }) (function.None, error) {
			return function.None{}, errors.New("the cause")
		}),
	})
	for _, path := range []string{"/good/secret-path", "/bad/secret-path", "/secret-path"} {
		for _, body := range []string{`{"Password":"secret-body"}`, `{"secret-member":1}`, `secret`} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path+"?token=secret-query", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.RemoteAddr = "203.0.113.9:1234"
			for _, name := range []string{"Authorization", "Cookie", "Idempotency-Key", "User-Agent", "Referer"} {
				r.Header.Set(name, "secret-"+name)
			}
			r.Header.Set("Content-Type", "application/json")
			handler.ServeHTTP(&discard{}, r)
		}
	}
	if lines := strings.Count(log.String(), "\n"); lines != 9 || !strings.Contains(log.String(), "the cause") {
		t.Errorf("%d lines: %s", lines, log)
	}
	for _, secret := range []string{"secret", "203.0.113"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q: %s", secret, log)
		}
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}
func (*discard) Write(p []byte) (int, error) { return len(p), nil }
func (*discard) WriteHeader(int)             {}

// Each line is one Write, because a process that is killed between two writes would leave half a line.
func TestEachLineIsOneWrite(t *testing.T) {
	t.Parallel()
	var writes writeSizes
	telemetry.New("tweet", "tweet-00007", &writes).Access(t.Context(), telemetry.Access{RequestID: "id-1", Method: "GET", Route: "/x", Status: 200})
	if len(writes) != 1 || slices.Max(writes) < 100 {
		t.Errorf("%v", writes)
	}
}

type writeSizes []int

func (w *writeSizes) Write(p []byte) (int, error) {
	*w = append(*w, len(p))
	return len(p), nil
}
