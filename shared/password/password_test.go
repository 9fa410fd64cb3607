package password

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"warble/shared/env"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

func newHasher(t testing.TB, queue string) (*Hasher, *telemetry.Telemetry) {
	t.Helper()
	e := env.New(func(name string) (string, bool) { return queue, name == "PASSWORD_QUEUE" })
	telemetry := telemetry.New("test", "test-00001", io.Discard)
	h := FromEnv(e, telemetry)
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	return h, telemetry
}

func TestHashAndCompare(t *testing.T) {
	t.Parallel()
	h, _ := newHasher(t, "")
	hash, err := h.Hash(t.Context(), "caf\u00e9 au lait")
	if err != nil {
		t.Fatal(err)
	}
	if want := "$argon2id$v=19$m=19456,t=2,p=1$"; !strings.HasPrefix(hash, want) {
		t.Errorf("hash %s, want %s...", hash, want)
	}
	light := parameters
	light.Memory /= 2
	old, err := argon2id.CreateHash("café au lait", &light)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		password, hash  string
		match, outdated bool
	}{
		"right":             {"café au lait", hash, true, false},
		"right, decomposed": {"cafe\u0301 au lait", hash, true, false},
		"wrong":             {"cafe au lait", hash, false, false},
		"empty":             {"", hash, false, false},
		"older parameters":  {"café au lait", old, true, true},
		"nobody":            {"café au lait", "", false, false},
		"nobody, empty":     {"", "", false, false},
	} {
		before := h.Hashes()
		match, outdated, err := h.Compare(t.Context(), c.password, c.hash)
		if err != nil || match != c.match || outdated != c.outdated {
			t.Errorf("%s: match %v, outdated %v, error %v", name, match, outdated, err)
		}
		if n := h.Hashes() - before; n != 1 {
			t.Errorf("%s: %d hashes computed, want 1", name, n)
		}
	}
	if _, _, err := h.Compare(t.Context(), "x", "not a hash"); err == nil || problem.From(err).Status != 500 {
		t.Errorf("a stored hash that is none: %v", err)
	}
}

func TestAHashThatDoesNotFitIntoTheQueueIsRefused(t *testing.T) {
	t.Parallel()
	h, telemetry := newHasher(t, "1")
	for range cap(h.running) {
		h.running <- struct{}{} // hashes that run for as long as the test likes
	}
	waiter := make(chan error)
	go func() {
		_, err := h.Hash(context.Background(), "the one that may wait")
		waiter <- err
	}()
	for h.waiting.Load() == 0 {
		time.Sleep(time.Millisecond) // a poll
	}

	_, err := h.Hash(t.Context(), "one too many")
	if p := problem.From(err); p.Kind != problem.Unavailable || p.RetryAfter == 0 {
		t.Errorf("a full queue: %v", err)
	}
	recorder := httptest.NewRecorder()
	telemetry.Metrics().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{"\npassword_hashes_waiting 1\n", "\npassword_hashes_refused_total 1\n", "\npassword_hashes_total 0\n"} {
		if !strings.Contains(recorder.Body.String(), line) {
			t.Errorf("metrics lack %q", line)
		}
	}

	<-h.running
	if err := <-waiter; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
	h.running <- struct{}{}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := h.Hash(ctx, "nobody waits for it"); !errors.Is(err, problem.Unavailable) || !errors.Is(err, gone) {
		t.Errorf("cancelled while waiting: %v", err)
	}
}

func BenchmarkCompare(b *testing.B) {
	h, _ := newHasher(b, "")
	for b.Loop() {
		if _, _, err := h.Compare(b.Context(), "x", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBare measures argon2id alone, the least that Compare can cost.
func BenchmarkBare(b *testing.B) {
	hash := nobody()
	for b.Loop() {
		if _, err := argon2id.ComparePasswordAndHash("x", hash); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPromlint(t *testing.T) {
	t.Parallel()
	_, metrics := newHasher(t, "")
	w := httptest.NewRecorder()
	metrics.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), "\npassword_hashes_total 0\n") {
		t.Error("the hash metrics are missing")
	}
	if problems, err := promlint.New(w.Body).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
