package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"warble/functions"
	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/telemetry"
	"warble/shared/token"
)

type config struct {
	upstreamTimeout time.Duration  // UPSTREAM_TIMEOUT: for the whole of a function's answer, its start included, but for its streams
	trusted         []netip.Prefix // TRUSTED_PROXIES: whose X-Forwarded-For is believed
	origins         []string       // CORS_ORIGINS
	limits          limits         // RATE_LIMIT_READ, _WRITE, _AUTH: of all replicas together
	replicas        int            // EDGE_REPLICAS: how many share the limits, until the cluster says so
	steerURL        string         // STEER_URL: who moves experiments, and stores how their arms do; "" for nobody
	pod             string         // HOSTNAME
}

func configFromEnv(e *env.Reader) config {
	steerURL, pod := steerFromEnv(e)
	return config{
		upstreamTimeout: e.Duration("UPSTREAM_TIMEOUT", 15*time.Second, 100*time.Millisecond, 50*time.Second),
		trusted:         prefixesFromEnv(e, "TRUSTED_PROXIES"),
		origins:         e.List("CORS_ORIGINS"),
		limits:          limitsFromEnv(e),
		replicas:        e.Int("EDGE_REPLICAS", 1, 1, 1000),
		steerURL:        steerURL,
		pod:             pod,
	}
}

// Edge is the public handler. What it does to a request, it does in the order of ServeHTTP.
type Edge struct {
	config
	routes      *routes
	tokens      *token.Verifier
	signer      *function.Signer // of what the functions are told
	own         own
	limiter     *limiter
	proxy       *httputil.ReverseProxy
	guests      *guests
	outcomes    *outcomes
	experiments *telemetry.ExperimentMetrics
}

// New returns the edge's handler. key signs the headers that tell a function what the edge found out.
func New(c config, r *routes, tokens *token.Verifier, key []byte, t *telemetry.Telemetry) *Edge {
	e := &Edge{
		config: c, routes: r, tokens: tokens, signer: function.NewSigner(key), own: ownRoutes(functions.OpenAPI), limiter: newLimiter(c.limits, time.Now),
		outcomes: newOutcomes(c.steerURL, c.pod, key, t), experiments: t.ExperimentMetrics(),
	}
	r.wires.say = e.outcomes.suspend
	r.issuers.log = t.Log
	e.limiter.divide(max(1, c.replicas))
	e.guests = newGuests(e, key, r, t)
	e.proxy = &httputil.ReverseProxy{
		Rewrite:        e.rewrite,
		Transport:      t.Transport(shelter{newUpstream(r)}),
		BufferPool:     newBufferPool(),
		ModifyResponse: modify,
		ErrorHandler:   e.failed,
		ErrorLog:       log.New(io.Discard, "", 0), // failed and watched tell the access line
	}
	return e
}

// passage is what ServeHTTP found out and rewrite needs.
type passage struct {
	name       string        // the function's
	url        *url.URL      // where it is, or the arm
	tag        string        // the candidate's; empty for what serves everybody
	armed      bool          // url is an arm's
	side       *side         // of the caller; nil where they are in no arm, or requests are the unit
	taken      bool          // the experiment has taken the request, though it may be suspended
	untouched  *url.URL      // of the function, for an arm that fails
	fell       error         // why the arm has not answered, and the untouched function has
	waited     time.Duration // for the headers of the answer, from when the request was sent on
	assignment string        // what the function is told; empty where the caller is in no experiment
	client     netip.Addr
	id         string
	until      time.Time
}

type passageKey struct{}

func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := function.Current(r.Context())
	x.Client = clientAddress(r, e.trusted)
	if len(r.TransferEncoding) > 0 && r.ProtoMajor == 1 {
		// RFC 9112, section 6.1, for one that had a Content-Length as well, which net/http does not tell: the next request on
		// this connection may be one that somebody smuggled in.
		w.Header().Set("Connection", "close")
	}
	if to, route := e.guest(r); to != nil {
		x.Route = route
		e.guests.serve(w, r, x, to)
		return
	}
	if private(r.URL.Path) {
		w.Header().Set("Cache-Control", "no-store")
	}
	if bearer, ok := function.Bearer(r); ok {
		if claims, err := e.tokens.Verify(bearer); err == nil {
			x.Caller = claims // for the limits and the log; whether a token is needed, the function says
		}
	}
	if e.allowOrigin(w, r) {
		return
	}
	if wait := e.limiter.take(w.Header(), classOf(r), x.Caller.UserID, x.Client); wait > 0 {
		function.Fail(w, r, problem.TooMany.Detail("the limit of calls is reached: try again in %d s", problem.Seconds(wait)).After(wait))
		return
	}
	if headerSize(r) > maxHeader {
		function.Fail(w, r, problem.HeaderTooLarge)
		return
	}
	if !function.CleanPath(r.URL.Path) { // ServeMux would redirect
		function.Fail(w, r, noEndpoint(r))
		return
	}
	if handler, pattern := e.own.Handler(r); pattern != "" {
		x.Route = pattern
		e.serveOwn(w, r, handler)
		return
	}
	if err := e.routes.Ready(r.Context()); err != nil {
		function.Fail(w, r, problem.Unavailable.Because(err))
		return
	}
	to, pattern := e.routes.match(r)
	if to == nil {
		function.Fail(w, r, noEndpoint(r))
		return
	}
	x.Route = pattern
	r.Header.Del("Upgrade") // every connection to a function is the edge's own
	if err := buffer(r); err != nil {
		function.Fail(w, r, err)
		return
	}
	begun := time.Now()
	until := begun.Add(cmp.Or(to.streams[pattern], e.upstreamTimeout))
	x.Until(until)
	p := &passage{name: to.name, url: to.url, untouched: to.url, client: x.Client, id: x.RequestID, until: until}
	if tag := e.routes.tag(r); to.tags[tag].url != nil {
		p.url, p.tag = to.tags[tag].url, tag // whoever tries a candidate out is in no experiment
	} else if t := to.trial; t != nil && len(t.Baseline) > 0 {
		defer func() { e.foreseen(p, t, x) }()
	} else if t != nil {
		e.assign(p, t, x)
		defer func() { e.answered(p, t, x, time.Since(begun)) }() // also where the answer breaks off, which panics
	}
	ctx, cancel := context.WithDeadline(r.Context(), p.until)
	defer cancel()
	e.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, passageKey{}, p)))
}

// guest returns the guest that a request is for; nil where it is for a function, or for the edge itself, whose own paths no route of a
// guest takes.
func (e *Edge) guest(r *http.Request) (to *target, route string) {
	if to, route = e.routes.guest(r); to == nil || route[0] != '/' {
		return to, route
	}
	if _, own := e.own.Handler(r); own != "" {
		return nil, ""
	}
	return to, route
}

// divide shares all limits among so many replicas.
func (e *Edge) divide(replicas int) {
	e.limiter.divide(replicas)
	e.guests.divide(replicas)
}

// assign sends the request of an assigned user to its arm, and says so in the answer. While the experiment is suspended the
// untouched function gets it, and is told the same: that shows who was served what they were not assigned to.
func (e *Edge) assign(p *passage, t *trial, x *function.Exchange) {
	off := t.tripwire.off()
	side, assignment := t.assign(&x.Caller)
	if side == nil {
		if p.taken = t.draws(); p.taken && !off {
			p.url, p.armed = t.both, true
		}
		return
	}
	x.Assignment = assignment
	p.assignment, p.side, p.taken = assignment.String(), side, true
	side.describe(x.Header())
	if !off {
		p.url, p.armed = side.url, true
	}
}

// foreseen counts an answer of the untouched Service for the baseline, by the arm that its caller will have.
func (e *Edge) foreseen(p *passage, t *trial, x *function.Exchange) {
	status, failed := outcomeOf(x)
	if status == statusClientClosed {
		return
	}
	if arm, unit, step := t.Foresee(x.Caller.UserID, x.Caller.Community); arm != "" {
		e.outcomes.foresee(t, step, outcome{arm: arm, unit: unit, failed: failed, waited: p.waited})
	}
}

// outcomeOf is the status of an answer, and whether it is an error: one that users see, an answer of 5xx, timeouts among them, or
// one that broke off, never what the client brought on itself or did not wait for.
func outcomeOf(x *function.Exchange) (status int, failed bool) {
	status = cmp.Or(x.Status(), http.StatusInternalServerError) // there is none where something panicked
	return status, status >= 500 || x.Err != nil
}

// answered counts an answer for the arm that it is of, or that has failed to give it.
func (e *Edge) answered(p *passage, t *trial, x *function.Exchange, took time.Duration) {
	now := time.Now()
	status, failed := outcomeOf(x)
	if status == statusClientClosed {
		return
	}
	if !p.armed && p.fell == nil {
		t.tripwire.untouched(p.taken, failed, now)
		return
	}
	arm := x.Assignment.Arm
	if p.side == nil {
		arm = t.served(x.Header())
	}
	if arm == "" { // nobody can say whose it was
		return
	}
	if p.fell != nil {
		failed = true
	}
	if !t.Phase.Over() { // a promotion moves users between the arms: what they meet then compares nothing
		e.outcomes.count(t, outcome{arm: arm, unit: cmp.Or(x.Assignment.Unit, p.id), failed: failed, waited: p.waited})
	}
	e.experiments.Answered(t.Name, string(arm), status, took)
	t.tripwire.answered(arm, who{x.Caller.UserID, x.Client, ""}, failed, now)
}

// Pattern names the route of a request, for its trace.
func (e *Edge) Pattern(r *http.Request) string {
	if to, route := e.guest(r); to != nil {
		return route
	}
	_, pattern := e.routes.match(r)
	return pattern
}

// maxHeader is the largest header of a request, in bytes as HTTP/1.1 has them.
const maxHeader = 32 << 10

func headerSize(r *http.Request) int {
	size := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(": ") + len(value) + len("\r\n")
		}
	}
	return size
}

func noEndpoint(r *http.Request) error {
	return problem.NotFound.Detail("no endpoint has the path %s", r.URL.Path)
}

// serveOwn answers from the edge itself.
func (e *Edge) serveOwn(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p := problem.WrongMethod.Detail("%s takes GET, HEAD, not %s", r.URL.Path, r.Method)
		p.Allow = "GET, HEAD"
		function.Fail(w, r, p)
		return
	}
	handler.ServeHTTP(w, r)
}

// rewrite makes the request that the function gets.
func (e *Edge) rewrite(pr *httputil.ProxyRequest) {
	p := pr.In.Context().Value(passageKey{}).(*passage) // ServeHTTP put it there
	out := pr.Out
	out.URL.Scheme, out.URL.Host = p.url.Scheme, p.url.Host
	out.Host = p.url.Host
	out.URL.RawQuery = pr.In.URL.RawQuery // as it came: the function refuses what it cannot read, and ReverseProxy drops it
	out.GetBody = pr.In.GetBody

	header := out.Header
	function.StripAssertions(header)
	header.Del("Knative-Serving-Tag") // Knative would take it for a choice of revision
	header.Del("Accept-Encoding")     // functions answer uncompressed, and X's clients break on zstd
	header.Del("Expect")              // the body is here; at a function's 100, ReverseProxy clears the headers of its own answer
	client := []string{p.client.String()}
	header["X-Forwarded-For"], header[function.HeaderClient] = client, client
	header["X-Request-Id"] = []string{p.id}
	header[function.HeaderDeadline] = []string{strconv.FormatInt(p.until.UnixMilli(), 10)}
	if p.assignment != "" {
		header[experiment.Header] = []string{p.assignment}
		header["Baggage"] = append(header["Baggage"], p.side.baggage...)
	}
	e.signer.Sign(out, time.Now())
}

// modify drops what the edge has already set on its own answer, makes an error of what stands between the edge and a
// function answering in its place, and watches the body.
func modify(answer *http.Response) error {
	for _, own := range []string{"X-Request-Id", headerExperiment, headerVariant} {
		answer.Header.Del(own)
	}
	if private(answer.Request.URL.Path) {
		answer.Header.Del("Cache-Control")
	}
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if !ofFunction(answer) {
			reason, _ := io.ReadAll(io.LimitReader(answer.Body, 200)) // only the log's, and the status says most of it
			return fmt.Errorf("%s answered %s, not in a function's words: %q", answer.Request.URL.Host, answer.Status, reason)
		}
	}
	answer.Body = watched{answer.Body, function.Current(answer.Request.Context())}
	return nil
}

// private reports that no cache may keep what the path answers, the edge's own refusals included.
func private(path string) bool { return strings.HasPrefix(path, "/auth/") }

// statusClientClosed is what logs show for a client that left before its answer, as nginx has it. Nobody receives it.
const statusClientClosed = 499

// failed answers where the function did not.
func (e *Edge) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		w.WriteHeader(statusClientClosed)
		return
	}
	function.Fail(w, r, problem.Unavailable.Detail("the function that answers this is not available: try again").Because(err))
}

// buffer reads the body, at most 64 KiB of it, so that what is too large never reaches a function, and so that the
// transport can send it again where a kept connection turns out to be closed.
func buffer(r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body, err := function.ReadBody(r)
	if err != nil {
		return err
	}
	r.ContentLength = int64(len(body))
	r.TransferEncoding = nil
	r.GetBody = func() (io.ReadCloser, error) { return newBody(body), nil }
	r.Body, _ = r.GetBody() // it returns no error
	return nil
}
