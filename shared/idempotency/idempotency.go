package function

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"warble/shared/problem"
)

// Idempotency returns the Idempotency-Key of the request and the fingerprint of what it asks, the SHA-256 of its path
// and body. The key is empty where the client sent none.
func Idempotency(ctx context.Context) (key string, fingerprint []byte) {
	x := Current(ctx)
	return x.key, x.fingerprint
}

func readIdempotency(r *http.Request, body []byte) error {
	values := r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return nil
	}
	if len(values) > 1 || !saneKey(values[0]) {
		return problem.Malformed.Field("Idempotency-Key", "Idempotency-Key must be sent once, as 1 to 255 visible ASCII characters")
	}
	hash := sha256.New()
	hash.Write([]byte(r.URL.EscapedPath()))
	hash.Write([]byte{0})
	hash.Write(body)
	x := Current(r.Context())
	x.key, x.fingerprint = values[0], hash.Sum(nil)
	return nil
}

func saneKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return 1 <= len(key) && len(key) <= 255
}

// onceWait is how long a request waits for another with its key before it is told to come back.
const onceWait = 2 * time.Second

// Once lets one request per key run and the others wait for its answer without holding a database connection. It is the
// first of two guards: across processes the row in PostgreSQL decides.
type Once struct {
	mu      sync.Mutex
	running map[string]*run
}

type run struct {
	fingerprint []byte
	done        chan struct{}
	answer      Answer
	err         error
}

// NewOnce returns an empty Once.
func NewOnce() *Once { return &Once{running: make(map[string]*run)} }

// Do runs do, unless a run of the same key is under way: then it waits for that one's answer and returns it as
// replayed. An empty key always runs. The errors beside do's own: 422 where the run under way has another fingerprint,
// 409 with Retry-After where it takes longer than 2 s.
//
// A run does not end with the request that began it, for others wait on its answer; do bounds its own time.
func (o *Once) Do(ctx context.Context, key string, fingerprint []byte, do func(context.Context) (Answer, error)) (Answer, error) {
	if key == "" {
		return do(ctx)
	}
	o.mu.Lock()
	if first, ok := o.running[key]; ok {
		o.mu.Unlock()
		return first.wait(ctx, fingerprint)
	}
	mine := &run{fingerprint: fingerprint, done: make(chan struct{}), err: problem.Internal}
	o.running[key] = mine
	o.mu.Unlock()
	defer func() { // also when do panics: those who wait must not wait for ever
		o.mu.Lock()
		delete(o.running, key)
		o.mu.Unlock()
		close(mine.done)
	}()
	mine.answer, mine.err = do(context.WithoutCancel(ctx))
	return mine.answer, mine.err
}

func (r *run) wait(ctx context.Context, fingerprint []byte) (Answer, error) {
	if !bytes.Equal(r.fingerprint, fingerprint) {
		return Answer{}, OtherRequest()
	}
	timeout := time.NewTimer(onceWait)
	defer timeout.Stop()
	select {
	case <-r.done:
		answer := r.answer
		answer.Replayed = r.err == nil
		return answer, r.err
	case <-timeout.C:
		return Answer{}, problem.Conflict.Detail("the first request with this Idempotency-Key is still running").After(onceWait)
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// OtherRequest is the problem of an Idempotency-Key that was used for something else before.
func OtherRequest() *problem.Problem {
	return problem.Invalid.Field("Idempotency-Key", "this Idempotency-Key was already used for a request with another path or body")
}
