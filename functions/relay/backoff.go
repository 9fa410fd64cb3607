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
	// patience is how many times in a row an event is refused before it may be a dead letter, whatever its age: after a day
	// on which no relay ran, everything is old, and one bad answer must not bury it. The last of these waits is maxBackoff.
	patience = 7
	// lifetime is the age from which an event that is still refused is a dead letter.
	lifetime = 24 * time.Hour
)

// backoff is how long a user's events wait after so many failures in a row, 1 being the first: twice as long each time,
// less up to a half at random, so that those refused together do not come back together. A sink may ask for longer.
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

// malformed is the error of a row that makes no CloudEvent.
type malformed struct{ error }

// hopeless reports whether an event is not worth another attempt after so many.
func (r *Relay) hopeless(e store.Event, err error, failures int) bool {
	if _, ok := errors.AsType[*malformed](err); ok {
		return true
	}
	if refused, ok := errors.AsType[*refusal](err); ok && refused.permanent() {
		return true
	}
	return failures >= patience && r.now().Sub(e.CreatedAt) >= lifetime
}
