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

// client talks to Warble on this machine, and to nothing else: a load is an attack on whoever did not ask for it.
type client struct {
	base string // without a slash at its end
	host string // the Host header, "" for the base's own
	http *http.Client
}

// newClient refuses a base that is not on this machine. What its name resolves to may change, so each connection is looked
// at again, and neither a proxy nor a redirect is followed.
func newClient(ctx context.Context, base, host string, timeout time.Duration, connections int) (*client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, usage("-url %q: expected the address of a Warble on this machine, as http://127.0.0.1:8080", base)
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, usage("-url %s: %v: expected an address of this machine, as http://127.0.0.1:8081, and -host for the name that its ingress goes by", base, err)
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
			IdleConnTimeout: time.Minute, // before the other end closes it, under a request that cannot be sent again
		},
	}}, nil
}

func onThisMachine(a netip.Addr) error {
	if a = a.Unmap(); !a.IsLoopback() {
		return fmt.Errorf("%s is not on this machine: a load goes to loopback only, 127.0.0.0/8 or ::1", a)
	}
	return nil
}

// reply is what the head of an answer says.
type reply struct {
	status     int
	experiment string
	variant    string
	problem    string // its type, where the answer is one
	detail     string
	retryAfter time.Duration
}

func (r reply) ok() bool { return r.status >= 200 && r.status < 300 }

func (r reply) err() error { return fmt.Errorf("%d %s", r.status, r.detail) }

const maxAnswer = 1 << 20 // bytes

// call sends a request, with body as JSON where it is not nil, and reads the whole answer: into answer where that is not
// nil and the status is a 2xx. An error is that no answer came, or none that can be read.
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
		_ = json.Unmarshal(text, &p) // the status stands for an answer that is none of Warble's
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

// notOpen reports that the feature is not open to whoever asked.
func (r reply) notOpen() bool { return r.problem == problem.NotOpen.Type() }

// outcome names what came of a request, as summaries count it.
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
