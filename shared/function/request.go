package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/telemetry"
	"warble/shared/token"
)

// maxBody is the largest request body that anyone may send.
const maxBody = 64 << 10

// Exchange has the facts about one request and its answer. It is the ResponseWriter, the source of the access line, and what handlers get
// through the context, all in one allocation.
type Exchange struct {
	RequestID string
	UserAgent string       // the header, fit to be stored: valid UTF-8, at most maxAgent bytes
	Route     string       // the pattern that matched, for logs and metrics; "unmatched" until one has
	Client    netip.Addr   // the client's address as the edge asserted it, or else the peer's
	Caller    token.Claims // zero if the route needs no token
	Err       error        // why the answer is a 5xx, or was cut off

	Assignment experiment.Assignment // as the edge asserted it; zero if it asserted none
	AsControl  bool                  // whether the answer must be the control's, because the caller's exposure could not be recorded

	http.ResponseWriter
	function    *Function
	body        io.ReadCloser // the request's body, without the limit on its size
	signed      bool          // whether the edge has signed the request
	status      int
	bytes       int64
	presented   bool   // whether there is a bearer token, and the route needs one
	key         string // Idempotency-Key
	fingerprint []byte
}

// contextKey is the type of the only context key of this package.
type contextKey struct{}

// Current returns the exchange of the request to which ctx belongs. Outside of a request, the exchange is empty.
func Current(ctx context.Context) *Exchange {
	if x, ok := ctx.Value(contextKey{}).(*Exchange); ok {
		return x
	}
	return &Exchange{}
}

// Caller returns the claims of the token that Authenticated verified.
func Caller(ctx context.Context) token.Claims { return Current(ctx).Caller }

// RequestID returns the request's id, which the answer has in X-Request-Id.
func RequestID(ctx context.Context) string { return Current(ctx).RequestID }

// Client returns the client's address.
func Client(ctx context.Context) netip.Addr { return Current(ctx).Client }

// Network returns the client's network, see telemetry.Network.
func Network(ctx context.Context) string { return telemetry.Network(Current(ctx).Client) }

// WriteHeader remembers the status for the access line.
func (x *Exchange) WriteHeader(status int) {
	if x.status == 0 && status >= 200 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes for the access line.
func (x *Exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// Status returns the status of the answer; 0 if there is none yet.
func (x *Exchange) Status() int { return x.status }

// Unwrap lets http.ResponseController reach the server's own writer.
func (x *Exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// Handler returns, for tests, the handler that Serve serves: the routes, the probes, and everything that is done for each request.
func (f *Function) Handler(routes Routes, needs ...Dependency) http.Handler {
	return f.whole(f.mux(routes), needs)
}

// WholeHandler is Handler for a function that routes by itself (see ServeHandler).
func (f *Function) WholeHandler(handler http.Handler, needs ...Dependency) http.Handler {
	return f.whole(handler, needs)
}

// whole wraps handler with the probes and everything that is done for each request.
func (f *Function) whole(handler http.Handler, needs []Dependency) http.Handler {
	probes := &probes{needs: needs, log: f.Telemetry.Log}
	health, ready := getOnly(probes.health), getOnly(probes.ready)
	main := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.exchange(w, r, handler) })
	traced := f.Telemetry.Trace(main, patternOf(handler))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
			health(w, r)
		case "/readyz":
			ready(w, r)
		default:
			traced.ServeHTTP(w, r)
		}
	})
}

// exchange runs handler for one request and writes its access line.
func (f *Function) exchange(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	start := time.Now()
	x := &Exchange{ResponseWriter: w, function: f, RequestID: requestID(r), UserAgent: userAgent(r), Route: unmatched, Client: peer(r)}
	countLatency := false
	ctx := context.WithValue(r.Context(), contextKey{}, x)
	if asserted, ok := f.signer.verify(r, start); ok {
		x.Client, x.Assignment, x.signed = asserted.client, asserted.assignment, true
		if asserted.unread != nil {
			x.unexposed("", asserted.unread)
		}
		countLatency = f.latencies != nil && (x.Assignment.Experiment == "" || x.Assignment.Experiment == f.served.experiment)
		if !asserted.deadline.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, asserted.deadline)
			defer cancel()
			x.Until(asserted.deadline)
		}
	}
	w.Header().Set("X-Request-Id", x.RequestID)
	if f.drain.begun.Load() {
		w.Header().Set("Connection", "close")
	}
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		x.body = r.Body
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	defer func() {
		aborted := x.recovered(recover())
		took := time.Since(start)
		f.Telemetry.Access(ctx, x.access(r, took))
		if countLatency {
			f.latencies.observe(start.Add(took), took)
		}
		if aborted {
			panic(http.ErrAbortHandler) // an answer had begun already: cut it off, so that it does not look complete
		}
	}()
	handler.ServeHTTP(x, r)
}

// recovered turns a panic into a 500. aborted reports that an answer had begun already, so that it can only be cut off.
func (x *Exchange) recovered(reason any) (aborted bool) {
	if reason == nil {
		return false
	}
	if reason == http.ErrAbortHandler { //nolint:errorlint // a panic value, not a wrapped error
		return true
	}
	x.Err = fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
	if x.status != 0 {
		return true
	}
	problem.Write(x, problem.Internal.Because(x.Err), x.RequestID)
	return false
}

func (x *Exchange) access(r *http.Request, took time.Duration) telemetry.Access {
	a := telemetry.Access{
		RequestID: x.RequestID,
		Method:    r.Method,
		Route:     x.Route,
		Status:    x.status,
		Duration:  took,
		Bytes:     x.bytes,
		Err:       x.Err,
		Client:    x.Client,

		Experiment: x.Assignment.Experiment,
		Variant:    string(x.Assignment.Arm),
	}
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	if revision := x.Header()["X-Revision"]; len(revision) > 0 {
		a.Revision = revision[0]
	}
	if x.Caller.UserID != 0 {
		a.UserID = strconv.FormatInt(x.Caller.UserID, 10)
	}
	return a
}

// Fail answers with the problem that shared/problem's table has for err. The access line gets the cause of a 5xx.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	x := Current(r.Context())
	p := problem.From(err)
	if p.Status >= 500 {
		x.Err = err
	}
	if p.Kind == problem.Unauthenticated && x.presented { // RFC 6750, section 3.1: no error code if no token was sent
		w.Header().Set("WWW-Authenticate", `Bearer realm="warble", error="invalid_token"`)
	}
	problem.Write(w, p, x.RequestID)
}

// peer returns the address at the other end of the connection.
func peer(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap()
}

// serverLog writes each message of net/http itself (a broken TLS hello, a panic after hijack) as one JSON line.
type serverLog struct{ zerolog.Logger }

func newServerLog(log zerolog.Logger) *stdlog.Logger { return stdlog.New(serverLog{log}, "", 0) }

func (l serverLog) Write(line []byte) (int, error) {
	l.Warn().Msg("http: " + strings.TrimSpace(string(line)))
	return len(line), nil
}

// ReadBody reads the whole body, at most 64 KiB of it. Its errors are problems.
func ReadBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		if r.Header.Get("Expect") == "" { // otherwise the client waits before it sends the body
			// Read up to the limit. Then net/http lets the client read the answer before it resets the connection.
			_, _ = io.Copy(io.Discard, r.Body) // ends with the limit's error, or when the client leaves
		}
		return nil, problem.TooLarge
	}
	if r.ContentLength > 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, unreadable(err)
		}
		return body, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, unreadable(err)
	}
	return body, nil
}

func unreadable(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem.TooLarge.Because(err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return problem.TimedOut.Because(err)
	}
	return problem.Malformed.Detail("the body ended before it was complete").Because(err)
}
