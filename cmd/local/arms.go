package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// armID tells the processes of arms apart: those of an experiment that was deleted have the names of its successor's.
type armID string

func idOf(key armsKey, revision string) armID { return armID(string(key) + "/" + revision) }

// addArm adds a revision of an arm, whose settings win over its manifest's. It is to be brought up. It returns nil where the
// fleet has it.
func (f *fleet) addArm(service *manifest.Service, id armID, revision string, arm experiment.Arm, settings []string) (*function, error) {
	if service == nil {
		return nil, fmt.Errorf("%s: expected a manifest of its function in knative/, or -guest with the folder of its guest", revision)
	}
	one, err := f.newFunction(service, revision, service.Name()+" "+string(arm), settings)
	if err != nil {
		return nil, err
	}
	one.arm = id
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armLocked(id) != nil {
		return nil, nil //nolint:nilnil // as it says
	}
	f.functions = append(f.functions, one)
	return one, nil
}

func (f *fleet) armLocked(id armID) *function {
	for _, one := range f.functions {
		if one.arm == id && id != "" {
			return one
		}
	}
	return nil
}

// bringLater brings a function up while others go on, unless that is under way.
func (f *fleet) bringLater(ctx context.Context, one *function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.bringing || f.stopping {
		return
	}
	one.bringing, one.starting = true, true
	f.watchers.Go(func() { _ = f.attempt(ctx, one, false) }) // arm says why not
}

// attempt brings a function up and keeps how that went. one.bringing is set, and stays so where the caller tries again.
func (f *fleet) attempt(ctx context.Context, one *function, again bool) error {
	err := f.bring(ctx, one)
	f.mu.Lock()
	defer f.mu.Unlock()
	one.bringing, one.failure = err != nil && again, err
	f.setStartingLocked(one, false) // nobody is kept waiting for what cannot start
	return err
}

// arm says how the process of an arm does. One that did not start is tried again, as often as somebody asks.
func (f *fleet) arm(ctx context.Context, id armID) (ready bool, failed string) {
	f.mu.Lock()
	one := f.armLocked(id)
	if one == nil {
		f.mu.Unlock()
		return false, ""
	}
	ready = one.servesLocked()
	again := one.failure != nil && !one.bringing
	if one.failure != nil {
		failed = one.failure.Error()
	}
	f.mu.Unlock()
	if again {
		f.bringLater(ctx, one)
	}
	return ready, failed
}

// servesLocked tells whether there is a process that answers.
func (one *function) servesLocked() bool {
	if one.process == nil || one.starting {
		return false
	}
	select {
	case <-one.process.finished:
		return false
	default:
		return true
	}
}

// address is where an arm listens, or will; empty where there is no such arm.
func (f *fleet) address(id armID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.armLocked(id); one != nil {
		return one.address
	}
	return ""
}

// dropLocked takes all arms but these from the fleet. Their processes end in the background, once the edge has stopped using
// them, which the caller tells it.
func (f *fleet) dropLocked(kept map[armID]bool) {
	if f.stopping { // which ends everything
		return
	}
	var left []*function
	for _, one := range f.functions {
		if one.arm == "" || kept[one.arm] {
			left = append(left, one)
			continue
		}
		f.watchers.Go(func() {
			time.Sleep(routesDelay)
			f.retire(one)
		})
	}
	f.functions = left
}

// untouched is the revision that serves everybody who is in no arm.
func (f *fleet) untouched(service string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.untouchedLocked(service); one != nil {
		return one.revision
	}
	return ""
}

func (f *fleet) untouchedLocked(service string) *function {
	for _, one := range f.functions {
		if one.service.Name() == service && one.arm == "" {
			return one
		}
	}
	return nil
}

// succeedLater has another revision of a function take over from the present one, without failing a request, unless that is
// the present one or under way. Where it does not start, the present one stays.
func (f *fleet) succeedLater(ctx context.Context, service *manifest.Service, revision string, settings []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.untouchedLocked(service.Name())
	if old == nil || old.revision == revision || old.succeeding || f.stopping {
		return
	}
	old.succeeding = true
	f.watchers.Go(func() {
		err := f.succeed(ctx, old, revision, settings)
		f.mu.Lock()
		defer f.mu.Unlock()
		old.succeeding = false
		said := old.failure
		if err != nil && (said == nil || said.Error() != err.Error()) && ctx.Err() == nil {
			old.failure = err
			f.console.print(fmt.Sprintf("%s: %s does not take over: %v: it is tried again\n", old.name, revision, err))
		}
	})
}

// succeed replaces old by another revision of the same function.
func (f *fleet) succeed(ctx context.Context, old *function, revision string, settings []string) error {
	one, err := f.newFunction(old.service, revision, old.name, settings)
	if err != nil {
		return err
	}
	p, err := f.launch(one, one.address)
	if err != nil {
		return err
	}
	if err := one.ready(ctx, one.address, p); err != nil {
		p.end()
		return err
	}
	f.mu.Lock()
	at := slices.Index(f.functions, old)
	if f.stopping || at < 0 {
		f.mu.Unlock()
		p.end()
		return errUnwanted
	}
	f.functions = slices.Clone(f.functions)
	f.functions[at] = one
	f.mu.Unlock()
	if err = f.serve(ctx, one, p, one.address); err == nil {
		time.Sleep(routesDelay)
	}
	f.retire(old) // nobody else knows it any more
	return err
}
