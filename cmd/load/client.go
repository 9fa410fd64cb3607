package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"warble/shared/problem"
)

// client sends requests only to a Warble on this machine, because a load on anybody else would be an attack.
type client struct {
	base string // without a slash at its end
	host string // the Host header, "" for the base's own
	http *http.Client
}

// newClient returns a client for base, and refuses a base that is not on this machine. A name may resolve to another address later, so each
// connection is checked again. The client uses no proxy, and follows no redirect.
func newClient(ctx context.Context, base, host string, timeout time.Duration, connections int) (*client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, usage("-url %q: expected the address of a Warble on this machine, such as http://127.0.0.1:8080", base)
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, usage("-url %s: %v: expected an address of this machine, such as http://127.0.0.1:8081; name the host of an ingress with -host", base, err)
	}
	for _, a := range addresses {
		if err := onThisMachine(a); err != nil {
			return nil, usage("-url %s: %v", base, err)
		}
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return onThisMachine(a.Addr())
	}}
	return &client{base: "http://" + u.Host, host: host, http: &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, MaxIdleConns: connections, MaxIdleConnsPerHost: connections,
			IdleConnTimeout: time.Minute, // shorter than the server's, which could otherwise close the connection under a request that cannot be repeated
		},
	}}, nil
}

func onThisMachine(a netip.Addr) error {
	if a = a.Unmap(); !a.IsLoopback() {
		return fmt.Errorf("%s is not on this machine: expected a loopback address, 127.0.0.0/8 or ::1", a)
	}
	return nil
}

// reply is the status and the headers of an answer, and the problem if it is an error.
type reply struct {
	status     int
	experiment string
	variant    string
	problem    string // the problem's type, if the answer is a problem
	detail     string
	retryAfter time.Duration
}

func (r reply) ok() bool { return r.status >= 200 && r.status < 300 }

func (r reply) err() error { return fmt.Errorf("%d %s", r.status, r.detail) }

const maxAnswer = 1 << 20 // bytes

// call sends a request, with body as JSON if it is not nil, and reads the whole answer. It decodes the answer into answer if that is not nil and
// the status is 2xx. It returns an error only if there is no answer, or if the answer cannot be read.
func (c *client) call(ctx context.Context, method, path, token string, body, answer any) (reply, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, payload)
	if err != nil {
		return reply{}, err
	}
	request.Host = cmp.Or(c.host, request.Host)
	request.Header.Set("User-Agent", "warble-load")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return reply{}, err
	}
	r := reply{status: response.StatusCode, experiment: response.Header.Get("X-Experiment"), variant: response.Header.Get("X-Variant")}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		r.retryAfter = time.Duration(seconds) * time.Second
	}
	if !r.ok() {
		var p struct{ Type, Detail string }
		_ = json.Unmarshal(text, &p) // if the answer is not a problem, the status is enough
		r.problem, r.detail = p.Type, p.Detail
		return r, nil
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			return reply{}, fmt.Errorf("%s %s: %w: %w", method, path, errUnreadable, err)
		}
	}
	return r, nil
}

var errUnreadable = errors.New("the answer is not what the contract says")

// notOpen reports whether the feature is not open to the caller.
func (r reply) notOpen() bool { return r.problem == problem.NotOpen.Type() }

// outcome returns the name under which a summary counts the result of a request.
func outcome(r reply, err error) string {
	switch {
	case r.status != 0:
		return strconv.Itoa(r.status)
	case errors.Is(err, errUnreadable):
		return "unreadable"
	case errors.Is(err, context.Canceled):
		return cutOff
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "timeout"
	}
	return "connection"
}
