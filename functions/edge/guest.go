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

// guest is what the edge knows of a Service that is not Warble's. What it answers is passed on as it is.
type guest struct {
	hosts    []string      // all paths of these are the guest's, but the edge's own probes
	timeout  time.Duration // for the headers of an answer; how long the rest takes, Knative bounds
	limit    limit         // of one caller; zero for none
	revision string        // that has all of the traffic; empty where several share it
}

// defaultSeconds is the timeout of a Service that has none, as Knative sets it.
const defaultSeconds = 300

// guestEntry is a guest in the routes file.
type guestEntry struct {
	Hosts          []string `json:"hosts"`
	TimeoutSeconds int      `json:"timeoutSeconds"`
	RateLimit      string   `json:"rateLimit"`
}

// isHost tells whether name is a host in small letters, without a port.
func isHost(name string) bool {
	return name != "" && len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && name[0] != '.' && name[0] != '-'
}

// guest returns the guest that a request is for, and by which route or host it was found; nil where it is for none.
func (r *routes) guest(request *http.Request) (*target, string) {
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

// guests passes requests of guests on, and what they answer.
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
		Transport:      t.Transport(guestShelter{newUpstream(r)}),
		BufferPool:     newBufferPool(),
		ModifyResponse: g.modify,
		ErrorHandler:   g.failed,
		ErrorLog:       log.New(io.Discard, "", 0), // failed and watched tell the access line
	}
	return g
}

// divide shares the limits of guests among so many replicas.
func (g *guests) divide(replicas int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.replicas = replicas
	for _, l := range g.limiters {
		l.divide(replicas)
	}
}

// limiter is that of a guest that asks for a limit. A changed limit counts anew.
func (g *guests) limiter(to *target) *limiter {
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

// visit is what is known of a request to a guest, beside its passage.
type visit struct {
	passage

	trial    *trial
	revision string    // that answers, as far as the edge knows
	base     string    // the untouched one, as far as the edge knows
	setting  string    // the cookie of a visitor who has none yet
	asked    string    // its name
	begun    time.Time // when the request came
	counted  bool      // its answer has been counted before its end, for it has none: the connection is the guest's now
	exposed  bool      // its user's exposure has been noted
}

type visitKey struct{}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) } // serve put it there

// serve passes one request on.
func (g *guests) serve(w http.ResponseWriter, r *http.Request, x *function.Exchange, to *target) {
	if to.guest.limit != (limit{}) {
		if wait := g.limiter(to).take(w.Header(), read, 0, x.Client); wait > 0 {
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
	v := &visit{begun: time.Now(), revision: to.guest.revision, base: to.guest.revision}
	v.passage = passage{name: to.name, url: to.url, untouched: to.url, client: x.Client, id: x.RequestID, until: v.begun.Add(to.guest.timeout)}
	t := to.trial
	if tag := g.edge.routes.tag(r); to.tags[tag].url != nil {
		v.url, v.tag, v.revision = to.tags[tag].url, tag, to.tags[tag].revision
	} else if t != nil {
		who := g.identify(r, t, v, x)
		if len(t.Baseline) > 0 {
			defer func() { g.foreseen(v, t, who, x) }()
		} else {
			v.trial = t
			g.assign(v, t, who, x)
			defer func() { g.answered(v, x) }() // also where the answer breaks off, which panics
		}
	}
	ctx := context.WithValue(context.WithValue(r.Context(), passageKey{}, &v.passage), visitKey{}, v)
	g.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// unit is who a request to a guest is of, by the identity of its experiment; the zero unit is nobody.
type unit struct {
	id, community string // of somebody who is no user of Warble's
	user          int64  // else Warble's
}

// identify finds out who calls. A visitor without a cookie that holds gets another.
func (g *guests) identify(r *http.Request, t *trial, v *visit, x *function.Exchange) unit {
	switch t.Identity.Kind {
	case experiment.ByVisitor:
		v.asked = t.Identity.Visitors()
		id, fresh := g.visitors.of(r, v.asked, v.begun)
		v.setting = fresh
		return unit{id: id}
	case experiment.ByIssuer:
		bearer, ok := function.Bearer(r)
		if !ok {
			return unit{}
		}
		return g.issuers.verify(r.Context(), t.Identity.Issuer, bearer, v.begun)
	}
	if bearer, ok := function.Bearer(r); ok {
		if claims, err := g.edge.tokens.Verify(bearer); err == nil {
			x.Caller = claims
			return unit{user: claims.UserID, community: claims.Community}
		}
	}
	return unit{}
}

// assign sends the request to the arm of its unit. While the experiment is suspended the untouched Service gets it, and is told
// the same.
func (g *guests) assign(v *visit, t *trial, who unit, x *function.Exchange) {
	off := t.tripwire.off()
	if t.Unit == experiment.Request {
		if v.taken = t.draws(); v.taken && !off {
			v.arm(t.side(t.drawn()))
		}
		return
	}
	arm, id := experiment.Arm(""), who.id
	if t.Identity.Foreign() {
		arm, _ = t.PlaceForeign(who.id, who.community)
	} else {
		arm, id = t.Assign(who.user, who.community)
	}
	if arm == "" {
		return
	}
	v.side, v.taken = t.side(arm), true
	x.Assignment = experiment.Assignment{Experiment: t.Name, Arm: arm, Kind: t.Unit, Unit: id, Generation: t.Generation, Exposes: t.exposes}
	v.assignment = x.Assignment.String()
	if !off {
		v.arm(v.side)
	}
}

// arm leads the request to an arm.
func (v *visit) arm(s *side) {
	v.side, v.url, v.armed, v.revision = s, s.url, true, s.revision
}

// rewrite makes the request that the guest gets: the client's, without what the edge alone may assert.
func (g *guests) rewrite(pr *httputil.ProxyRequest) {
	v := visitOf(pr.In)
	out, header := pr.Out, pr.Out.Header
	out.URL.Scheme, out.URL.Host = v.url.Scheme, v.url.Host
	out.Host = v.url.Host
	out.URL.RawQuery = pr.In.URL.RawQuery // as it came
	function.StripAssertions(header)
	header.Del("Knative-Serving-Tag") // Knative would take it for a choice of revision
	header.Del("Expect")              // the edge asks for the body when the guest reads it; at a 100, ReverseProxy clears the headers of its own answer
	header.Set("X-Forwarded-For", v.client.String())
	header.Set("X-Forwarded-Host", pr.In.Host)
	if scheme := pr.In.Header.Get("X-Forwarded-Proto"); scheme == "https" || scheme == "http" {
		header.Set("X-Forwarded-Proto", scheme) // the ingress says it, which ends TLS; links depend on it, and no right does
	}
	header.Set("X-Request-Id", v.id)
	header.Set(function.HeaderClient, v.client.String())
	if v.setting != "" {
		setCookie(header, v.asked, v.setting)
	}
	if v.assignment != "" {
		header.Set(experiment.Header, v.assignment)
		header["Baggage"] = append(header["Baggage"], v.side.baggage...)
	}
	g.edge.signer.Sign(out, time.Now())
}

// modify sets what the edge says of the answer, counts it if it has no end, and watches its body.
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
	if v.setting != "" {
		answer.Header.Add("Set-Cookie", cookieOf(v.asked, v.setting))
		answer.Header.Add("Cache-Control", "private") // or a shared cache would give one visitor's cookie to others
	}
	own := x.Header() // an earlier answer of 1xx, as 103, has taken away what was there
	own.Set("X-Request-Id", v.id)
	if v.side != nil && v.assignment != "" {
		v.side.describe(own)
	}
	g.expose(v, x)
	if answer.StatusCode == http.StatusSwitchingProtocols {
		x.Switched()
		g.count(v, x, answer.StatusCode, false)
		v.counted = true
		return nil // its body is the connection, which nothing may wrap
	}
	answer.Body = watched{answer.Body, x}
	return nil
}

// failed answers where the guest did not.
func (g *guests) failed(w http.ResponseWriter, r *http.Request, err error) {
	g.expose(visitOf(r), function.Current(r.Context()))
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		w.WriteHeader(statusClientClosed)
		return
	}
	function.Fail(w, r, problem.Unavailable.Detail("the service that answers this is not available: try again").Because(err))
}

// expose notes that a request has exposed its unit, whatever became of it: an arm that fails loses no units by that.
func (g *guests) expose(v *visit, x *function.Exchange) {
	if v.exposed || v.trial == nil || !x.Assignment.Exposes {
		return
	}
	v.exposed = true
	served := experiment.NotServed
	revision := v.revision
	if v.armed {
		served = string(x.Assignment.Arm)
	}
	g.edge.outcomes.expose(v.trial.Salt, experiment.Exposure{
		Experiment: v.trial.Name, UserID: x.Caller.UserID, Unit: x.Assignment.Unit, Assigned: string(x.Assignment.Arm), Served: served,
		Revision: revision, Generation: v.trial.Generation, At: v.begun.UTC(),
	})
}

// foreseen counts an answer of the untouched Service for the baseline, by the arm that its caller will have.
func (g *guests) foreseen(v *visit, t *trial, who unit, x *function.Exchange) {
	status, failed := outcomeOf(x)
	if status == statusClientClosed {
		return
	}
	arm, id, step := experiment.Arm(""), who.id, 0
	if t.Identity.Foreign() {
		arm, step = t.ForeseeForeign(who.id, who.community)
	} else {
		arm, id, step = t.Foresee(who.user, who.community)
	}
	if arm != "" {
		g.edge.outcomes.foresee(t, step, outcome{arm: arm, unit: id, failed: failed, waited: v.waited})
	}
}

// answered counts an answer at its end.
func (g *guests) answered(v *visit, x *function.Exchange) {
	if v.counted {
		return
	}
	status, failed := outcomeOf(x)
	if status != statusClientClosed {
		g.count(v, x, status, failed)
	}
}

// count counts an answer for the arm that it is of, or that has failed to give it.
func (g *guests) count(v *visit, x *function.Exchange, status int, failed bool) {
	t, now := v.trial, time.Now()
	if t == nil {
		return
	}
	if !v.armed && v.fell == nil {
		t.tripwire.untouched(v.taken, failed, now)
		return
	}
	failed = failed || v.fell != nil
	arm, id := v.side.arm, v.id
	who := who{x.Caller.UserID, x.Client, ""}
	if x.Assignment.Unit != "" {
		id = x.Assignment.Unit
		if t.Identity.Foreign() && v.setting == "" { // one that keeps no cookie is another visitor each time, and of one address
			who.unit = id
		}
	}
	if !t.Phase.Over() { // a promotion moves units between the arms: what they meet then compares nothing
		g.edge.outcomes.count(t, outcome{arm: arm, unit: id, failed: failed, waited: v.waited, guest: true})
	}
	g.edge.experiments.Answered(t.Name, string(arm), status, now.Sub(v.begun))
	t.tripwire.answered(arm, who, failed, now)
}

// guestShelter sends requests to guests. One to an arm whose dial fails is sent to the untouched Service, as nothing of it can have
// been seen; nothing else is, because only the guest knows what may be done twice.
type guestShelter struct{ http.RoundTripper }

// errGuestLate is why a request to a guest is given up.
var errGuestLate = errors.New("no answer within its timeoutSeconds")

func (s guestShelter) RoundTrip(r *http.Request) (*http.Response, error) {
	v := visitOf(r)
	sent := time.Now()
	defer func() { v.waited = time.Since(sent) }()
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(time.Until(v.until), func() { cancel(errGuestLate) })
	defer timer.Stop()
	r = r.WithContext(ctx)
	body := r.Body
	if v.armed && body != nil {
		r.Body = unclosed{body} // a dial that fails has read nothing of it
	}
	answer, err := s.RoundTripper.RoundTrip(r)
	if v.armed && refused(err) && ctx.Err() == nil {
		v.armed, v.fell, v.revision = false, err, v.base
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
	if answer.StatusCode != http.StatusSwitchingProtocols { // its body is the connection, and ends with the request
		answer.Body = ending{answer.Body, func() { cancel(nil) }}
	}
	return answer, nil
}

// unclosed is a body that may be sent once more.
type unclosed struct{ io.Reader }

func (unclosed) Close() error { return nil }
