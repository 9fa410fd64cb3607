package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"warble/shared/function"
)

const (
	// idlePerFunction is how many idle connections to one function are kept. With Go's default of 2, most concurrent requests to a
	// busy function would have to dial.
	idlePerFunction = 512
	dialTimeout     = 2 * time.Second
	// startPoll is how often a waiting request checks whether a starting function listens.
	startPoll = 20 * time.Millisecond
	// In a cluster a dial may fail although the function works: a busy node resolves a name too slowly, or a gateway is being
	// replaced. A failed dial is repeated after redialPause, until redialLimit has passed.
	redialPause = 100 * time.Millisecond
	redialLimit = 3 * time.Second
)

// upstream sends requests to functions. If a function refuses the connection, upstream returns the error immediately, with two
// exceptions. It waits for a starting function as long as the request has time. In a cluster it repeats the dial for a while.
type upstream struct {
	http.RoundTripper

	routes *routes
	redial time.Duration // how long a failed dial is repeated
}

func newUpstream(r *routes) *upstream {
	u := &upstream{
		routes: r,
		RoundTripper: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConns:        0, // no limit for all functions together; each has its own
			MaxIdleConnsPerHost: idlePerFunction,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true, // answers are passed on unchanged
		},
	}
	if r.cluster {
		u.redial = redialLimit
	}
	return u
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	p := r.Context().Value(passageKey{}).(*passage) // set by Edge.forward or guests.serve
	begun := time.Now()
	answer, err := u.RoundTripper.RoundTrip(r)
	dials := 1
	for ; dialFailed(err) && !p.toArm; dials++ { // do not wait for an arm: armFallback handles it
		address, starting := u.routes.locate(p.name, p.tag)
		pause := startPoll
		switch {
		case address == nil:
			return nil, fmt.Errorf("%s: the function no longer exists: %w", p.name, err)
		case starting || address.Host != r.URL.Host:
		case time.Since(begun) < u.redial:
			pause = redialPause
		default:
			return nil, fmt.Errorf("%s: %w%s", p.name, err, dialSummary(dials, begun))
		}
		select {
		case <-r.Context().Done():
			return nil, fmt.Errorf("%s: %w: %w%s", p.name, r.Context().Err(), err, dialSummary(dials, begun))
		case <-time.After(pause):
		}
		if r.Body != nil && r.GetBody != nil {
			r.Body, _ = r.GetBody() // this GetBody returns no error
		}
		r.URL.Host = address.Host
		answer, err = u.RoundTripper.RoundTrip(r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", p.name, err, dialSummary(dials, begun))
	}
	return answer, nil
}

// dialSummary returns what an error adds if there was more than one dial.
func dialSummary(dials int, begun time.Time) string {
	if dials == 1 {
		return ""
	}
	return fmt.Sprintf(" (%d dials in %s)", dials, time.Since(begun).Round(time.Millisecond))
}

// dialFailed reports whether no connection was made, so that the function cannot have seen the request.
func dialFailed(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "dial"
}

// watched is an answer's body that records in the access line why it broke off. The status has been sent by then, so it does not
// show the failure.
type watched struct {
	io.ReadCloser

	exchange *function.Exchange
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) { // a client that leaves is no failure
		w.exchange.Err = fmt.Errorf("the answer broke off: %w", err)
	}
	return n, err
}

// body is a request's body in memory.
type body struct{ *bytes.Reader }

func newBody(text []byte) io.ReadCloser { return body{bytes.NewReader(text)} }

func (body) Close() error { return nil }

// bufferPool keeps 32 KiB buffers, so that the proxy does not allocate one for each answer.
type bufferPool struct{ sync.Pool }

const copyBuffer = 32 << 10

func newBufferPool() httputil.BufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}
}

func (p *bufferPool) Get() []byte { return p.Pool.Get().(*[copyBuffer]byte)[:] }

func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[copyBuffer]byte)(b)) }
