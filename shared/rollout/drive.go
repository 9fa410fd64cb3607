package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// enter comes to a step of the ramp: the edges assign by it from now on.
func (r *Reconciler) enter(ctx context.Context, e *Experiment, step int, why reason) (move, error) {
	open := e.Spec.Ramp.Steps[step] * experiment.Slots / 100
	e.Status.Phase, e.Status.Step, e.Status.StepAt = Running, step, metav1.NewTime(r.Now())
	e.Status.Open = experiment.Open{Control: open, Treatment: open}
	return r.transition(ctx, e, fmt.Sprintf("running-%d", step), why)
}

// drive is of a running experiment: what people want comes first, then what the readout says, then the ramp.
func (r *Reconciler) drive(ctx context.Context, e *Experiment) (move, error) {
	paused, run := e.Status.Phase == Paused, e.Spec.Run
	switch {
	case run.State == experiment.Promoted:
		e.Status.Phase, e.Status.Open = Promoting, experiment.Open{Treatment: experiment.Slots}
		return r.transition(ctx, e, "promoting", r.wished(e, "a person has promoted it"))
	case run.State == experiment.Paused && !paused:
		e.Status.Phase = Paused
		return r.transition(ctx, e, fmt.Sprintf("paused-%d", e.Generation), r.wished(e, "a person has paused it"))
	case run.State == experiment.Running && paused:
		e.Status.Phase = Running
		return r.transition(ctx, e, fmt.Sprintf("resumed-%d", e.Generation), r.wished(e, "a person has resumed it"))
	case run.Step > e.Status.Step && run.Step < len(e.Spec.Ramp.Steps) && !paused:
		return r.enter(ctx, e, run.Step, r.wished(e, "a person has made the step"))
	}
	base, err := r.rebase(ctx, e)
	if err != nil || base.made {
		return base, err
	}
	if m, err := r.arrange(ctx, e, e.arrangement()); err != nil || m.made || m.stuck {
		return m, err
	}
	verdict, err := r.judge(ctx, e)
	if err != nil {
		return waits("a readout, and holds: %v", err)
	}
	m, err := r.follow(ctx, e, verdict)
	m.judged, m.lift = true, verdict.Lift
	if !m.made && base.waits != "" {
		m.waits, m.stuck = base.waits, base.stuck
	}
	return m, err
}

// arrangement is what the running experiment wants of every Service: that each arm can be had by its tag, and of the
// requests their part, where those are the unit.
func (e *Experiment) arrangement() arrangement {
	a := arrangement{arms: true}
	if e.Spec.Unit == experiment.Request {
		a.percent = int64(e.Spec.Ramp.Steps[e.Status.Step])
	}
	return a
}

// arrange brings the traffic of every Service to what is wanted. What somebody has undone is done again: without a tag an
// experiment has stopped for all who are in it.
func (r *Reconciler) arrange(ctx context.Context, e *Experiment, a arrangement) (move, error) {
	for _, s := range e.Status.Services {
		if e.Status.Phase == Promoting {
			a.winner = s.Treatment
		}
		m, err := r.change(ctx, s.Name, "its traffic follows", func(present *Service) {
			present.Traffic = a.targets(e.Name, s, present.Traffic)
		}, nil)
		if err != nil || m.made || m.stuck {
			return m, err
		}
	}
	return move{}, nil
}

func (r *Reconciler) judge(ctx context.Context, e *Experiment) (experiment.Verdict, error) {
	if r.Readout == nil {
		return experiment.Verdict{}, errors.New("there is none: expected DATABASE_URL")
	}
	return r.Readout.Judge(ctx, e.Name, r.Now())
}

// follow does what the readout says, and makes the next step when its time has come.
func (r *Reconciler) follow(ctx context.Context, e *Experiment, v experiment.Verdict) (move, error) {
	lost := func(text string) (move, error) {
		return r.conclude(ctx, e, WasRolledBack, reason{r.Actor, text, v.Figures})
	}
	if v.Guardrails == experiment.GuardBreach {
		return lost(v.Reason)
	}
	if e.Status.Phase == Paused {
		return waits("a person to resume it: %s", cmp.Or(e.Spec.Run.Why, "paused"))
	}
	if v.Health != "" {
		return stuck("holds, its health is red: %s", v.Health)
	}
	switch v.Decision {
	case experiment.Harm, experiment.NotWorthIt:
		return lost(v.Sentence)
	case experiment.Win:
		return r.won(ctx, e, v)
	case experiment.Inconclusive:
		return stuck("holds, inconclusive: %s", v.Sentence)
	}
	if left := e.holds(v, r.Now()); left != "" {
		return waits("%s", left)
	}
	next := e.Status.Step + 1
	switch {
	case next < len(e.Spec.Ramp.Steps) && e.Spec.Ramp.Approve == "manual" && e.Spec.Run.Approved < next:
		return stuck("approval of step %d: kn experiment approve %s", next+1, e.Name)
	case next < len(e.Spec.Ramp.Steps):
		return r.enter(ctx, e, next, reason{r.Actor, "the step before was held, and no guardrail is against it", v.Figures})
	case e.Spec.Unit == experiment.Request: // guardrails alone judge, and they pass
		return r.won(ctx, e, v)
	}
	return waits("a verdict: %s", cmp.Or(v.Sentence, "not yet"))
}

// won is of a win. An open guardrail may yet turn out to be breached, so it counts as no pass here either.
func (r *Reconciler) won(ctx context.Context, e *Experiment, v experiment.Verdict) (move, error) {
	text := cmp.Or(v.Sentence, "every guardrail passes")
	if v.Guardrails != experiment.GuardPass {
		return waits("%s", guarded(v))
	}
	if e.Spec.Promote != "automatic" {
		return stuck("promotion: %s: kn experiment promote %s", text, e.Name)
	}
	e.Status.Phase, e.Status.Open = Promoting, experiment.Open{Treatment: experiment.Slots}
	return r.transition(ctx, e, "promoting", reason{r.Actor, text, v.Figures})
}

// holds says what the present step waits for; nothing where it is over. Units are capped at what the step can have.
func (e *Experiment) holds(v experiment.Verdict, now time.Time) string {
	hold, step := e.Spec.Ramp.Hold, e.Spec.Ramp.Steps[e.Status.Step]
	if until := e.Status.StepAt.Add(time.Duration(hold.Time)); now.Before(until) {
		return fmt.Sprintf("step %s until %s", e.progress(), until.UTC().Format("2006-01-02 15:04:05"))
	}
	if units := min(int64(hold.Units), v.Reachable*int64(step)/100); v.Entered.Min() < units {
		return fmt.Sprintf("%d units in each arm, and has %d and %d", units, v.Entered.Control, v.Entered.Treatment)
	}
	if v.Guardrails != experiment.GuardPass {
		return guarded(v)
	}
	return ""
}

// guarded is what guardrails that do not pass yet wait for.
func guarded(v experiment.Verdict) string {
	return "the guardrails: " + cmp.Or(v.Reason, string(v.Guardrails))
}
