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

// watched is what is to become so, and what was known when it was wished.
type watched struct {
	name       string
	generation int64  // of the wish: a status that observes it has followed the wish
	stood      string // where the experiment stood before
	// fresh tells that the wish has changed something. If it has not, what stalls the experiment may be gone meanwhile, and
	// nobody may have looked again yet.
	fresh   bool
	from    []experiment.Phase // those that it may be in until then
	done    func(e *rollout.Experiment, seen bool) bool
	timeout time.Duration
	out     io.Writer
}

// stalledError is that a person must act, in one word and in a sentence.
type stalledError struct{ reason, message string }

func (e *stalledError) Error() string { return e.message }

// reasonRefused is the reason of an experiment that may not start as it is.
const reasonRefused = "Refused"

// lasting are the reasons that no time will take away, so that there is nothing to be patient for.
var lasting = []string{reasonRefused, "NameTaken", "NameUsed", "PromotionRefused", "ServiceManaged"}

// unseenHint says what to check if no controller looks.
const unseenHint = "is it deployed? kubectl get ksvc steer; or move it from here: kn experiment run"

// watch looks at the status until what was wished is so. It returns the experiment as it saw it last.
func (s *settings) watch(parent context.Context, cluster *knative.Cluster, w watched) (*rollout.Experiment, error) {
	ctx, cancel := context.WithTimeout(parent, w.timeout)
	defer cancel()
	l := &lookout{watched: w, pace: s.pace, began: time.Now()}
	var last *rollout.Experiment
	for {
		e, err := cluster.Experiment(ctx, w.name)
		switch {
		case err == nil:
			last = e
			if done, err := l.look(e); done || err != nil {
				return last, err
			}
		case errors.Is(err, rollout.ErrNotFound):
			return last, exit(failed, "%s is gone: somebody has deleted it", w.name)
		case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
			return last, err
		case ctx.Err() == nil:
			l.once("cannot look: %v", err)
		}
		select {
		case <-ctx.Done():
			return last, l.late(parent.Err() != nil)
		case <-time.After(s.pace.every):
		}
	}
}

// lookout is what one watch remembers from look to look.
type lookout struct {
	watched
	pace     pace
	began    time.Time
	seen     bool      // something has looked at the wish
	waits    string    // what it waits for
	hopeless time.Time // since when it is stalled; zero while it is not
	told     bool      // that nothing looks
	said     string    // the last line, which is not said again
}

// once says a line, unless the last was the same.
func (l *lookout) once(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if line != l.said {
		l.said = line
		fmt.Fprintln(l.out, line)
	}
}

// look says what is new, and whether it is done.
func (l *lookout) look(e *rollout.Experiment) (done bool, err error) {
	phase := cmp.Or(e.Status.Phase, experiment.Draft)
	l.seen = e.Status.ObservedGeneration >= l.generation
	done = l.done(e, l.seen)
	if stands := e.Describe(); stands != l.stood || done {
		l.stood = stands
		l.once("%s is %s", l.name, stands)
	}
	if done {
		return true, nil
	}
	if !slices.Contains(l.from, phase) {
		return false, exit(refused, "%s is %s: %s", l.name, e.Describe(), cmp.Or(e.Status.Because, e.Status.Message, "not what was asked for"))
	}
	if !l.seen {
		if !l.told && time.Since(l.began) > l.pace.unseen {
			l.told = true
			l.once("steer has not looked at it for %s: %s", l.pace.unseen, unseenHint)
		}
		return false, nil
	}
	message, reason := e.Stalled()
	if reason == "" {
		l.hopeless = time.Time{}
		// A concluded experiment that waits for nothing has the reason of its end for a message.
		if l.waits = e.Status.Message; l.waits != "" && l.waits != e.Status.Because {
			l.once("waits for %s", l.waits)
		}
		return false, nil
	}
	l.waits = message
	patience := l.pace.patience
	switch {
	case !l.fresh:
		patience = l.pace.unseen
	case slices.Contains(lasting, reason):
		patience = 0
	}
	if l.hopeless.IsZero() {
		l.hopeless = time.Now()
	}
	if time.Since(l.hopeless) >= patience {
		return false, exit(refused, "%s: %w", l.name, &stalledError{reason, message})
	}
	l.once("%s: %s", l.name, message)
	return false, nil
}

// late says how far it has come. It goes on: the wish is written.
func (l *lookout) late(interrupted bool) error {
	when := fmt.Sprintf("not after %s", l.timeout)
	if interrupted {
		when = "interrupted"
	}
	switch {
	case !l.seen:
		return exit(late, "%s: %s: steer has not looked at it: %s", l.name, when, unseenHint)
	case l.waits != "":
		return exit(late, "%s: %s: it waits for %s, and steer goes on", l.name, when, l.waits)
	}
	return exit(late, "%s: %s: steer goes on", l.name, when)
}
