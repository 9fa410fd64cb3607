package rollout

import (
	"context"
	"fmt"
	"slices"
)

// rebase makes both arms of another image, where a deployment wants that, beside those that serve: once all of the new
// are ready the tags go over to them. It is a break, which is recorded: from then on two other programs are compared.
// Untouched traffic stays where it is until the end, which brings the new image to everyone.
func (r *Reconciler) rebase(ctx context.Context, e *Experiment) (move, error) {
	if len(e.Status.Next) == 0 {
		if e.Status.Next = e.rebased(); e.Status.Next == nil {
			return move{}, nil
		}
		if err := r.write(ctx, e); err != nil {
			return move{}, err
		}
		r.say("%s: both arms are to be made of another image", e.Name)
		return made(nil)
	}
	var waiting move
	for _, s := range e.Status.Next {
		m, err := r.makeRevisions(ctx, e, s)
		if err != nil || m.made {
			return m, err
		}
		if m.waits != "" && !waiting.stuck {
			waiting = m
		}
	}
	if waiting.waits != "" {
		return waiting, nil
	}
	a := e.arrangement()
	for _, s := range e.Status.Next {
		m, err := r.change(ctx, s.Name, "its tags go over to "+s.Control+" and "+s.Treatment, func(present *Service) {
			present.Traffic = a.targets(e.Name, s, present.Traffic)
		}, nil)
		if err != nil || m.made || m.stuck {
			return m, err
		}
	}
	e.Status.Services, e.Status.Next = e.Status.Next, nil
	e.Status.Bases++
	return r.transition(ctx, e, fmt.Sprintf("rebased-%d", e.Status.Bases), reason{r.Actor, "a break: a deployment has moved both arms to another image", nil})
}

// rebased are the Services on the images that are wanted; nil where they are on them.
func (e *Experiment) rebased() []ServiceStatus {
	next := slices.Clone(e.Status.Services)
	changed := false
	for i := range next {
		s := &next[i]
		if image := string(e.Spec.Run.Images[s.Name]); image != "" && image != s.Image {
			s.on(e, image, e.Status.Bases+1)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return next
}
