package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/manifest"
)

// armID identifies a revision of an arm. The revision's name is not enough: a deleted experiment and a later one of the same name have
// revisions of the same name.
type armID string

func idOf(key armsKey, revision string) armID { return armID(string(key) + "/" + revision) }

// addArm adds a revision of an arm, which the caller has to bring up. settings override the manifest. It returns nil if the fleet already
// has the revision.
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
		return nil, nil //nolint:nilnil // see the comment of addArm
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

// bringUpLater brings a function up in the background, unless that has begun already.
func (f *fleet) bringUpLater(ctx context.Context, one *function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one.bringing || f.stopping {
		return
	}
	one.bringing, one.starting = true, true
	f.watchers.Go(func() { _ = f.attempt(ctx, one, false) }) // armState reports the error
}

// attempt brings a function up, and stores the error in one.failure. The caller has set one.bringing. If again is set, the caller
// will try again after an error, and one.bringing stays set.
func (f *fleet) attempt(ctx context.Context, one *function, again bool) error {
	err := f.bringUp(ctx, one)
	f.mu.Lock()
	defer f.mu.Unlock()
	one.bringing, one.failure = err != nil && again, err
	f.setStartingLocked(one, false) // after an error too, so that no request waits for it
	return err
}

// armState returns whether the process of an arm is ready, and why it failed. After a failure, each call starts another attempt.
func (f *fleet) armState(ctx context.Context, id armID) (ready bool, failed string) {
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
		f.bringUpLater(ctx, one)
	}
	return ready, failed
}

// servesLocked reports whether the function has a process that answers.
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

// address returns the address of an arm, even before it listens. It is empty if the fleet has no such arm.
func (f *fleet) address(id armID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.armLocked(id); one != nil {
		return one.address
	}
	return ""
}

// dropLocked removes all arms from the fleet except kept. Their processes end in the background, when the edge has stopped using them.
// The caller has to write the routes file, to tell the edge.
func (f *fleet) dropLocked(kept map[armID]bool) {
	if f.stopping { // stop ends every process
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

// untouched returns the revision that serves everybody who has no arm.
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

// succeedLater replaces the present revision of a function by another in the background, without failing a request. It does nothing if
// the present revision is the same, or if a replacement has begun already. If the new revision does not start, the present one stays.
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
		printed := old.failure
		if err != nil && (printed == nil || printed.Error() != err.Error()) && ctx.Err() == nil {
			old.failure = err
			f.console.print(fmt.Sprintf("%s: %s does not take over: %v; trying again\n", old.name, revision, err))
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
	f.retire(old) // it is no longer in f.functions, so stop would not end it
	return err
}
