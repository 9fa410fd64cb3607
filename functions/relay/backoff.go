package main

import (
	"errors"
	"math/rand/v2"
	"time"

	"warble/shared/store"
)

const (
	firstBackoff = time.Second
	maxBackoff   = time.Minute
	// patience is how many times in a row an event must be refused before it may become a dead letter. Age alone is not enough: after a
	// day without a relay all events are old, and one bad answer must not make them dead letters. The last wait is maxBackoff.
	patience = 7
	// lifetime is the age from which an event that is still refused becomes a dead letter.
	lifetime = 24 * time.Hour
)

// backoff returns how long a user's events wait after the given number of failures in a row, which is at least 1. The wait doubles
// each time, minus up to a half at random, so that events that were refused together are not sent together again. A sink may ask
// for a longer wait.
func backoff(err error, failures int) time.Duration {
	wait := maxBackoff
	if shift := failures - 1; shift < patience {
		wait = min(firstBackoff<<shift, maxBackoff)
	}
	wait -= rand.N(wait/2 + 1) //nolint:gosec // a spread, no secret
	if refused, ok := errors.AsType[*refusal](err); ok {
		wait = max(wait, refused.retryAfter)
	}
	return wait
}

// malformed is the error of a row that cannot become a CloudEvent.
type malformed struct{ error }

// isHopeless reports whether an event should not be tried again after the given number of failures.
func (r *Relay) isHopeless(e store.Event, err error, failures int) bool {
	if _, ok := errors.AsType[*malformed](err); ok {
		return true
	}
	if refused, ok := errors.AsType[*refusal](err); ok && refused.permanent() {
		return true
	}
	return failures >= patience && r.now().Sub(e.CreatedAt) >= lifetime
}
