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

	"warble/shared/experiment"
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

// fleet is the functions of a local run, one process each, and the routes file that tells the edge where they are.
type fleet struct {
	state   state
	console *console
	listen  string // of the edge

	secrets  map[manifest.KeyRef]string
	outcomes string // URL at which steer stores what the edge counts; its process has one address for all the run

	mu        sync.Mutex // guards what follows, and the files of files.go
	functions []*function
	traffic   map[string][]rollout.Target // by service, of those that an experiment has made revisions of
	rules     []experiment.Rules
	stopping  bool
	watchers  sync.WaitGroup
}

// function is one revision of a function and the process that serves it now.
type function struct {
	service     *manifest.Service
	revision    string
	name        string // for people
	environment []string
	log         io.Writer
	address     string
	starting    bool
	process     *instance
	bringing    bool  // by bringLater
	failure     error // which that met
}

// newFleet is one function of each service, none of which runs yet.
func newFleet(s state, c *console, listen string, services []*manifest.Service, d *database) (*fleet, error) {
	f := &fleet{state: s, console: c, listen: listen, secrets: d.secrets, outcomes: os.Getenv("OUTCOMES_URL"), traffic: make(map[string][]rollout.Target)}
	for _, service := range services {
		one, err := f.add(service, service.Name()+"-local", service.Name(), nil)
		if err != nil {
			return nil, err
		}
		if service.Name() == "steer" && f.outcomes == "" {
			f.outcomes = "http://" + one.address + "/outcomes"
		}
	}
	return f, nil
}

// add adds a revision, whose settings win over its manifest's. It is to be brought up.
func (f *fleet) add(service *manifest.Service, revision, name string, settings []string) (*function, error) {
	environment, err := f.state.environment(service, f.secrets)
	if err != nil {
		return nil, err
	}
	if features, set := os.LookupEnv("FEATURES"); set {
		environment = append(environment, "FEATURES="+features) // the caller tries out what the manifests do not ship
	}
	one := &function{service: service, revision: revision, name: name, environment: append(environment, settings...), log: f.console.named(name), starting: true}
	if one.address, err = f.addressOf(service); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.functions = append(f.functions, one)
	return one, nil
}

// start starts every function, and returns when all are ready.
func (f *fleet) start(ctx context.Context) error {
	if err := f.writeFiles(); err != nil {
		return err
	}
	f.mu.Lock()
	functions := slices.DeleteFunc(slices.Clone(f.functions), func(one *function) bool { return one.bringing })
	f.mu.Unlock()
	failures := make(chan error, len(functions))
	for _, one := range functions {
		go func() { failures <- f.bring(ctx, one) }()
	}
	var all error
	for range functions {
		all = errors.Join(all, <-failures)
	}
	return all
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
	if err := ready(ctx, one.address, p); err != nil {
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
		return errors.New("it is not wanted any more")
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
		f.setStartingLocked(one, true)
	}
	f.mu.Unlock()
	if wanted {
		return
	}
	f.console.print(fmt.Sprintf("%s ended (%v): starting it again\n", one.name, p.err))
	for backoff := 50 * time.Millisecond; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		if err := f.bring(ctx, one); err == nil {
			return
		}
		f.mu.Lock()
		f.setStartingLocked(one, false) // what cannot start is tried again, but nobody is kept waiting for it
		f.mu.Unlock()
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
	if err := ready(ctx, address, p); err != nil {
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
