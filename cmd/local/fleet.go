package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

const (
	// startLimit is how long a function may take to be ready.
	startLimit = time.Minute
	// stopLimit is past a function's own drain limit.
	stopLimit = 28 * time.Second
	// routesDelay is longer than the edge takes to see a changed routes file.
	routesDelay = 500 * time.Millisecond
	// maxBackoff bounds the wait before a function that keeps dying is started again.
	maxBackoff = 5 * time.Second
)

// fleet is the functions of a local run, one process each and two more where one is in an experiment, and the routes file
// that tells the edge where they are.
type fleet struct {
	state   state
	console *console
	listen  string // of the edge

	secrets map[manifest.KeyRef]string
	sink    string // URL of the broker
	steer   string // base URL of steer, which the edge tells what it counts; its process has one address for all the run

	mu          sync.Mutex // guards what follows, and the files of files.go
	functions   []*function
	experiments []*rollout.Experiment // the oldest first; none of them ever changes
	stopping    bool
	watchers    sync.WaitGroup
}

// function is one revision of a function and the process that serves it now.
type function struct {
	service     *manifest.Service
	revision    string
	arm         armID  // empty for the one that serves everybody who is in no arm
	name        string // for people
	environment []string
	log         io.Writer
	address     string
	starting    bool
	process     *instance
	bringing    bool  // somebody is about to start it
	succeeding  bool  // another revision is about to take over
	failure     error // of the last of either
}

// errUnwanted is why a process that is ready does not serve.
var errUnwanted = errors.New("it is not wanted any more")

// newFleet is one function of each service, none of which runs yet.
func newFleet(s state, c *console, listen string, services []*manifest.Service, d *database, k *kept) (*fleet, error) {
	f := &fleet{state: s, console: c, listen: listen, secrets: d.secrets, steer: os.Getenv("STEER_URL")}
	for _, service := range services {
		revision, given := k.newest(service.Name())
		one, err := f.newFunction(service, revision, service.Name(), settings(given))
		if err != nil {
			return nil, err
		}
		f.functions = append(f.functions, one)
		if service.Name() == "steer" && f.steer == "" {
			f.steer = "http://" + one.address
		}
	}
	return f, nil
}

// newFunction is a revision whose settings win over its manifest's. It is to be brought up.
func (f *fleet) newFunction(service *manifest.Service, revision, name string, settings []string) (*function, error) {
	environment, err := f.state.environment(service, f.secrets)
	if err != nil {
		return nil, err
	}
	if features, set := os.LookupEnv("FEATURES"); set {
		environment = append(environment, "FEATURES="+features) // the caller tries out what the manifests do not ship
	}
	one := &function{service: service, revision: revision, name: name, environment: append(environment, settings...), log: f.console.named(name), starting: true}
	one.address, err = f.addressOf(service)
	return one, err
}

// start starts every function, and returns when all are ready. The edge is the last, so that whoever is in an arm finds it. An
// arm that does not start is tried again later, and fails nothing.
func (f *fleet) start(ctx context.Context) error {
	if err := f.writeFiles(); err != nil {
		return err
	}
	f.mu.Lock()
	functions := slices.Clone(f.functions)
	for _, one := range functions {
		one.bringing = true
	}
	f.mu.Unlock()
	for _, edge := range []bool{false, true} {
		var (
			starting sync.WaitGroup
			mu       sync.Mutex
			failed   []error
		)
		for _, one := range functions {
			if (one.service.Name() == "edge") != edge {
				continue
			}
			starting.Go(func() {
				if err := f.attempt(ctx, one, false); err != nil && one.arm == "" {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
				}
			})
		}
		starting.Wait()
		if len(failed) > 0 {
			return errors.Join(failed...)
		}
	}
	return nil
}

func (f *fleet) addressOf(service *manifest.Service) (string, error) {
	if service.Name() == "edge" {
		return f.listen, nil
	}
	return freeAddress()
}

// bring starts a function's process, waits until it is ready and tells the edge. From then on the process is replaced
// when it ends unasked.
func (f *fleet) bring(ctx context.Context, one *function) error {
	p, err := f.launch(one, one.address)
	if err != nil {
		return err
	}
	if err := one.ready(ctx, one.address, p); err != nil {
		p.end()
		return fmt.Errorf("%s: %w", one.name, err)
	}
	return f.serve(ctx, one, p, one.address)
}

// serve makes p the process that the edge reaches, unless nobody wants it any more.
func (f *fleet) serve(ctx context.Context, one *function, p *instance, address string) error {
	f.mu.Lock()
	if f.stopping || !slices.Contains(f.functions, one) {
		f.mu.Unlock()
		p.end()
		return errUnwanted
	}
	defer f.mu.Unlock()
	one.process, one.address, one.starting, one.failure = p, address, false, nil
	f.watchers.Go(func() { f.watch(ctx, one, p) })
	return f.writeFilesLocked()
}

// watch starts a function again when its process ends unasked.
func (f *fleet) watch(ctx context.Context, one *function, p *instance) {
	<-p.finished
	f.mu.Lock()
	wanted := p.retired || f.stopping
	if !wanted {
		one.bringing = true
		f.setStartingLocked(one, true)
	}
	f.mu.Unlock()
	if wanted {
		return
	}
	f.console.print(fmt.Sprintf("%s ended (%v): starting it again\n", one.name, p.err))
	for backoff := 50 * time.Millisecond; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		if err := f.attempt(ctx, one, true); err == nil || errors.Is(err, errUnwanted) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
	}
}

func (f *fleet) setStartingLocked(one *function, starting bool) {
	one.starting = starting
	_ = f.writeFilesLocked() // it was writable before; if it no longer is, the edge answers 503
}

// replace starts a new process for each function but the edge, moves the edge's traffic to it, and ends the old one.
func (f *fleet) replace(ctx context.Context) {
	f.mu.Lock()
	functions := slices.Clone(f.functions)
	f.mu.Unlock()
	for _, one := range functions {
		if one.service.Name() == "edge" {
			continue
		}
		if err := f.replaceOne(ctx, one); err != nil {
			f.console.print(fmt.Sprintf("%s was not replaced: %v\n", one.name, err))
		}
	}
}

func (f *fleet) replaceOne(ctx context.Context, one *function) error {
	f.mu.Lock()
	underWay := one.bringing || one.succeeding || !slices.Contains(f.functions, one)
	f.mu.Unlock()
	if underWay { // what is about to start is of the new build, or its next try is
		return nil
	}
	if one.service.Name() == "steer" { // the edge keeps what it cannot send meanwhile
		f.retire(one)
		return f.bring(ctx, one)
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	p, err := f.launch(one, address)
	if err != nil {
		return err
	}
	if err := one.ready(ctx, address, p); err != nil {
		p.end()
		return err
	}
	f.mu.Lock()
	old := one.process
	if old != nil {
		old.retired = true
	}
	f.mu.Unlock()
	if err := f.serve(ctx, one, p, address); err != nil {
		return err
	}
	time.Sleep(routesDelay)
	if old != nil {
		old.end()
	}
	return nil
}

// retire ends the process of a function, which is not started again for it.
func (f *fleet) retire(one *function) {
	f.mu.Lock()
	p := one.process
	if p != nil {
		p.retired = true
	}
	f.mu.Unlock()
	if p != nil {
		p.end()
	}
}

// stop ends the edge first, so that nothing new comes in, then everything else at once.
func (f *fleet) stop() {
	f.mu.Lock()
	f.stopping = true
	functions := f.functions
	f.mu.Unlock()
	var ending sync.WaitGroup
	for _, edgeFirst := range []bool{true, false} {
		for _, one := range functions {
			if (one.service.Name() == "edge") == edgeFirst && one.process != nil {
				ending.Go(one.process.end)
			}
		}
		ending.Wait()
	}
	f.watchers.Wait()
}

// addressFor is where the process is that serves a function to everybody who is in no arm.
func (f *fleet) addressFor(name string) (address string, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.functions {
		if one.service.Name() == name && one.arm == "" {
			return one.address, true
		}
	}
	return "", false
}
