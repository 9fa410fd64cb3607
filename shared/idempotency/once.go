package idempotency

import (
	"bytes"
	"context"
	"sync"
	"time"

	"warble/shared/problem"
)

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

// Do runs do with k. If a run with the same key is under way, it waits for the answer of that run, and returns it as replayed. An
// empty key always runs. Errors: those of do; 422 if the run under way has another fingerprint; 409 with Retry-After if the run
// takes longer than 2 s.
//
// A run does not end with the request that began it, because others wait for its answer. do must limit its own time.
func (o *Once) Do(ctx context.Context, k Key, do func(context.Context, Key) (Answer, error)) (Answer, error) {
	if k.Key == "" {
		return do(ctx, k)
	}
	scope := k.scope()
	o.mu.Lock()
	if first, ok := o.running[scope]; ok {
		o.mu.Unlock()
		return first.wait(ctx, k.Fingerprint)
	}
	mine := &run{fingerprint: k.Fingerprint, done: make(chan struct{}), err: problem.Internal}
	o.running[scope] = mine
	o.mu.Unlock()
	defer func() { // even if do panics, so that the others do not wait for ever
		o.mu.Lock()
		delete(o.running, scope)
		o.mu.Unlock()
		close(mine.done)
	}()
	mine.answer, mine.err = do(context.WithoutCancel(ctx), k)
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
		return Answer{}, StillRunning(onceWait)
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}
