// Package idempotency lets a client send a write twice without writing twice: a request with the Idempotency-Key of an
// earlier request gets the answer of that request.
//
// There are two guards. Within a process, Once lets one request per key run and the others wait for its answer. Across
// processes, the key's row in the database decides. Package store writes this row in the same statement as the data.
package idempotency

import (
	"strconv"
	"time"

	"warble/shared/problem"
)

// Key is an Idempotency-Key and its scope. If Key is empty, no answer is stored.
type Key struct {
	UserID      int64
	Session     int64  // see store.Author; not part of the scope
	Route       string // method and pattern, for example "POST /2/tweets"
	Key         string
	Fingerprint []byte // of the request; the same key with another fingerprint is refused
}

// scope returns a string that differs for keys of different users and routes.
func (k Key) scope() string {
	return strconv.FormatInt(k.UserID, 10) + " " + k.Route + " " + k.Key
}

// Answer is the answer to this request, or to the first one with its key. The body is already encoded.
type Answer struct {
	Status   int
	Body     []byte
	Replayed bool // whether it is the answer of an earlier request: Idempotency-Replayed: true
}

// OtherRequest returns the problem for a key that was used for another request before.
func OtherRequest() *problem.Problem {
	return problem.Invalid.Field("Idempotency-Key", "this Idempotency-Key was already used for a request with another path or body")
}

// StillRunning returns the problem for a key whose first request has no answer yet. The client may try again after wait.
func StillRunning(wait time.Duration) *problem.Problem {
	return problem.Conflict.Detail("the first request with this Idempotency-Key is still running").After(wait)
}
