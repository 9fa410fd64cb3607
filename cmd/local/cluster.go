package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// Experiments is of a rollout.Cluster, as is all that follows.
func (t *trial) Experiments(context.Context) ([]rollout.Experiment, error) {
	return []rollout.Experiment{*t.kept.Experiment.DeepCopy()}, nil
}

func (t *trial) Experiment(_ context.Context, name string) (*rollout.Experiment, error) {
	if name != t.kept.Experiment.Name {
		return nil, rollout.ErrNotFound
	}
	return t.kept.Experiment.DeepCopy(), nil
}

func (t *trial) UpdateStatus(_ context.Context, e *rollout.Experiment) error {
	t.kept.Experiment.Status = e.DeepCopy().Status
	return t.save()
}

// UpdateFinalizers keeps them, and nobody waits for them: what is in a file is not deleted, but stopped.
func (t *trial) UpdateFinalizers(_ context.Context, e *rollout.Experiment) error {
	t.kept.Experiment.Finalizers = slices.Clone(e.Finalizers)
	return t.save()
}

func (t *trial) Service(ctx context.Context, name string) (*rollout.Service, error) {
	s := t.kept.Services[name]
	if s == nil {
		return nil, rollout.ErrNotFound
	}
	if s.Ready != s.Newest {
		if r, err := t.Revision(ctx, s.Newest); err == nil && r.Ready {
			s.Ready = s.Newest
			if err := t.save(); err != nil {
				return nil, err
			}
		}
	}
	template := s.Template
	template.Env = maps.Clone(s.Template.Env)
	return &rollout.Service{Name: name, Template: template, Traffic: slices.Clone(s.Traffic), Ready: s.Ready, Current: s.Ready == s.Newest, Routed: true}, nil
}

func (t *trial) UpdateService(_ context.Context, to *rollout.Service) error {
	s := t.kept.Services[to.Name]
	changed := to.Template.Revision != s.Template.Revision || !maps.Equal(to.Template.Env, s.Template.Env)
	s.Template, s.Traffic = to.Template, to.Traffic
	if !changed {
		return t.save()
	}
	s.Made++
	if s.Newest = to.Template.Revision; s.Newest == "" {
		s.Newest = fmt.Sprintf("%s-%05d", to.Name, s.Made)
	}
	s.Revisions[s.Newest] = maps.Clone(to.Template.Env)
	if err := t.save(); err != nil {
		return err
	}
	return t.start(s, s.Newest, s.Revisions[s.Newest])
}

func (t *trial) Revision(_ context.Context, name string) (rollout.Revision, error) {
	return t.fleet.revision(t.run, name)
}

func (t *trial) Answers(ctx context.Context, service, tag string) (string, error) {
	address := t.fleet.tagged(service, tag)
	if address == "" {
		return "", fmt.Errorf("no process serves it yet")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // only the header matters
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.Header.Get("X-Revision"), nil
}

// Lock locks nothing: one run has the folder, and one goroutine the experiment.
func (t *trial) Lock(context.Context, string, time.Duration) (func(), error) {
	return func() {}, nil
}

// What follows is what a trial has a fleet do.

// bringLater brings a function up while others go on.
func (f *fleet) bringLater(ctx context.Context, one *function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.bringing || f.stopping {
		return
	}
	one.bringing, one.starting = true, true
	f.watchers.Go(func() {
		err := f.bring(ctx, one)
		f.mu.Lock()
		defer f.mu.Unlock()
		one.bringing, one.failure = false, err
		f.setStartingLocked(one, false) // nobody is kept waiting for what cannot start
	})
}

// revision says how a process does. One that does not start is tried again as often as somebody asks.
func (f *fleet) revision(ctx context.Context, name string) (rollout.Revision, error) {
	f.mu.Lock()
	one := f.revisionLocked(name)
	if one == nil {
		f.mu.Unlock()
		return rollout.Revision{}, rollout.ErrNotFound
	}
	r := rollout.Revision{Ready: one.process != nil && !one.starting}
	again := one.failure != nil && !one.bringing
	if one.failure != nil {
		r.Failed = one.failure.Error()
	}
	f.mu.Unlock()
	if again {
		f.bringLater(ctx, one)
	}
	return r, nil
}

// tagged is where a tag of a Service leads, empty where it leads nowhere.
func (f *fleet) tagged(service, tag string) (address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.traffic[service] {
		if one := f.revisionLocked(t.Revision); t.Tag == tag && one != nil {
			address = one.address
		}
	}
	return address
}

// route tells the edge which revisions serve whom.
func (f *fleet) route(traffic map[string][]rollout.Target, rules []experiment.Rules) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traffic, f.rules = traffic, rules
	return f.writeFilesLocked()
}

// drop ends revisions that the edge has no way to any more, and tells whether there were any.
func (f *fleet) drop(revisions []string) bool {
	f.mu.Lock()
	var gone []*function
	f.functions = slices.DeleteFunc(f.functions, func(one *function) bool {
		if !slices.Contains(revisions, one.revision) {
			return false
		}
		gone = append(gone, one)
		return true
	})
	f.mu.Unlock()
	if len(gone) > 0 {
		time.Sleep(routesDelay)
	}
	for _, one := range gone {
		f.retire(one)
	}
	return len(gone) > 0
}
