package rollout

import (
	"context"
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// promote gives the treatment to everyone: first to all whom the experiment may assign, by the slots, then to all others,
// by the traffic. Until that is in force everywhere the tags serve, so nobody falls between two Services.
func (r *Reconciler) promote(ctx context.Context, e *Experiment) (move, error) {
	if m, err := r.arrange(ctx, e, arrangement{arms: true}); err != nil || m.made || m.stuck {
		return m, err
	}
	for _, s := range e.Status.Services {
		present, err := r.Cluster.Service(ctx, s.Name)
		if err != nil {
			return move{}, err
		}
		if !present.Routed {
			return waits("the traffic of %s to follow", s.Name)
		}
	}
	return r.conclude(ctx, e, WasPromoted, reason{r.Actor, "the treatment is what everyone has", nil})
}

// conclude closes every slot: from now on nobody is assigned. What was made goes after it.
func (r *Reconciler) conclude(ctx context.Context, e *Experiment, as Conclusion, why reason) (move, error) {
	e.Status.Phase, e.Status.Conclusion = Concluding, as
	e.Status.Because = string(as) + ": " + why.text
	e.Status.Open, e.Status.ClosedAt = experiment.Open{}, metav1.NewTime(r.Now())
	return r.transition(ctx, e, "concluding", why)
}

// restore brings every Service back to how it was found, but for what has won: the tags go, the template is the winner's,
// and where traffic followed the newest revision it does again, once that is one of this template. Until then it stays
// pinned, or it would go to an arm.
func (r *Reconciler) restore(ctx context.Context, e *Experiment) (move, error) {
	won := e.Status.Conclusion == WasPromoted
	if gone := e.Status.ClosedAt.Add(EdgeLag); !e.Status.StepAt.IsZero() && r.Now().Before(gone) {
		if !won { // requests that nobody was assigned for have no time to lose
			if m, err := r.arrange(ctx, e, arrangement{arms: true}); err != nil || m.made {
				return m, err
			}
		}
		return waits("the edges to look away from the arms, until %s", gone.UTC().Format("15:04:05"))
	}
	var waiting move
	for _, s := range e.Status.Services {
		m, err := r.restoreService(ctx, e, s, won)
		if err != nil || m.made {
			return m, err
		}
		if m.waits != "" {
			waiting = m
		}
	}
	if waiting.waits != "" {
		return waiting, nil
	}
	e.Status.Phase = Concluded
	return r.transition(ctx, e, "concluded", reason{r.Actor, "every Service is as it was found, but for what has won", nil})
}

func (r *Reconciler) restoreService(ctx context.Context, e *Experiment, s ServiceStatus, won bool) (move, error) {
	present, err := r.Cluster.Service(ctx, s.Name)
	if errors.Is(err, ErrNotFound) {
		return move{}, nil // and with it all that was made
	} else if err != nil {
		return move{}, err
	}
	next := *present
	next.Template = e.template(s, present.Template, "", won)
	a := arrangement{}
	if won {
		a.winner = s.Treatment
	}
	as := "puts its template back, and takes its tags away"
	if next.Template.equal(present.Template) && !slices.Contains([]string{s.Control, s.Treatment}, present.Ready) {
		back := arrangement{latest: true}
		if won {
			back.winner = present.Ready
		}
		// Putting it back is a change of the Service, which is not current then until Knative has seen it.
		if present.Current || same(back.targets(e.Name, s, present.Traffic), present.Traffic) {
			a, as = back, "puts its traffic back"
		}
	}
	next.Traffic = a.targets(e.Name, s, present.Traffic)
	if !next.Template.equal(present.Template) || !same(next.Traffic, present.Traffic) {
		if err := r.Cluster.UpdateService(ctx, &next); err != nil {
			return move{}, err
		}
		r.say("%s: %s", s.Name, as)
		return made(nil)
	}
	if !a.latest {
		return waits("the new revision of %s to be ready", s.Name)
	}
	return move{}, nil
}

// archive sweeps, where that is wanted.
func (r *Reconciler) archive(ctx context.Context, e *Experiment) (move, error) {
	if e.Spec.Run.State != experiment.Archived || e.Status.Phase == Archived {
		return move{}, nil
	}
	if err := r.Store.ArchiveExperiment(ctx, e.Name, r.Now()); err != nil {
		return waits("the database: %v", err)
	}
	e.Status.Phase = Archived
	return r.transition(ctx, e, "archived", r.wished(e, "a person has archived it"))
}
