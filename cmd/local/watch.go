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

// mostChanges is the number of changes that are kept for watches that begin late or are slow. A watch from an earlier version has to list
// again.
const mostChanges = 500

// change is one change of an experiment.
type change struct {
	version int64
	kind    watch.EventType
	object  *rollout.Experiment // as it was after the change; it never changes
}

// remember stores the changes of experiments from before to after, and wakes the watches. The caller holds r.mu.
func (r *records) remember(before, after *kept) {
	var found []change
	for name, e := range after.Experiments {
		was, existed := before.Experiments[name]
		version, _ := strconv.ParseInt(e.ResourceVersion, 10, 64) // put has written it
		switch {
		case !existed:
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

// since returns the changes after a version, and a channel that is closed by the next change. It returns the error 410 Gone if some of the
// changes are no longer stored, or if the version belongs to another state folder.
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
