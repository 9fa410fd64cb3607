package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/telemetry"
)

// guest is what the edge knows about a Service that is not Warble's. Its answers are passed on unchanged.
type guest struct {
	hosts    []string      // all paths of these hosts belong to the guest, except the edge's probes
	timeout  time.Duration // for the headers of an answer; Knative limits the rest
	limit    limit         // for one caller; zero for no limit
	revision string        // the revision with all of the traffic; empty if several share it
}

// defaultSeconds is the timeout that Knative sets for a Service without one.
const defaultSeconds = 300

// guestSettings describes a guest in the routes file.
type guestSettings struct {
	Hosts          []string `json:"hosts"`
	TimeoutSeconds int      `json:"timeoutSeconds"`
	RateLimit      string   `json:"rateLimit"`
}

// isHost reports whether name is a host name in lower case, without a port.
func isHost(name string) bool {
	return name != "" && len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && name[0] != '.' && name[0] != '-'
}

// guestFor returns the guest that a request is for, and the route or host that matched; nil if there is none.
func (r *routes) guestFor(request *http.Request) (*target, string) {
	t := r.current.Load()
	if t == nil || !t.guests && len(t.hosts) == 0 || request.Method == http.MethodConnect {
		return nil, ""
	}
	if len(t.hosts) > 0 {
		host := request.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.ToLower(host)
		if to := t.hosts[host]; to != nil {
			return to, host
		}
	}
	if to, pattern := r.match(request); t.guests && to != nil && to.guest != nil {
		return to, pattern
	}
	return nil, ""
}

// guests passes requests to guests, and their answers to clients.
type guests struct {
	edge     *Edge
	proxy    *httputil.ReverseProxy
	visitors visitors
	issuers  *issuers

	mu       sync.Mutex
	limiters map[string]*limiter // by the guest's name
	replicas int
}

func newGuests(e *Edge, key []byte, r *routes, t *telemetry.Telemetry) *guests {
	g := &guests{edge: e, visitors: newVisitors(key), issuers: &r.issuers, limiters: make(map[string]*limiter), replicas: max(1, e.replicas)}
	g.proxy = &httputil.ReverseProxy{
		Rewrite:        g.rewrite,
		Transport:      t.Transport(guestFallback{newUpstream(r)}),
		BufferPool:     newBufferPool(),
		ModifyResponse: g.modify,
		ErrorHandler:   g.answerFailure,
		ErrorLog:       log.New(io.Discard, "", 0), // answerFailure and watched write the error to the access line
	}
	return g
}

// divide divides the limits of guests by the number of replicas.
func (g *guests) divide(replicas int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replicas = replicas
	for _, l := range g.limiters {
		l.divide(replicas)
	}
}

// limiterFor returns the limiter of a guest that has a limit. If the limit changed, counting starts again.
func (g *guests) limiterFor(to *target) *limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	want := limits{to.guest.limit, to.guest.limit, to.guest.limit}
	if l := g.limiters[to.name]; l == nil || l.limits != want {
		l = newLimiter(want, time.Now)
		l.divide(g.replicas)
		g.limiters[to.name] = l
	}
	return g.limiters[to.name]
}

// visit is what the edge knows about a request to a guest.
type visit struct {
	passage

	experiment        *routedExperiment
	revision          string    // of the answer, if the edge knows it
	untouchedRevision string    // of the untouched Service, if the edge knows it
	newCookie         string    // the cookie's value for a visitor who has none yet; empty otherwise
	cookieName        string    // the name of that cookie
	begun             time.Time // when the request came
	counted           bool      // whether the answer has been counted at its beginning, because a switched connection has no end
	exposed           bool      // whether the exposure has been noted
}

type visitKey struct{}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) } // set by serve

// serve passes one request to a guest.
func (g *guests) serve(w http.ResponseWriter, r *http.Request, x *function.Exchange, to *target) {
	if to.guest.limit != (limit{}) {
		if wait := g.limiterFor(to).take(w.Header(), read, 0, x.Client); wait > 0 {
			function.Fail(w, r, problem.TooMany.Detail("the limit of calls is reached: try again in %d s", problem.Seconds(wait)).After(wait))
			return
		}
	}
	if r.Header.Get("Upgrade") != "" {
		upgraded, end, err := x.Upgrade(r)
		if err != nil {
			function.Fail(w, r, err)
			return
		}
		defer end()
		r = upgraded
	}
	x.Stream(r)
	v := &visit{begun: time.Now(), revision: to.guest.revision, untouchedRevision: to.guest.revision}
	v.passage = passage{name: to.name, url: to.url, untouched: to.url, client: x.Client, id: x.RequestID, until: v.begun.Add(to.guest.timeout)}
	exp := to.experiment
	if tag := g.edge.routes.tagFor(r); to.tags[tag].url != nil {
		v.url, v.tag, v.revision = to.tags[tag].url, tag, to.tags[tag].revision
	} else if exp != nil {
		from := g.identify(r, exp, v, x)
		if len(exp.Baseline) > 0 {
			defer func() { g.countBaseline(v, exp, from, x) }()
		} else {
			v.experiment = exp
			g.assign(v, exp, from, x)
			defer func() { g.countAtEnd(v, x) }() // deferred because an answer that breaks off panics
		}
	}
	ctx := context.WithValue(context.WithValue(r.Context(), passageKey{}, &v.passage), visitKey{}, v)
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// caller is who calls a guest, by the identity of its experiment. The zero caller is unknown.
type caller struct {
	id, community string // of somebody who is not a user of Warble
	user          int64  // of a user of Warble
}

// identify finds out who calls. A visitor without a valid cookie gets a new one.
func (g *guests) identify(r *http.Request, exp *routedExperiment, v *visit, x *function.Exchange) caller {
	switch exp.Identity.Kind {
	case experiment.ByVisitor:
		v.cookieName = exp.Identity.Visitors()
		id, fresh := g.visitors.identify(r, v.cookieName, v.begun)
		v.newCookie = fresh
		return caller{id: id}
	case experiment.ByIssuer:
		bearer, ok := function.Bearer(r)
		if !ok {
			return caller{}
		}
		return g.issuers.verify(r.Context(), exp.Identity.Issuer, bearer, v.begun)
	}
	if bearer, ok := function.Bearer(r); ok {
		if claims, err := g.edge.tokens.Verify(bearer); err == nil {
			x.Caller = claims
			return caller{user: claims.UserID, community: claims.Community}
		}
	}
	return caller{}
}

// assign sends the request to the arm of its caller. While the experiment is suspended, the untouched Service gets the request,
// with the same assignment.
func (g *guests) assign(v *visit, exp *routedExperiment, from caller, x *function.Exchange) {
	off := exp.tripwire.isSuspended()
	if exp.Unit == experiment.Request {
		if v.inExperiment = exp.drawRequest(); v.inExperiment && !off {
			v.sendTo(exp.arm(exp.drawArm()))
		}
		return
	}
	arm, id := exp.place(from)
	if arm == "" {
		return
	}
	v.arm, v.inExperiment = exp.arm(arm), true
	x.Assignment = experiment.Assignment{Experiment: exp.Name, Arm: arm, Kind: exp.Unit, Unit: id, Generation: exp.Generation, Exposes: exp.exposes}
	v.assignment = x.Assignment.String()
	if !off {
		v.sendTo(v.arm)
	}
}

// place returns the arm of a guest's caller and the id of their unit; "" if the experiment does not include them.
func (exp *routedExperiment) place(from caller) (arm experiment.Arm, unit string) {
	if exp.Identity.Foreign() {
		arm, _ = exp.PlaceForeign(from.id, from.community)
		return arm, from.id
	}
	return exp.Assign(from.user, from.community)
}

// foresee returns the arm that a guest's caller will have, the id of their unit, and the step that will open its slot; "" if the
// experiment will not include them.
func (exp *routedExperiment) foresee(from caller) (arm experiment.Arm, unit string, step int) {
	if exp.Identity.Foreign() {
		arm, step = exp.ForeseeForeign(from.id, from.community)
		return arm, from.id, step
	}
	return exp.Foresee(from.user, from.community)
}

// sendTo sends the request to an arm.
func (v *visit) sendTo(arm *routedArm) {
	v.arm, v.url, v.toArm, v.revision = arm, arm.url, true, arm.revision
}

// rewrite makes the request for the guest: the client's request, without headers that only the edge may set.
func (g *guests) rewrite(pr *httputil.ProxyRequest) {
	v := visitOf(pr.In)
	out, header := pr.Out, pr.Out.Header
	out.URL.Scheme, out.URL.Host = v.url.Scheme, v.url.Host
	out.Host = v.url.Host
	out.URL.RawQuery = pr.In.URL.RawQuery // unchanged
	function.StripAssertions(header)
	header.Del("Knative-Serving-Tag") // Knative would choose a revision by it
	// The edge reads the body when the guest does, so no 100 is needed. After a guest's 100, ReverseProxy would clear the headers that
	// the edge has set on the answer.
	header.Del("Expect")
	header.Set("X-Forwarded-For", v.client.String())
	header.Set("X-Forwarded-Host", pr.In.Host)
	if scheme := pr.In.Header.Get("X-Forwarded-Proto"); scheme == "https" || scheme == "http" {
		header.Set("X-Forwarded-Proto", scheme) // the ingress ends TLS and sets this header; links depend on it, but no permission does
	}
	header.Set("X-Request-Id", v.id)
	header.Set(function.HeaderClient, v.client.String())
	if v.newCookie != "" {
		replaceCookie(header, v.cookieName, v.newCookie)
	}
	if v.assignment != "" {
		header.Set(experiment.Header, v.assignment)
		header["Baggage"] = append(header["Baggage"], v.arm.baggage...)
	}
	g.edge.signer.Sign(out, time.Now())
}

// modify sets the edge's headers on the answer and watches its body. An answer that switches protocols is counted now, because it
// has no end.
func (g *guests) modify(answer *http.Response) error {
	v := visitOf(answer.Request)
	x := function.Current(answer.Request.Context())
	function.StripAssertions(answer.Header)
	for _, own := range []string{"X-Request-Id", headerExperiment, headerVariant} {
		answer.Header.Del(own)
	}
	if v.revision != "" {
		answer.Header.Set(headerRevision, v.revision)
	}
	if v.newCookie != "" {
		answer.Header.Add("Set-Cookie", setCookieHeader(v.cookieName, v.newCookie))
		answer.Header.Add("Cache-Control", "private") // otherwise a shared cache could give one visitor's cookie to others
	}
	own := x.Header() // set again, because an earlier 1xx answer, such as 103, removes them
	own.Set("X-Request-Id", v.id)
	if v.arm != nil && v.assignment != "" {
		v.arm.setHeaders(own)
	}
	g.expose(v, x)
	if answer.StatusCode == http.StatusSwitchingProtocols {
		x.Switched()
		g.countAnswer(v, x, answer.StatusCode, false)
		v.counted = true
		return nil // its body is the connection, which must not be wrapped
	}
	answer.Body = watched{answer.Body, x}
	return nil
}

// answerFailure answers if the guest did not.
func (g *guests) answerFailure(w http.ResponseWriter, r *http.Request, err error) {
	g.expose(visitOf(r), function.Current(r.Context()))
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		w.WriteHeader(statusClientClosed)
		return
	}
	function.Fail(w, r, problem.Unavailable.Detail("the service that answers this is not available: try again").Because(err))
}

// expose notes that a request has exposed its unit, whatever the answer. So an arm that fails does not lose units.
func (g *guests) expose(v *visit, x *function.Exchange) {
	if v.exposed || v.experiment == nil || !x.Assignment.Exposes {
		return
	}
	v.exposed = true
	served := experiment.NotServed
	if v.toArm {
		served = string(x.Assignment.Arm)
	}
	g.edge.outcomes.expose(v.experiment.Salt, experiment.Exposure{
		Experiment: v.experiment.Name, UserID: x.Caller.UserID, Unit: x.Assignment.Unit, Assigned: string(x.Assignment.Arm), Served: served,
		Revision: v.revision, Generation: v.experiment.Generation, At: v.begun.UTC(),
	})
}

// countBaseline counts an answer of the untouched Service for the baseline, under the arm that its caller will have.
func (g *guests) countBaseline(v *visit, exp *routedExperiment, from caller, x *function.Exchange) {
	status, failed := outcomeOf(x)
	if status == statusClientClosed {
		return
	}
	if arm, id, step := exp.foresee(from); arm != "" {
		g.edge.outcomes.countBaseline(exp, step, outcome{arm: arm, unit: id, failed: failed, waited: v.waited})
	}
}

// countAtEnd counts an answer when it has ended, unless it has been counted before.
func (g *guests) countAtEnd(v *visit, x *function.Exchange) {
	if v.counted {
		return
	}
	status, failed := outcomeOf(x)
	if status != statusClientClosed {
		g.countAnswer(v, x, status, failed)
	}
}

// countAnswer counts an answer for the arm that gave it, or that failed to give it.
func (g *guests) countAnswer(v *visit, x *function.Exchange, status int, failed bool) {
	exp, now := v.experiment, time.Now()
	if exp == nil {
		return
	}
	if !v.toArm && v.armErr == nil {
		exp.tripwire.addUntouchedAnswer(v.inExperiment, failed, now)
		return
	}
	failed = failed || v.armErr != nil
	arm, id := v.arm.name, v.id
	who := recipient{x.Caller.UserID, x.Client, ""}
	if x.Assignment.Unit != "" {
		id = x.Assignment.Unit
		if exp.Identity.Foreign() && v.newCookie == "" { // a client without cookies is a new visitor each time, so its address identifies it
			who.unit = id
		}
	}
	if !exp.Phase.Over() { // a promotion moves units between the arms, so a comparison would mean nothing
		g.edge.outcomes.count(exp, outcome{arm: arm, unit: id, failed: failed, waited: v.waited, guest: true})
	}
	g.edge.experiments.Answered(exp.Name, string(arm), status, now.Sub(v.begun))
	exp.tripwire.addArmAnswer(arm, who, failed, now)
}

// guestFallback sends requests to guests. If a request to an arm cannot connect, guestFallback sends it to the untouched Service,
// because the arm cannot have seen it. It repeats no other request, because only the guest knows what may be done twice.
type guestFallback struct{ http.RoundTripper }

// errGuestLate is the cause of the cancellation if a guest takes longer than its timeout.
var errGuestLate = errors.New("no answer within its timeoutSeconds")

func (s guestFallback) RoundTrip(r *http.Request) (*http.Response, error) {
	v := visitOf(r)
	sent := time.Now()
	defer func() { v.waited = time.Since(sent) }()
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(time.Until(v.until), func() { cancel(errGuestLate) })
	defer timer.Stop()
	r = r.WithContext(ctx)
	body := r.Body
	if v.toArm && body != nil {
		r.Body = unclosed{body} // a dial that fails reads nothing from the body
	}
	answer, err := s.RoundTripper.RoundTrip(r)
	if v.toArm && dialFailed(err) && ctx.Err() == nil {
		v.toArm, v.armErr, v.revision = false, err, v.untouchedRevision
		again := r.Clone(ctx)
		again.Body = body
		again.URL.Host, again.Host = v.untouched.Host, v.untouched.Host
		answer, err = s.RoundTripper.RoundTrip(again)
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errGuestLate) {
			err = fmt.Errorf("%s: %w", r.URL.Host, errGuestLate)
		}
		cancel(nil)
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols { // its body is the connection, which ends with the request
		answer.Body = closeHook{answer.Body, func() { cancel(nil) }}
	}
	return answer, nil
}

// unclosed is a body that the transport cannot close, so that it can be sent again.
type unclosed struct{ io.Reader }

func (unclosed) Close() error { return nil }
