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
	// idlePerFunction is how many connections to one function are kept: a hot one's concurrency, or each request past
	// Go's default of 2 would dial.
	idlePerFunction = 512
	dialTimeout     = 2 * time.Second
	// startPoll is how often a request that waits for a starting function looks whether it is there.
	startPoll = 20 * time.Millisecond
	// In a cluster a dial may fail though the function is well: a name that is not found in time on a busy node, a
	// gateway that is being replaced. redialPause lies between two tries, and none begins after redialLimit.
	redialPause = 100 * time.Millisecond
	redialLimit = 3 * time.Second
)

// upstream sends requests to functions. A function that refuses the connection is an error at once, but one that is
// starting is waited for, as long as the request has time, and in a cluster the dial is repeated for a while.
type upstream struct {
	http.RoundTripper

	routes *routes
	redial time.Duration // how long a dial that failed is repeated
}

func newUpstream(r *routes) *upstream {
	u := &upstream{
		routes: r,
		RoundTripper: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConns:        0, // no limit over all functions: each has its own
			MaxIdleConnsPerHost: idlePerFunction,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true, // the answer is passed on as it comes
		},
	}
	if r.cluster {
		u.redial = redialLimit
	}
	return u
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	p := r.Context().Value(passageKey{}).(*passage) // ServeHTTP put it there
	begun := time.Now()
	answer, err := u.RoundTripper.RoundTrip(r)
	dials := 1
	for ; refused(err) && !p.armed; dials++ { // an arm that cannot be reached is not waited for: see shelter
		address, starting := u.routes.starting(p.name, p.tag)
		pause := startPoll
		switch {
		case address == nil:
			return nil, fmt.Errorf("%s: it is no longer there: %w", p.name, err)
		case starting || address.Host != r.URL.Host:
		case time.Since(begun) < u.redial:
			pause = redialPause
		default:
			return nil, fmt.Errorf("%s: %w%s", p.name, err, tries(dials, begun))
		}
		select {
		case <-r.Context().Done():
			return nil, fmt.Errorf("%s: %w: %w%s", p.name, r.Context().Err(), err, tries(dials, begun))
		case <-time.After(pause):
		}
		if r.Body != nil && r.GetBody != nil {
			r.Body, _ = r.GetBody() // it returns no error
		}
		r.URL.Host = address.Host
		answer, err = u.RoundTripper.RoundTrip(r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w%s", p.name, err, tries(dials, begun))
	}
	return answer, nil
}

// tries is what a log line adds where there was more than one.
func tries(dials int, begun time.Time) string {
	if dials == 1 {
		return ""
	}
	return fmt.Sprintf(" (%d dials in %s)", dials, time.Since(begun).Round(time.Millisecond))
}

// refused reports that no connection came about, so that nothing of the request can have been seen.
func refused(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "dial"
}

// watched is an answer's body that tells the access line why it broke off: its status is out by then, and says nothing.
type watched struct {
	io.ReadCloser

	exchange *function.Exchange
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) { // the client may leave
		w.exchange.Err = fmt.Errorf("the answer broke off: %w", err)
	}
	return n, err
}

// body is a request's body from memory.
type body struct{ *bytes.Reader }

func newBody(text []byte) io.ReadCloser { return body{bytes.NewReader(text)} }

func (body) Close() error { return nil }

// bufferPool spares the proxy a 32 KiB buffer per answer.
type bufferPool struct{ sync.Pool }

const copyBuffer = 32 << 10

func newBufferPool() httputil.BufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}
}

func (p *bufferPool) Get() []byte { return p.Pool.Get().(*[copyBuffer]byte)[:] }

func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[copyBuffer]byte)(b)) }
