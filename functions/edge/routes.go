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

// target is a function that requests can be sent to.
type target struct {
	http.Handler // never called: ServeMux wants one, and finds its target by it

	name     string
	url      *url.URL
	tags     map[string]tagged
	starting bool // nothing listens there yet, and something will
	routes   []string
	streams  map[string]time.Duration // of the routes whose answers have their own time: how long one may take
	guest    *guest                   // nil for a function
	trial    *trial                   // the experiment that is in force here; nil where there is none. newTable sets it
}

// tagged is where a revision with a tag listens for itself.
type tagged struct {
	url      *url.URL
	revision string // its name; empty where there are none
}

// view is what a table is made of. Its experiments are in the order in which they have a say.
type view struct {
	targets     []*target
	experiments []experiment.Rules
	ownTags     map[string]string // of the edge's own revisions that have one, by the first label of its host
}

// table is one view of where everything is and of the experiments in force. It never changes: a new view is a new table,
// and a request sees one.
type table struct {
	mux     *http.ServeMux
	targets map[string]*target          // by name
	owners  map[string]string           // route -> name
	ownTags map[string]string           // as a view's
	hosts   map[string]*target          // of guests, by host
	guests  bool                        // whether a guest has a route
	phases  map[string]experiment.Phase // of all experiments there are, by name
}

// subject is what a refusal is about.
type subject struct{ kind, name string }

const (
	kindService    = "Service"
	kindExperiment = "Experiment"
)

// refusal is what is wrong with what one target, or one experiment, asks for.
type refusal struct {
	error
	subject
}

// refusals takes apart what newTable returns.
func refusals(err error) (all []*refusal) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			all = append(all, err.(*refusal)) // newTable joins nothing else
		}
	}
	return all
}

// newTable lays the targets' routes out. A route that two targets claim, or that is none, is reported and left out; where
// the table before had an owner for it that still claims it, it stays with that one. Experiments that cannot be in force
// are reported and left out too.
func newTable(v view, before *table, wires *tripwires) (*table, error) {
	t := &table{mux: http.NewServeMux(), targets: make(map[string]*target), owners: make(map[string]string), ownTags: v.ownTags, hosts: make(map[string]*target), phases: make(map[string]experiment.Phase)}
	for _, e := range v.experiments {
		t.phases[e.Name] = e.Phase
	}
	for _, to := range v.targets {
		own := *to // the table before may have the same target, with another trial
		t.targets[to.name] = &own
	}
	trials, mistakes := newTrials(v.experiments, wires)
	for name, to := range t.targets {
		if to.trial = trials[name]; to.trial != nil && to.trial.Identity.Foreign() && to.guest == nil {
			to.trial = nil
			mistakes = append(mistakes, &refusal{fmt.Errorf("%s: the identity %s is of guests, and %s is none: expected the label %s", trials[name].Name, trials[name].Identity.Kind, name, manifest.Guest), subject{kindExperiment, trials[name].Name}})
		}
	}
	claim := func(to *target, route string) {
		if owner, taken := t.owners[route]; taken {
			if owner != to.name {
				mistakes = append(mistakes, &refusal{fmt.Errorf("%s claims %s, which is %s's and stays so", to.name, route, owner), subject{kindService, to.name}})
			}
			return
		}
		if err := handle(t.mux, route, to); err != nil {
			mistakes = append(mistakes, &refusal{fmt.Errorf("%s: %w", to.name, err), subject{kindService, to.name}})
			return
		}
		t.owners[route] = to.name
		t.guests = t.guests || to.guest != nil
	}
	receive := func(to *target, host string) {
		key := "host " + host // no route has a space in it
		if owner, taken := t.owners[key]; taken && owner != to.name {
			mistakes = append(mistakes, &refusal{fmt.Errorf("%s claims the host %s, which is %s's and stays so", to.name, host, owner), subject{kindService, to.name}})
			return
		}
		t.owners[key], t.hosts[host] = to.name, to
	}
	for _, incumbents := range []bool{true, false} {
		for _, to := range v.targets {
			for _, route := range to.routes {
				if (before != nil && before.owners[route] == to.name) == incumbents {
					claim(t.targets[to.name], route)
				}
			}
			if to.guest == nil {
				continue
			}
			for _, host := range to.guest.hosts {
				if (before != nil && before.owners["host "+host] == to.name) == incumbents {
					receive(t.targets[to.name], host)
				}
			}
		}
	}
	return t, errors.Join(mistakes...)
}

// handle makes an error of the panic by which ServeMux refuses a pattern.
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

// routes is the present table. It comes from a file, or in a cluster from what a watch sees there, and until it has seen
// anything, from the file, if there is one.
type routes struct {
	file    string // ROUTES_FILE
	cluster bool   // whether there is a watch, so that the file need not exist
	log     zerolog.Logger
	wires   tripwires // of the experiments in force
	issuers issuers   // that these name
	current atomic.Pointer[table]
	notYet  time.Time // until then the file does not count, for the watch is about to see the cluster
	last    []byte    // the file as it was last read, nil before the first time; only refresh touches it
	missing bool      // it could not be read, which was said

	mu      sync.Mutex // held while one table replaces another
	watched bool       // the present table is from the cluster
}

// firstView is how long an edge that starts waits for the cluster before it falls back on the file, which knows no
// experiments: who is in one would have untouched traffic meanwhile.
const firstView = 5 * time.Second

func newRoutes(e *env.Reader, log zerolog.Logger) *routes {
	r := &routes{cluster: inCluster(e), log: log}
	if r.cluster {
		r.file = e.String("ROUTES_FILE", "")
		r.notYet = time.Now().Add(firstView)
	} else {
		r.file = e.Required("ROUTES_FILE", "the path of a JSON file of functions and their routes")
	}
	return r
}

// Ready waits for the first table.
func (r *routes) Ready(context.Context) error {
	if r.current.Load() != nil {
		return nil
	}
	if r.cluster {
		return fmt.Errorf("no routes: neither have the Knative Services of this namespace been seen, nor has ROUTES_FILE %q been read", r.file)
	}
	return fmt.Errorf("ROUTES_FILE: %s has not been read: expected functions and their routes in JSON", r.file)
}

// Close does nothing: what reads the file ends with the function.
func (r *routes) Close() {}

// match returns the target of a request and the route by which it was found; nil where there is none.
func (r *routes) match(request *http.Request) (*target, string) {
	t := r.current.Load()
	if t == nil || !function.CleanPath(request.URL.Path) || request.Method == http.MethodConnect {
		return nil, ""
	}
	handler, pattern := t.mux.Handler(request)
	to, _ := handler.(*target) // ServeMux's own handler where nothing matches
	return to, pattern
}

// tag returns the tag of the edge's own by whose host a request came; empty for the host that everybody uses. Whoever can
// send such a host to the ingress is led to the revision with the tag anyway, so it is no privilege.
func (r *routes) tag(request *http.Request) string {
	label, _, _ := strings.Cut(request.Host, ".")
	return r.current.Load().ownTags[label]
}

// starting returns where the named function is now, or where tag is not empty, its candidate of that tag, and whether it is
// about to listen.
func (r *routes) starting(name, tag string) (url *url.URL, starting bool) {
	to := r.current.Load().targets[name]
	switch {
	case to == nil:
		return nil, false
	case tag != "":
		return to.tags[tag].url, to.starting
	}
	return to.url, to.starting
}

// refresh reads the file where it has changed. A file that is broken or missing changes nothing and is an error, once.
func (r *routes) refresh(context.Context) error {
	if time.Now().Before(r.notYet) {
		return nil
	}
	text, err := os.ReadFile(r.file)
	if r.cluster && errors.Is(err, fs.ErrNotExist) {
		return nil // Ready waits for the cluster
	}
	said := r.missing
	r.missing = err != nil
	if err != nil && said || err == nil && r.last != nil && bytes.Equal(text, r.last) {
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
		return nil // the cluster knows better
	}
	if err := r.replace(v); err != nil {
		r.log.Error().Err(err).Msg("routes or experiments refused")
	}
	return nil
}

// replace puts a new table in force, and says what is not in it. r.mu is held.
func (r *routes) replace(v view) error {
	t, err := newTable(v, r.current.Load(), &r.wires)
	r.issuers.keep(v.experiments)
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
			Guest    *guestEntry       `json:"guest"`
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
			err = errors.New("something follows it")
		}
	}
	if err != nil {
		return view{}, fmt.Errorf("expected {\"functions\": [{name, url, tags, starting, routes, streams, guest}], \"experiments\": []}: %w", err)
	}
	for _, f := range file.Functions {
		u, err := parseAddress(f.URL)
		if err != nil || f.Name == "" {
			return view{}, fmt.Errorf("function %q at %q: expected a name and a URL as http://host:port", f.Name, f.URL)
		}
		if slices.ContainsFunc(v.targets, func(t *target) bool { return t.name == f.Name }) {
			return view{}, fmt.Errorf("function %q is there twice", f.Name)
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
				return view{}, fmt.Errorf("function %q, tag %q at %q: expected a name and a URL as http://host:port", f.Name, tag, address)
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
