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
	// stopLimit is how long a function may take to end. It is longer than a function's own limit for its drain.
	stopLimit = 28 * time.Second
	// routesDelay is longer than the edge takes to see a changed routes file.
	routesDelay = 500 * time.Millisecond
	// maxBackoff is the longest wait before a function that keeps failing is started again.
	maxBackoff = 5 * time.Second
)

// fleet has the functions of a local run, and writes the routes file, which tells the edge their addresses. A function has one process, and
// two more if it is in an experiment.
type fleet struct {
	state   state
	console *console
	listen  string // the edge's address

	secrets map[manifest.KeyRef]string
	sink    string // URL of the broker
	steer   string // base URL of steer, to which the edge sends its counts; it stays the same for the whole run

	mu          sync.Mutex // guards the fields below, and the files of files.go
	functions   []*function
	experiments []*rollout.Experiment // the oldest first; never changed in place
	stopping    bool
	watchers    sync.WaitGroup
}

// function is one revision of a function and the process that serves it now.
type function struct {
	service     *manifest.Service
	revision    string
	arm         armID  // empty if it serves the untouched
	name        string // in messages
	environment []string
	log         io.Writer
	address     string
	starting    bool
	process     *instance
	bringing    bool  // it is being brought up
	succeeding  bool  // another revision is being brought up to replace it
	failure     error // the error of the last attempt to do one of the two
}

// errUnwanted is returned if a process is ready, but its function was dropped or the run is stopping.
var errUnwanted = errors.New("it is no longer needed")

// newFleet returns a fleet with a function for each service. No process runs yet.
func newFleet(s state, c *console, listen string, services []*manifest.Service, d *database, k *kept) (*fleet, error) {
	f := &fleet{state: s, console: c, listen: listen, secrets: d.secrets, steer: os.Getenv("STEER_URL")}
	for _, service := range services {
		revision, variables := k.newest(service.Name())
		one, err := f.newFunction(service, revision, service.Name(), settings(variables))
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

// newFunction returns a revision without a process. settings override the manifest.
func (f *fleet) newFunction(service *manifest.Service, revision, name string, settings []string) (*function, error) {
	environment, err := f.state.environment(service, f.secrets)
	if err != nil {
		return nil, err
	}
	if features, set := os.LookupEnv("FEATURES"); set {
		environment = append(environment, "FEATURES="+features) // lets the caller try features that are off in the manifests
	}
	one := &function{service: service, revision: revision, name: name, environment: append(environment, settings...), log: f.console.writerFor(name), starting: true}
	one.address, err = f.addressOf(service)
	return one, err
}

// start starts every function, and returns when all are ready. The edge starts last, when the arms are ready. If an arm does not start,
// start does not fail; the arm is tried again later.
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

// bringUp starts a function's process, waits until it is ready and tells the edge. From then on, the process is started again if it ends
// unexpectedly.
func (f *fleet) bringUp(ctx context.Context, one *function) error {
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

// serve tells the edge to use the process p. It ends p and returns errUnwanted if the function was dropped or the run is stopping.
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

// watch starts a function again if its process ends unexpectedly.
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
	_ = f.writeFilesLocked() // writing them has succeeded before; if it fails now, the edge answers 503
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
	if underWay { // its process, or the one of the next attempt, is the new build
		return nil
	}
	if one.service.Name() == "steer" { // its address must not change; the edge keeps its counts until steer is back
		f.retire(one)
		return f.bringUp(ctx, one)
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

// retire ends the process of a function, and keeps watch from starting it again.
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

// stop ends the edge first, so that no new requests come in, and then all others together.
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

// addressFor returns the address of the process that serves a function to the untouched.
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
