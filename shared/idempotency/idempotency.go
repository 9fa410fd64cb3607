// Package idempotency makes a write that a client sends again the same write: a request with the Idempotency-Key of an earlier
// one gets the earlier one's answer.
//
// There are two guards. Within a process, Once lets one request per key run and the others wait for its answer. Across
// processes the row decides that package store writes with the key, in the statement of the write itself.
package idempotency

import (
	"strconv"
	"time"

	"warble/shared/problem"
)

// Key is an Idempotency-Key and its scope. One with an empty Key asks for nothing to be remembered.
type Key struct {
	UserID      int64
	Session     int64  // see store.Author; it is no part of the scope
	Route       string // method and pattern, as "POST /2/tweets"
	Key         string
	Fingerprint []byte // of what was asked; the same key with another fingerprint is refused
}

// scope tells keys of different users and routes apart, in one string.
func (k Key) scope() string {
	return strconv.FormatInt(k.UserID, 10) + " " + k.Route + " " + k.Key
}

// Answer is what the client gets, of this request or of the first one with its key. The body is already encoded.
type Answer struct {
	Status   int
	Body     []byte
	Replayed bool // the first answer once more: Idempotency-Replayed: true
}

// OtherRequest is the problem of a key that was used for something else before.
func OtherRequest() *problem.Problem {
	return problem.Invalid.Field("Idempotency-Key", "this Idempotency-Key was already used for a request with another path or body")
}

// StillRunning is the problem of a key whose first request has no answer yet. The client may try again after wait.
func StillRunning(wait time.Duration) *problem.Problem {
	return problem.Conflict.Detail("the first request with this Idempotency-Key is still running").After(wait)
}
