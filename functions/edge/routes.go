package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/manifest"
)

// target is a function or a guest that receives requests.
type target struct {
	http.Handler // never called: only makes a target a value of ServeMux

	name       string
	url        *url.URL
	tags       map[string]tagged
	starting   bool // nothing listens at url yet, but the function is about to
	routes     []string
	streams    map[string]time.Duration // the time limit of an answer, for routes with their own limit
	guest      *guest                   // nil for a function
	experiment *routedExperiment        // the experiment in force; nil if there is none. newTable sets it
}

// tagged is the address of a revision with a tag.
type tagged struct {
	url      *url.URL
	revision string // its name; empty without revisions
}

// view is the input of a table. Earlier experiments take precedence.
type view struct {
	targets     []*target
	experiments []experiment.Rules
	ownTags     map[string]string // tags of the edge's own revisions, by the first label of their hosts
}

// table has all targets and experiments in force, from one view. It never changes: a new view makes a new table. Each request uses
// one table.
type table struct {
	mux     *http.ServeMux
	targets map[string]*target          // by name
	owners  map[string]string           // route -> name
	ownTags map[string]string           // see view
	hosts   map[string]*target          // guests, by host
	guests  bool                        // whether a guest has a route
	phases  map[string]experiment.Phase // of all experiments, by name
}

// subject is the object that a refusal is about.
type subject struct{ kind, name string }

const (
	kindService    = "Service"
	kindExperiment = "Experiment"
)

// refusal says what is wrong with one Service or one Experiment.
type refusal struct {
	error
	subject
}

// refusals returns the refusals that newTable joined.
func refusals(err error) (all []*refusal) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			all = append(all, err.(*refusal)) // newTable joins only refusals
		}
	}
	return all
}

// newTable makes a table of a view. It reports and leaves out a route that is not valid or that two targets claim, and an experiment
// that cannot be in force. A claimed route stays with its owner in the previous table, if that target still claims it.
func newTable(v view, before *table, wires *tripwires) (*table, error) {
	b := &tableBuilder{table: &table{mux: http.NewServeMux(), targets: make(map[string]*target), owners: make(map[string]string), ownTags: v.ownTags, hosts: make(map[string]*target), phases: make(map[string]experiment.Phase)}}
	for _, e := range v.experiments {
		b.phases[e.Name] = e.Phase
	}
	for _, to := range v.targets {
		own := *to // a copy, because the previous table may have the same target with another experiment
		b.targets[to.name] = &own
	}
	b.addExperiments(v.experiments, wires)
	for _, incumbents := range []bool{true, false} {
		for _, to := range v.targets {
			b.addClaims(b.targets[to.name], func(claim string) bool { return before.owns(to.name, claim) == incumbents })
		}
	}
	return b.table, errors.Join(b.refused...)
}

// owns reports whether a target has a route, or a host as hostClaim writes it.
func (t *table) owns(name, claim string) bool { return t != nil && t.owners[claim] == name }

// hostClaim returns the key of a host in owners. It is never a route, because of the space.
func hostClaim(host string) string { return "host " + host }

// tableBuilder fills a table and collects what it refuses.
type tableBuilder struct {
	*table
	refused []error // each a *refusal
}

func (b *tableBuilder) refuse(kind, name string, err error) {
	b.refused = append(b.refused, &refusal{err, subject{kind, name}})
}

// addExperiments gives each target its experiment. Only a guest can have an experiment whose identity is foreign to Warble.
func (b *tableBuilder) addExperiments(all []experiment.Rules, wires *tripwires) {
	routed, refused := routeExperiments(all, wires)
	b.refused = append(b.refused, refused...)
	for name, to := range b.targets {
		exp := routed[name]
		if exp != nil && exp.Identity.Foreign() && to.guest == nil {
			b.refuse(kindExperiment, exp.Name, fmt.Errorf("%s: the identity %s is only for guests, and %s is not a guest: expected the label %s", exp.Name, exp.Identity.Kind, name, manifest.Guest))
			exp = nil
		}
		to.experiment = exp
	}
}

// addClaims adds those routes and hosts of a target for which selects returns true.
func (b *tableBuilder) addClaims(to *target, selects func(claim string) bool) {
	for _, route := range to.routes {
		if selects(route) {
			b.addRoute(to, route)
		}
	}
	if to.guest == nil {
		return
	}
	for _, host := range to.guest.hosts {
		if selects(hostClaim(host)) {
			b.addHost(to, host)
		}
	}
}

func (b *tableBuilder) addRoute(to *target, route string) {
	if owner, taken := b.owners[route]; taken {
		if owner != to.name {
			b.refuse(kindService, to.name, fmt.Errorf("%s claims %s, which stays with %s", to.name, route, owner))
		}
		return
	}
	if err := handle(b.mux, route, to); err != nil {
		b.refuse(kindService, to.name, fmt.Errorf("%s: %w", to.name, err))
		return
	}
	b.owners[route] = to.name
	b.guests = b.guests || to.guest != nil
}

func (b *tableBuilder) addHost(to *target, host string) {
	claim := hostClaim(host)
	if owner, taken := b.owners[claim]; taken && owner != to.name {
		b.refuse(kindService, to.name, fmt.Errorf("%s claims the host %s, which stays with %s", to.name, host, owner))
		return
	}
	b.owners[claim], b.hosts[host] = to.name, to
}

// handle registers a route. It returns an error if ServeMux panics because of the pattern.
func handle(mux *http.ServeMux, route string, to *target) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("route %q: %v", route, reason)
		}
	}()
	if route == "" || route[0] != '/' {
		return fmt.Errorf("route %q: expected a path", route)
	}
	mux.Handle(route, to)
	return nil
}

// routes has the present table. It comes from a file, or in a cluster from a watch. Until the watch has seen the cluster, the file
// is used if there is one.
type routes struct {
	file            string // ROUTES_FILE
	cluster         bool   // whether there is a watch; then the file is optional
	log             zerolog.Logger
	tripwires       tripwires // of the experiments in force
	issuers         issuers   // of the experiments in force
	current         atomic.Pointer[table]
	ignoreFileUntil time.Time // until then the file is ignored, because the watch will soon see the cluster
	last            []byte    // the file's last text; nil before the first read. Only refresh uses it
	unreadable      bool      // the file could not be read, and this was logged

	mu      sync.Mutex // held while a table is replaced
	watched bool       // whether the present table is from the cluster
}

// firstView is how long a new edge waits for the cluster before it uses the file. The file has no experiments, so users of an
// experiment would be untouched meanwhile.
const firstView = 5 * time.Second

func newRoutes(e *env.Reader, log zerolog.Logger) *routes {
	r := &routes{cluster: inCluster(e), log: log}
	if r.cluster {
		r.file = e.String("ROUTES_FILE", "")
		r.ignoreFileUntil = time.Now().Add(firstView)
	} else {
		r.file = e.Required("ROUTES_FILE", "the path of a JSON file with functions and their routes")
	}
	return r
}

// Ready returns an error until there is a table.
func (r *routes) Ready(context.Context) error {
	if r.current.Load() != nil {
		return nil
	}
	if r.cluster {
		return fmt.Errorf("no routes: the Knative Services of this namespace have not been seen, and ROUTES_FILE %q has not been read", r.file)
	}
	return fmt.Errorf("ROUTES_FILE: %s has not been read: expected functions and their routes in JSON", r.file)
}

// Close does nothing: refresh ends with the function.
func (r *routes) Close() {}

// match returns the target of a request, and the route that matched; nil if there is none.
func (r *routes) match(request *http.Request) (*target, string) {
	t := r.current.Load()
	if t == nil || !function.CleanPath(request.URL.Path) || request.Method == http.MethodConnect {
		return nil, ""
	}
	handler, pattern := t.mux.Handler(request)
	to, _ := handler.(*target) // without a match, ServeMux returns its own handler
	return to, pattern
}

// tagFor returns the tag of the edge's own revision to which a request was sent, by its host; empty for the public host. The tag is
// no privilege: anybody who can send such a host to the ingress reaches that revision anyway.
func (r *routes) tagFor(request *http.Request) string {
	label, _, _ := strings.Cut(request.Host, ".")
	return r.current.Load().ownTags[label]
}

// locate returns the present address of a function, or of its candidate if tag is not empty. starting says that the function does
// not listen yet, but is about to.
func (r *routes) locate(name, tag string) (url *url.URL, starting bool) {
	to := r.current.Load().targets[name]
	switch {
	case to == nil:
		return nil, false
	case tag != "":
		return to.tags[tag].url, to.starting
	}
	return to.url, to.starting
}

// refresh reads the file if it has changed. If the file is broken or missing, nothing changes, and refresh returns an error once.
func (r *routes) refresh(context.Context) error {
	if time.Now().Before(r.ignoreFileUntil) {
		return nil
	}
	text, err := os.ReadFile(r.file)
	if r.cluster && errors.Is(err, fs.ErrNotExist) {
		return nil // Ready reports that the cluster has not been seen
	}
	logged := r.unreadable
	r.unreadable = err != nil
	if err != nil && logged || err == nil && r.last != nil && bytes.Equal(text, r.last) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ROUTES_FILE: %w", err)
	}
	r.last = text
	v, err := parseRoutes(text)
	if err != nil {
		return fmt.Errorf("ROUTES_FILE %s: %w", r.file, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched {
		return nil // the cluster takes precedence
	}
	if err := r.replace(v); err != nil {
		r.log.Error().Err(err).Msg("routes or experiments refused")
	}
	return nil
}

// replace puts a new table in force. It returns what the table refused. r.mu must be held.
func (r *routes) replace(v view) error {
	t, err := newTable(v, r.current.Load(), &r.tripwires)
	r.issuers.keepOnly(v.experiments)
	r.current.Store(t)
	return err
}

func parseRoutes(text []byte) (v view, err error) {
	var file struct {
		Functions []struct {
			Name     string            `json:"name"`
			URL      string            `json:"url"`
			Tags     map[string]string `json:"tags"`
			Starting bool              `json:"starting"`
			Routes   []string          `json:"routes"`
			Streams  map[string]int    `json:"streams"`
			Guest    *guestSettings    `json:"guest"`
		} `json:"functions"`
		Experiments []experiment.Rules `json:"experiments"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&file)
	if err == nil && file.Functions == nil {
		err = errors.New("functions is missing")
	}
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("text follows the JSON object")
		}
	}
	if err != nil {
		return view{}, fmt.Errorf("expected {\"functions\": [{name, url, tags, starting, routes, streams, guest}], \"experiments\": []}: %w", err)
	}
	for _, f := range file.Functions {
		u, err := parseAddress(f.URL)
		if err != nil || f.Name == "" {
			return view{}, fmt.Errorf("function %q at %q: expected a name and a URL such as http://host:port", f.Name, f.URL)
		}
		if slices.ContainsFunc(v.targets, func(t *target) bool { return t.name == f.Name }) {
			return view{}, fmt.Errorf("function %q appears twice", f.Name)
		}
		to := &target{name: f.Name, url: u, tags: make(map[string]tagged), starting: f.Starting, routes: f.Routes, streams: streamsOf(f.Streams)}
		if f.Guest != nil {
			to.guest = &guest{hosts: f.Guest.Hosts, timeout: time.Duration(cmp.Or(f.Guest.TimeoutSeconds, defaultSeconds)) * time.Second}
			if to.guest.limit, err = parseLimit(f.Guest.RateLimit); err != nil {
				return view{}, fmt.Errorf("function %q: rateLimit: %w", f.Name, err)
			}
		}
		for tag, address := range f.Tags {
			if u, err = parseAddress(address); err != nil || tag == "" {
				return view{}, fmt.Errorf("function %q, tag %q at %q: expected a name and a URL such as http://host:port", f.Name, tag, address)
			}
			to.tags[tag] = tagged{url: u}
		}
		v.targets = append(v.targets, to)
	}
	v.experiments = file.Experiments
	return v, nil
}

func streamsOf(seconds map[string]int) map[string]time.Duration {
	streams := make(map[string]time.Duration, len(seconds))
	for route, n := range seconds {
		streams[route] = time.Duration(n) * time.Second
	}
	return streams
}

func parseAddress(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && (u.Hostname() == "" || u.String() != "http://"+u.Host) {
		err = errors.New("not http://host:port")
	}
	return u, err
}
