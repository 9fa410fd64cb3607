package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/rollout"
)

// goal is what a verb waits for, and what was known when its wish was written.
type goal struct {
	name       string
	generation int64  // of the wish; steer has seen the wish if the status observes this generation
	stood      string // the state of the experiment before the wish, in words
	// fresh means that the wish has changed something. If it has not, a present reason for a stall may be out of date until steer
	// checks the experiment again.
	fresh   bool
	from    []experiment.Phase // the phases in which the experiment may be until the goal is reached
	done    func(e *rollout.Experiment, seen bool) bool
	timeout time.Duration
	out     io.Writer
}

// stalledError is returned if a person has to act. It has the reason in one word, and the message of the status.
type stalledError struct{ reason, message string }

func (e *stalledError) Error() string { return e.message }

// reasonRefused is the reason of an experiment that may not start as it is.
const reasonRefused = "Refused"

// lasting are the reasons that do not go away by themselves, so that a watch gives up immediately.
var lasting = []string{reasonRefused, "NameTaken", "NameUsed", "PromotionRefused", "ServiceManaged"}

// unseenHint says what to check if steer does not see a wish.
const unseenHint = "check that steer is deployed (kubectl get ksvc steer), or move the experiment from here (kn experiment run)"

// watch checks the status until the goal is reached. It returns the experiment as it was at the last check.
func (s *settings) watch(parent context.Context, cluster *knative.Cluster, g goal) (*rollout.Experiment, error) {
	ctx, cancel := context.WithTimeout(parent, g.timeout)
	defer cancel()
	w := &watcher{goal: g, pace: s.pace, began: time.Now()}
	var last *rollout.Experiment
	for {
		e, err := cluster.Experiment(ctx, g.name)
		switch {
		case err == nil:
			last = e
			if done, err := w.check(e); done || err != nil {
				return last, err
			}
		case errors.Is(err, rollout.ErrNotFound):
			return last, exit(failed, "%s is gone: somebody has deleted it", g.name)
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			return last, err
		case ctx.Err() == nil:
			w.printOnce("cannot read the status: %v", err)
		}
		select {
		case <-ctx.Done():
			return last, w.lateError(parent.Err() != nil)
		case <-time.After(s.pace.every):
		}
	}
}

// watcher is what one watch remembers between checks.
type watcher struct {
	goal
	pace         pace
	began        time.Time
	seen         bool      // steer has seen the wish
	waits        string    // what the experiment waits for
	stalledSince time.Time // zero while the experiment is not stalled
	warned       bool      // that steer has not seen the wish
	printed      string    // the last line
}

// printOnce prints a line, unless the last line was the same.
func (w *watcher) printOnce(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if line != w.printed {
		w.printed = line
		fmt.Fprintln(w.out, line)
	}
}

// check prints what is new in the status, and reports whether the goal is reached. It returns an error if the goal cannot be reached any
// more, or if the experiment has been stalled for too long.
func (w *watcher) check(e *rollout.Experiment) (done bool, err error) {
	w.seen = e.Status.ObservedGeneration >= w.generation
	done = w.done(e, w.seen)
	if state := e.Describe(); state != w.stood || done {
		w.stood = state
		w.printOnce("%s is %s", w.name, state)
	}
	if done {
		return true, nil
	}
	if phase := cmp.Or(e.Status.Phase, experiment.Draft); !slices.Contains(w.from, phase) {
		return false, exit(refused, "%s is %s: %s", w.name, e.Describe(), cmp.Or(e.Status.Because, e.Status.Message, "this is not what was asked for"))
	}
	if !w.seen {
		w.warnUnseen()
		return false, nil
	}
	if message, reason := e.Stalled(); reason != "" {
		return false, w.checkStall(reason, message)
	}
	w.stalledSince = time.Time{}
	w.waits = e.Status.Message
	// If a concluded experiment waits for nothing, its message is the reason of its end.
	if w.waits != "" && w.waits != e.Status.Because {
		w.printOnce("waits for %s", w.waits)
	}
	return false, nil
}

// warnUnseen prints a warning, once, if steer has not seen the wish in time.
func (w *watcher) warnUnseen() {
	if w.warned || time.Since(w.began) <= w.pace.unseen {
		return
	}
	w.warned = true
	w.printOnce("steer has not seen the wish for %s: %s", w.pace.unseen, unseenHint)
}

// checkStall prints why the experiment is stalled. It returns a stalledError if waiting longer cannot help.
func (w *watcher) checkStall(reason, message string) error {
	w.waits = message
	if w.stalledSince.IsZero() {
		w.stalledSince = time.Now()
	}
	if time.Since(w.stalledSince) >= w.patience(reason) {
		return exit(refused, "%s: %w", w.name, &stalledError{reason, message})
	}
	w.printOnce("%s: %s", w.name, message)
	return nil
}

// patience returns how long the experiment may stay stalled for a reason.
func (w *watcher) patience(reason string) time.Duration {
	switch {
	case !w.fresh:
		return w.pace.unseen
	case slices.Contains(lasting, reason):
		return 0
	}
	return w.pace.patience
}

// lateError returns the error of a watch that was interrupted or timed out. Steer continues, because the wish is written.
func (w *watcher) lateError(interrupted bool) error {
	when := fmt.Sprintf("not done after %s", w.timeout)
	if interrupted {
		when = "interrupted"
	}
	switch {
	case !w.seen:
		return exit(late, "%s: %s: steer has not seen the wish: %s", w.name, when, unseenHint)
	case w.waits != "":
		return exit(late, "%s: %s: it waits for %s; steer continues", w.name, when, w.waits)
	}
	return exit(late, "%s: %s; steer continues", w.name, when)
}
