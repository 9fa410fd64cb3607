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
	upstreamTimeout time.Duration  // UPSTREAM_TIMEOUT: for a function's whole answer, including its start; streams have their own
	trusted         []netip.Prefix // TRUSTED_PROXIES: the proxies whose X-Forwarded-For is believed
	origins         []string       // CORS_ORIGINS
	limits          limits         // RATE_LIMIT_READ, _WRITE, _AUTH: for all replicas together
	replicas        int            // EDGE_REPLICAS: how many edges share the limits, until the cluster says so
	steerURL        string         // STEER_URL: the function that moves experiments and stores the counts of their arms; "" for none
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

// Edge is the public handler. ServeHTTP shows what it does to a request, in order.
type Edge struct {
	config
	routes      *routes
	tokens      *token.Verifier
	signer      *function.Signer // signs the headers for functions
	own         own
	limiter     *limiter
	proxy       *httputil.ReverseProxy
	guests      *guests
	outcomes    *outcomes
	experiments *telemetry.ExperimentMetrics
}

// New returns the edge's handler. key signs the headers that tell a function who calls and in which arm they are.
func New(c config, r *routes, tokens *token.Verifier, key []byte, t *telemetry.Telemetry) *Edge {
	e := &Edge{
		config: c, routes: r, tokens: tokens, signer: function.NewSigner(key), own: ownRoutes(functions.OpenAPI), limiter: newLimiter(c.limits, time.Now),
		outcomes: newOutcomes(c.steerURL, c.pod, key, t), experiments: t.ExperimentMetrics(),
	}
	r.tripwires.onChange = e.outcomes.suspend
	r.issuers.log = t.Log
	e.limiter.divide(max(1, c.replicas))
	e.guests = newGuests(e, key, r, t)
	e.proxy = &httputil.ReverseProxy{
		Rewrite:        e.rewrite,
		Transport:      t.Transport(armFallback{newUpstream(r)}),
		BufferPool:     newBufferPool(),
		ModifyResponse: modify,
		ErrorHandler:   e.answerFailure,
		ErrorLog:       log.New(io.Discard, "", 0), // answerFailure and watched write the error to the access line
	}
	return e
}

// passage is what ServeHTTP knows about a request, for rewrite and the transport.
type passage struct {
	name         string        // the function's
	url          *url.URL      // of the function, the arm or the candidate
	tag          string        // the candidate's; empty for the revision that serves everybody
	toArm        bool          // whether url is an arm's
	arm          *routedArm    // of the caller; nil if they are in no arm, or if the unit is a request
	inExperiment bool          // whether the experiment includes the request, even while it is suspended
	untouched    *url.URL      // of the untouched function, for an arm that fails
	armErr       error         // why the arm did not answer, if the untouched function answered instead
	waited       time.Duration // from sending the request to the headers of the answer
	assignment   string        // the header for the function; empty if the caller is in no experiment
	client       netip.Addr
	id           string
	until        time.Time
}

type passageKey struct{}

func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := function.Current(r.Context())
	x.Client = clientAddress(r, e.trusted)
	if len(r.TransferEncoding) > 0 && r.ProtoMajor == 1 {
		// RFC 9112, section 6.1: the request may also have had a Content-Length, which net/http hides. Then the next request on
		// this connection may have been smuggled in.
		w.Header().Set("Connection", "close")
	}
	if to, route := e.guestFor(r); to != nil {
		x.Route = route
		e.guests.serve(w, r, x, to)
		return
	}
	if noStore(r.URL.Path) {
		w.Header().Set("Cache-Control", "no-store")
	}
	if bearer, ok := function.Bearer(r); ok {
		if claims, err := e.tokens.Verify(bearer); err == nil {
			x.Caller = claims // for the limits and the log; the function decides whether it needs a token
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
	if !function.CleanPath(r.URL.Path) { // because ServeMux would redirect
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
	e.forward(w, r, x, to, pattern)
}

// forward sends a request to its function, or to the arm or the candidate of its caller.
func (e *Edge) forward(w http.ResponseWriter, r *http.Request, x *function.Exchange, to *target, pattern string) {
	r.Header.Del("Upgrade") // connections to functions belong to the edge
	if err := buffer(r); err != nil {
		function.Fail(w, r, err)
		return
	}
	begun := time.Now()
	until := begun.Add(cmp.Or(to.streams[pattern], e.upstreamTimeout))
	x.Until(until)
	p := &passage{name: to.name, url: to.url, untouched: to.url, client: x.Client, id: x.RequestID, until: until}
	if tag := e.routes.tagFor(r); to.tags[tag].url != nil {
		p.url, p.tag = to.tags[tag].url, tag // a request for a candidate is in no experiment
	} else if exp := to.experiment; exp != nil && len(exp.Baseline) > 0 {
		defer func() { e.countBaseline(p, exp, x) }()
	} else if exp != nil {
		e.assign(p, exp, x)
		defer func() { e.countAnswer(p, exp, x, time.Since(begun)) }() // deferred because an answer that breaks off panics
	}
	ctx, cancel := context.WithDeadline(r.Context(), p.until)
	defer cancel()
	e.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, passageKey{}, p)))
}

// guestFor returns the guest that a request is for. It returns nil if the request is for a function or for the edge itself: a
// guest's route never takes the edge's own paths.
func (e *Edge) guestFor(r *http.Request) (to *target, route string) {
	if to, route = e.routes.guestFor(r); to == nil || route[0] != '/' {
		return to, route
	}
	if _, own := e.own.Handler(r); own != "" {
		return nil, ""
	}
	return to, route
}

// divide divides all limits by the number of replicas.
func (e *Edge) divide(replicas int) {
	e.limiter.divide(replicas)
	e.guests.divide(replicas)
}

// assign sends the request of an assigned user to their arm, and sets the headers of the answer. While the experiment is suspended,
// the untouched function gets the request. The assignment stays, so that the exposure says that the user was not served their own arm.
func (e *Edge) assign(p *passage, exp *routedExperiment, x *function.Exchange) {
	off := exp.tripwire.isSuspended()
	arm, assignment := exp.assign(&x.Caller)
	if arm == nil {
		if p.inExperiment = exp.drawRequest(); p.inExperiment && !off {
			p.url, p.toArm = exp.splitURL, true
		}
		return
	}
	x.Assignment = assignment
	p.assignment, p.arm, p.inExperiment = assignment.String(), arm, true
	arm.setHeaders(x.Header())
	if !off {
		p.url, p.toArm = arm.url, true
	}
}

// countBaseline counts an answer of the untouched Service for the baseline, under the arm that its caller will have.
func (e *Edge) countBaseline(p *passage, exp *routedExperiment, x *function.Exchange) {
	status, failed := outcomeOf(x)
	if status == statusClientClosed {
		return
	}
	if arm, unit, step := exp.Foresee(x.Caller.UserID, x.Caller.Community); arm != "" {
		e.outcomes.countBaseline(exp, step, outcome{arm: arm, unit: unit, failed: failed, waited: p.waited})
	}
}

// outcomeOf returns the status of an answer, and whether it is an error that users see: an answer of 5xx, a timeout, or an answer
// that broke off. A client's own mistake, and a client that leaves, are no errors.
func outcomeOf(x *function.Exchange) (status int, failed bool) {
	status = cmp.Or(x.Status(), http.StatusInternalServerError) // a panic leaves no status
	return status, status >= 500 || x.Err != nil
}

// countAnswer counts an answer for the arm that gave it, or that failed to give it.
func (e *Edge) countAnswer(p *passage, exp *routedExperiment, x *function.Exchange, took time.Duration) {
	now := time.Now()
	status, failed := outcomeOf(x)
	if status == statusClientClosed {
		return
	}
	if !p.toArm && p.armErr == nil {
		exp.tripwire.addUntouchedAnswer(p.inExperiment, failed, now)
		return
	}
	arm := x.Assignment.Arm
	if p.arm == nil {
		arm = exp.answeringArm(x.Header())
	}
	if arm == "" { // it is unknown which arm answered
		return
	}
	if p.armErr != nil {
		failed = true
	}
	if !exp.Phase.Over() { // a promotion moves users between the arms, so a comparison would mean nothing
		e.outcomes.count(exp, outcome{arm: arm, unit: cmp.Or(x.Assignment.Unit, p.id), failed: failed, waited: p.waited})
	}
	e.experiments.Answered(exp.Name, string(arm), status, took)
	exp.tripwire.addArmAnswer(arm, recipient{x.Caller.UserID, x.Client, ""}, failed, now)
}

// Pattern returns the route of a request, as the name of its trace.
func (e *Edge) Pattern(r *http.Request) string {
	if to, route := e.guestFor(r); to != nil {
		return route
	}
	_, pattern := e.routes.match(r)
	return pattern
}

// maxHeader is the largest header of a request in bytes, counted as HTTP/1.1 sends it.
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

// serveOwn answers a request for a path of the edge itself.
func (e *Edge) serveOwn(w http.ResponseWriter, r *http.Request, handler http.Handler) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		p := problem.WrongMethod.Detail("%s takes GET and HEAD, not %s", r.URL.Path, r.Method)
		p.Allow = "GET, HEAD"
		function.Fail(w, r, p)
		return
	}
	handler.ServeHTTP(w, r)
}

// rewrite makes the request for the function.
func (e *Edge) rewrite(pr *httputil.ProxyRequest) {
	p := pr.In.Context().Value(passageKey{}).(*passage) // set by forward
	out := pr.Out
	out.URL.Scheme, out.URL.Host = p.url.Scheme, p.url.Host
	out.Host = p.url.Host
	out.URL.RawQuery = pr.In.URL.RawQuery // unchanged: ReverseProxy drops what it cannot parse, but the function must refuse it
	out.GetBody = pr.In.GetBody

	header := out.Header
	function.StripAssertions(header)
	header.Del("Knative-Serving-Tag") // Knative would choose a revision by it
	header.Del("Accept-Encoding")     // functions do not compress, and X's clients cannot read zstd
	// The edge has read the body already, so no 100 is needed. After a function's 100, ReverseProxy would clear the headers that the
	// edge has set on the answer.
	header.Del("Expect")
	client := []string{p.client.String()}
	header["X-Forwarded-For"], header[function.HeaderClient] = client, client
	header["X-Request-Id"] = []string{p.id}
	header[function.HeaderDeadline] = []string{strconv.FormatInt(p.until.UnixMilli(), 10)}
	if p.assignment != "" {
		header[experiment.Header] = []string{p.assignment}
		header["Baggage"] = append(header["Baggage"], p.arm.baggage...)
	}
	e.signer.Sign(out, time.Now())
}

// modify removes headers that the edge sets itself, and watches the body. It returns an error if something between the edge and the
// function answered instead of the function.
func modify(answer *http.Response) error {
	for _, own := range []string{"X-Request-Id", headerExperiment, headerVariant} {
		answer.Header.Del(own)
	}
	if noStore(answer.Request.URL.Path) {
		answer.Header.Del("Cache-Control")
	}
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if !isFunctionAnswer(answer) {
			reason, _ := io.ReadAll(io.LimitReader(answer.Body, 200)) // only for the log; the status says most
			return fmt.Errorf("%s answered %s, and the answer is not a function's: %q", answer.Request.URL.Host, answer.Status, reason)
		}
	}
	answer.Body = watched{answer.Body, function.Current(answer.Request.Context())}
	return nil
}

// noStore reports whether caches must not keep the answers of a path. This includes the edge's own refusals.
func noStore(path string) bool { return strings.HasPrefix(path, "/auth/") }

// statusClientClosed is the status in logs if the client left before its answer, as in nginx. No client receives it.
const statusClientClosed = 499

// answerFailure answers if the function did not.
func (e *Edge) answerFailure(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		w.WriteHeader(statusClientClosed)
		return
	}
	function.Fail(w, r, problem.Unavailable.Detail("the function that answers this is not available: try again").Because(err))
}

// buffer reads the body, at most 64 KiB. So a larger body never reaches a function, and the transport can send the body again if a
// kept connection turns out to be closed.
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
	r.Body, _ = r.GetBody() // this GetBody returns no error
	return nil
}
