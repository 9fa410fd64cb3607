package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"warble/shared/problem"
)

// shelter sends requests to an arm, and where that fails, once more to the untouched Service, as far as that is safe: nothing
// that may have been done is done twice.
type shelter struct{ http.RoundTripper }

// errArmLate is why a request to an arm is given up: it has half of the time for the headers of its answer.
var errArmLate = errors.New("no answer within half of the time there is")

func (s shelter) RoundTrip(r *http.Request) (*http.Response, error) {
	p := r.Context().Value(passageKey{}).(*passage) // ServeHTTP put it there
	sent := time.Now()
	defer func() { p.waited = time.Since(sent) }() // its user has waited as long where the untouched Service answers in its place
	if !p.armed {
		return s.RoundTripper.RoundTrip(r)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(time.Until(p.until)/2, func() { cancel(errArmLate) })
	answer, err := s.RoundTripper.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil && errors.Is(context.Cause(ctx), errArmLate) {
		err = fmt.Errorf("%s: %w", r.URL.Host, errArmLate)
	}
	why := failedArm(r, answer, err, p.side != nil)
	if why == nil || r.Context().Err() != nil { // or the client has left
		if err != nil {
			cancel(nil)
			return nil, err
		}
		answer.Body = ending{answer.Body, func() { cancel(nil) }}
		return answer, nil
	}
	if answer != nil {
		_ = answer.Body.Close() // nothing of it is wanted
	}
	cancel(nil)
	p.armed, p.fell = false, why
	again := r.Clone(r.Context())
	if r.Body != nil && r.GetBody != nil {
		again.Body, _ = r.GetBody() // it returns no error
	}
	again.URL.Host, again.Host = p.untouched.Host, p.untouched.Host
	return s.RoundTripper.RoundTrip(again)
}

// failedArm says why a request is to be sent again; nil where its answer counts. Nothing can have been done where no
// connection came about, or where an ingress knows no such host; of what else may have been done only that is sent again
// which changes nothing, or once, by its key. Keys are honoured by Services that can assign, and not by login and register,
// which have requests for a unit.
func failedArm(r *http.Request, answer *http.Response, err error, keyed bool) error {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || keyed && r.Header.Get("Idempotency-Key") != ""
	switch {
	case refused(err):
		return err
	case err == nil && answer.StatusCode == http.StatusNotFound && !ofFunction(answer):
		return fmt.Errorf("%s is not there: %s", r.URL.Host, answer.Status)
	case !safe:
		return nil
	case err != nil:
		return err
	case answer.StatusCode >= http.StatusBadGateway && answer.StatusCode <= http.StatusGatewayTimeout && !ofFunction(answer):
		return fmt.Errorf("%s answered %s, not in a function's words", r.URL.Host, answer.Status)
	}
	return nil
}

// ofFunction tells whether an error is a function's own answer, and not that of something that stands before it.
func ofFunction(answer *http.Response) bool {
	return strings.HasPrefix(answer.Header.Get("Content-Type"), problem.MediaType)
}

// ending is a body whose end ends something else.
type ending struct {
	io.ReadCloser
	end func()
}

func (e ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}
