package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"

	"warble/shared/rollout"
)

// mostChanges is how many changes are kept for watches that begin late, or that are slow. A watch from before those has to
// list again.
const mostChanges = 500

// change is one change of an experiment.
type change struct {
	version int64
	kind    watch.EventType
	object  *rollout.Experiment // as it was after the change; it never changes
}

// remember keeps what has changed, and wakes the watches. r.mu is held.
func (r *records) remember(before, after *kept) {
	var found []change
	for name, e := range after.Experiments {
		was, there := before.Experiments[name]
		version, _ := strconv.ParseInt(e.ResourceVersion, 10, 64) // put has written it
		switch {
		case !there:
			found = append(found, change{version, watch.Added, e})
		case was.ResourceVersion != e.ResourceVersion:
			found = append(found, change{version, watch.Modified, e})
		}
	}
	for name, e := range before.Experiments {
		if after.Experiments[name] == nil {
			gone := e.DeepCopy()
			gone.ResourceVersion = strconv.FormatInt(after.Version, 10)
			found = append(found, change{after.Version, watch.Deleted, gone})
		}
	}
	if len(found) == 0 {
		return
	}
	slices.SortFunc(found, func(a, b change) int { return cmp.Compare(a.version, b.version) })
	r.changes = append(r.changes, found...)
	if more := len(r.changes) - mostChanges; more > 0 {
		r.oldest = r.changes[more-1].version
		r.changes = slices.Delete(r.changes, 0, more)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// since returns the changes after a version, and a channel that is closed by the next one. Its error is 410 Gone where some
// of the changes are not known any more, or where the version is one of another state folder.
func (r *records) since(version int64) (changes []change, next <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version < r.oldest || version > r.kept.Version {
		return nil, nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d: expected %d to %d, or a new list", version, r.oldest, r.kept.Version))
	}
	first, _ := slices.BinarySearchFunc(r.changes, version, func(c change, version int64) int {
		if c.version <= version {
			return -1
		}
		return 1
	})
	return slices.Clone(r.changes[first:]), r.changed, nil
}
