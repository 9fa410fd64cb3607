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

// armFallback sends requests to an arm. If the arm fails, and repeating the request is safe, armFallback sends it to the untouched
// Service. A request that may have had an effect is not repeated.
type armFallback struct{ http.RoundTripper }

// errArmLate is the cause of the cancellation if an arm takes more than half of the request's time for the headers of its answer.
var errArmLate = errors.New("no answer within half of the request's time")

func (s armFallback) RoundTrip(r *http.Request) (*http.Response, error) {
	p := r.Context().Value(passageKey{}).(*passage) // set by Edge.forward
	sent := time.Now()
	defer func() { p.waited = time.Since(sent) }() // includes the wait for the untouched Service, because the user waited for both
	if !p.toArm {
		return s.RoundTripper.RoundTrip(r)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(time.Until(p.until)/2, func() { cancel(errArmLate) })
	answer, err := s.RoundTripper.RoundTrip(r.WithContext(ctx))
	timer.Stop()
	if err != nil && errors.Is(context.Cause(ctx), errArmLate) {
		err = fmt.Errorf("%s: %w", r.URL.Host, errArmLate)
	}
	why := retryReason(r, answer, err, p.arm != nil)
	if why == nil || r.Context().Err() != nil { // the answer counts, or the client has left
		if err != nil {
			cancel(nil)
			return nil, err
		}
		answer.Body = closeHook{answer.Body, func() { cancel(nil) }}
		return answer, nil
	}
	if answer != nil {
		_ = answer.Body.Close() // the arm's answer is discarded
	}
	cancel(nil)
	p.toArm, p.armErr = false, why
	again := r.Clone(r.Context())
	if r.Body != nil && r.GetBody != nil {
		again.Body, _ = r.GetBody() // this GetBody returns no error
	}
	again.URL.Host, again.Host = p.untouched.Host, p.untouched.Host
	return s.RoundTripper.RoundTrip(again)
}

// retryReason returns why a request must be sent to the untouched Service; nil if the arm's answer counts. A request had no effect
// if no connection was made, or if the ingress does not know its host. Any other request is repeated only if it changes nothing, or
// if its Idempotency-Key prevents a second effect. keyed says that the Service honours Idempotency-Key: Services whose unit is a
// user or a community do; login and register, whose unit is a request, do not.
func retryReason(r *http.Request, answer *http.Response, err error, keyed bool) error {
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || keyed && r.Header.Get("Idempotency-Key") != ""
	switch {
	case dialFailed(err):
		return err
	case err == nil && answer.StatusCode == http.StatusNotFound && !isFunctionAnswer(answer):
		return fmt.Errorf("%s does not exist: %s", r.URL.Host, answer.Status)
	case !safe:
		return nil
	case err != nil:
		return err
	case answer.StatusCode >= http.StatusBadGateway && answer.StatusCode <= http.StatusGatewayTimeout && !isFunctionAnswer(answer):
		return fmt.Errorf("%s answered %s, and the answer is not a function's", r.URL.Host, answer.Status)
	}
	return nil
}

// isFunctionAnswer reports whether an error is a function's own answer, not an answer of a proxy in front of it.
func isFunctionAnswer(answer *http.Response) bool {
	return strings.HasPrefix(answer.Header.Get("Content-Type"), problem.MediaType)
}

// closeHook is a body that calls end when it is closed.
type closeHook struct {
	io.ReadCloser
	end func()
}

func (e closeHook) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}
