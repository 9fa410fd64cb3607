package rollout

import (
	"context"
	"slices"
)

// held tells whether a deletion waits for Reconcile.
func (e *Experiment) held() bool { return slices.Contains(e.Finalizers, Finalizer) }

// hold has a deletion wait from now on.
func (r *Reconciler) hold(ctx context.Context, e *Experiment) (move, error) {
	e.Finalizers = append(e.Finalizers, Finalizer)
	return made(r.Cluster.UpdateFinalizers(ctx, e))
}

// letGo has nothing wait for Reconcile any more, which has put everything back. What the database does not have yet of its
// life is in the status alone, and is waited for.
func (r *Reconciler) letGo(ctx context.Context, e *Experiment) (move, error) {
	if len(e.Status.Unrecorded) > 0 {
		return waits("the database to have how it ended")
	}
	e.Finalizers = slices.DeleteFunc(e.Finalizers, func(f string) bool { return f == Finalizer })
	if err := r.Cluster.UpdateFinalizers(ctx, e); err != nil {
		return move{}, err
	}
	if e.deleted() && len(e.Finalizers) == 0 {
		r.say("%s: is gone, as it was deleted", e.Name)
		return move{gone: true}, nil
	}
	return made(nil)
}
