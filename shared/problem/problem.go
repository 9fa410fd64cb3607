// Package problem has the errors that endpoints answer, in the format of RFC 9457.
//
// A Kind is one row of the table below: a status, a stable type URI and a title. A Problem is one occurrence of a Kind.
// Any code may return either as an error. Only shared/function turns it into an answer.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kind is a class of problem. It is an error itself, so errors.Is(err, problem.NotFound) holds for every Problem of this
// Kind.
type Kind struct {
	Status int
	Slug   string // last segment of the type URI
	Title  string
	detail string // of a Kind that is returned without a Problem
}

// The table of all problems that an endpoint can answer.
var (
	Malformed       = &Kind{http.StatusBadRequest, "malformed-request", "Malformed request", "The request cannot be read."}
	Unauthenticated = &Kind{http.StatusUnauthorized, "unauthenticated", "Unauthenticated", "A valid bearer token is required."}
	Forbidden       = &Kind{http.StatusForbidden, "forbidden", "Forbidden", "This is not yours to change."}
	NotFound        = &Kind{http.StatusNotFound, "not-found", "Not found", "Nothing is here."}
	NotOpen         = &Kind{http.StatusNotFound, "feature-not-open", "Feature not open", "This feature is not open to you."}
	WrongMethod     = &Kind{http.StatusMethodNotAllowed, "method-not-allowed", "Method not allowed", "The path does not take this method."}
	TimedOut        = &Kind{http.StatusRequestTimeout, "request-timeout", "Request timeout", "The request body did not come in time."}
	Conflict        = &Kind{http.StatusConflict, "conflict", "Conflict", "The request conflicts with what is there."}
	TooLarge        = &Kind{http.StatusRequestEntityTooLarge, "too-large", "Request too large", "The request body is larger than 64 KiB."}
	WrongType       = &Kind{http.StatusUnsupportedMediaType, "unsupported-media-type", "Unsupported media type", "The body must be application/json."}
	Invalid         = &Kind{http.StatusUnprocessableEntity, "invalid", "Invalid request", "The request is well-formed but not valid."}
	HeaderTooLarge  = &Kind{http.StatusRequestHeaderFieldsTooLarge, "header-too-large", "Header too large", "The request's header is larger than 32 KiB."}
	TooMany         = &Kind{http.StatusTooManyRequests, "too-many-requests", "Too many requests", "The limit is reached; try again later."}
	Internal        = &Kind{http.StatusInternalServerError, "internal", "Internal error", "Something went wrong on our side."}
	Unavailable     = &Kind{http.StatusServiceUnavailable, "unavailable", "Unavailable", "The service cannot answer right now; try again."}
)

// typeBase is the prefix that makes a slug a URI. A page at this URI need not exist (RFC 9457, section 3.1.1), but the string must
// never change.
const typeBase = "https://warble.dev/problems/"

// DefaultRetryAfter is the Retry-After of a 503 if no other time is known.
const DefaultRetryAfter = time.Second

func (k *Kind) Error() string { return k.Slug }

// Type returns the kind's URI.
func (k *Kind) Type() string { return typeBase + k.Slug }

// Detail makes a Problem with the detail of format and args. The client sees this text.
func (k *Kind) Detail(format string, args ...any) *Problem {
	return &Problem{Kind: k, Detail: word(format, args...)}
}

// Because makes a Problem with the kind's own text. cause is logged, and never sent.
func (k *Kind) Because(cause error) *Problem {
	return &Problem{Kind: k, Detail: k.detail, cause: cause}
}

// maxWording is how many bytes of a client's own text are quoted. A proxy in the cluster may cut off an answer of a few KiB to a
// request with a body: Go's proxy closes the request's body as soon as it has the answer's header, and then breaks the connection
// while it still reads for the end of the body.
const maxWording = 500

func word(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if len(text) > maxWording {
		text = strings.ToValidUTF8(text[:maxWording], "") + "…"
	}
	return text
}

// Field makes a Problem about one member or parameter of the request.
func (k *Kind) Field(field, format string, args ...any) *Problem {
	return k.Detail(format, args...).WithField(field, format, args...)
}

// Problem is one occurrence. Its Detail and Errors are for the client, its cause is for the log.
type Problem struct {
	*Kind
	Detail     string
	Errors     []Item
	RetryAfter time.Duration // sent in whole seconds, rounded up; 0 if waiting does not help
	Allow      string        // the methods a 405 names
	cause      error
}

// Item is one entry of the body's errors. There is always at least one, because client libraries for X print them.
type Item struct {
	Message    string              `json:"message"`
	Field      string              `json:"field,omitempty"`
	Parameters map[string][]string `json:"parameters,omitempty"`
}

// WithField adds an item about one member or parameter, and returns p.
func (p *Problem) WithField(field, format string, args ...any) *Problem {
	p.Errors = append(p.Errors, Item{Message: word(format, args...), Field: field})
	return p
}

// After sets how long the client should wait before a retry, and returns p.
func (p *Problem) After(wait time.Duration) *Problem {
	p.RetryAfter = wait
	return p
}

// Because sets the cause, which is only logged, and returns p.
func (p *Problem) Because(cause error) *Problem {
	p.cause = cause
	return p
}

func (p *Problem) Error() string {
	if p.cause != nil {
		return p.Slug + ": " + p.cause.Error()
	}
	return p.Slug + ": " + p.Detail
}

// Unwrap makes errors.Is see both the kind and the cause.
func (p *Problem) Unwrap() []error {
	if p.cause == nil {
		return []error{p.Kind}
	}
	return []error{p.Kind, p.cause}
}

// From turns any error into a Problem. If err is or wraps a Problem, it returns this Problem. If err wraps a Kind, it returns a Problem
// of this Kind. A deadline that has passed becomes 503, a body over the limit 413, and any other error 500 with err as its cause.
func From(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if kind, ok := errors.AsType[*Kind](err); ok {
		return kind.Because(err)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge.Because(err)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unavailable.Because(err).After(DefaultRetryAfter)
	}
	return Internal.Because(err)
}
