// Package password hashes and compares passwords, a bounded number at a time.
//
// The scheme is argon2id in PHC format with OWASP's parameters. One hash takes a core for about 20 ms, and 19 MiB. An
// attacker could exhaust a server with hashes. So at most GOMAXPROCS run at a time, a bounded number waits, and any
// further request is refused immediately.
package password

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"warble/shared/env"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

// parameters are OWASP's for argon2id: 19 MiB, two passes, one lane.
var parameters = argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// idle is how long after the last hash its memory is returned to the operating system.
const idle = 5 * time.Second

// Hasher hashes and compares. It is safe for concurrent use.
type Hasher struct {
	running chan struct{} // one entry for each running hash
	queue   int64         // how many may wait for their turn
	waiting atomic.Int64
	hashes  atomic.Int64
	refused atomic.Int64
	trim    *time.Timer
	nobody  string // a hash that matches no password
}

// FromEnv reads PASSWORD_QUEUE, the number of hashes that may wait (64), and reports the queue's length to t.
func FromEnv(e *env.Reader, t *telemetry.Telemetry) *Hasher {
	h := &Hasher{
		running: make(chan struct{}, runtime.GOMAXPROCS(0)),
		queue:   int64(e.Int("PASSWORD_QUEUE", 64, 0, 10_000)),
		nobody:  nobody(),
	}
	// A hash leaves 19 MiB of garbage. An idle process collects it minutes later or never. Most pods are idle most of the
	// time, and their memory limits how many fit on a node.
	h.trim = time.AfterFunc(idle, debug.FreeOSMemory)
	h.trim.Stop()
	t.Gauge("password_hashes_running", "Password hashes that are being computed.", func() float64 { return float64(len(h.running)) })
	t.Gauge("password_hashes_waiting", "Password hashes that wait for their turn.", func() float64 { return float64(h.waiting.Load()) })
	t.CounterFunc("password_hashes_total", "Password hashes computed.", func() float64 { return float64(h.Hashes()) })
	t.CounterFunc("password_hashes_refused_total", "Password hashes refused because the queue was full.", func() float64 { return float64(h.refused.Load()) })
	return h
}

// Normalize returns a password in NFKC, the form that is measured and hashed. So a password is the same on keyboards that
// encode a character differently.
func Normalize(password string) string { return norm.NFKC.String(password) }

// Hash returns the PHC string of password. The error is problem.Unavailable if the queue is full or ctx ends.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	hash, err := argon2id.CreateHash(Normalize(password), &parameters)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return hash, nil
}

// Compare reports whether hash belongs to password, and whether the hash is outdated, that is, made with other parameters
// than today's. An empty hash stands for an account that does not exist: no password matches, and the comparison takes the
// same time.
func (h *Hasher) Compare(ctx context.Context, password, hash string) (match, outdated bool, err error) {
	if hash == "" {
		hash = h.nobody
	}
	if err := h.enter(ctx); err != nil {
		return false, false, err
	}
	defer h.leave()
	match, used, err := argon2id.CheckHash(Normalize(password), hash)
	if err != nil {
		return false, false, fmt.Errorf("compare password: %w", err)
	}
	return match, *used != parameters, nil
}

// Hashes returns how many hashes Hash and Compare have computed so far.
func (h *Hasher) Hashes() int64 { return h.hashes.Load() }

// enter waits until the hash may run.
func (h *Hasher) enter(ctx context.Context) error {
	select {
	case h.running <- struct{}{}:
		return nil
	default:
	}
	if h.waiting.Add(1) > h.queue {
		h.waiting.Add(-1)
		h.refused.Add(1)
		return problem.Unavailable.Detail("Too many sign-ins at the same time; try again.").After(problem.DefaultRetryAfter)
	}
	defer h.waiting.Add(-1)
	select {
	case h.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return problem.Unavailable.Because(context.Cause(ctx)).After(problem.DefaultRetryAfter)
	}
}

func (h *Hasher) leave() {
	h.hashes.Add(1)
	h.trim.Reset(idle)
	<-h.running
}

// nobody returns a well-formed hash that matches no known password. Its key is random, so that no process has to compute a
// hash when it starts.
func nobody() string {
	key := make([]byte, parameters.SaltLength+parameters.KeyLength)
	rand.Read(key) // never fails: it crashes the process instead
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		parameters.Memory, parameters.Iterations, parameters.Parallelism,
		encode(key[:parameters.SaltLength]), encode(key[parameters.SaltLength:]))
}
