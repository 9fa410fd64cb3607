package rollout

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// enter comes to a step of the ramp: the edges assign by it from now on.
func (v *View) enter(s Status, step int, because why) Move {
	open := v.Experiment.Spec.Ramp.Steps[step] * experiment.Slots / 100
	s.Phase, s.Step, s.StepAt = experiment.Running, step, metav1.NewTime(v.Now)
	s.Assign.Step, s.Assign.Open = step, experiment.Open{Control: open, Treatment: open}
	return v.transition(s, fmt.Sprintf("running-%d", step), because)
}

// run is of a running experiment: what people want comes first, then its arms, then what the readout says, then the ramp.
func (v *View) run() Move {
	e := v.Experiment
	s, paused := v.status(), e.Status.Phase == experiment.Paused
	switch wishes := e.Spec.Wishes; {
	case wishes.Paused && !paused:
		s.Phase = experiment.Paused
		return v.transition(s, fmt.Sprintf("paused-%d", e.Generation), v.wished("a person has paused it"))
	case !wishes.Paused && paused:
		s.Phase = experiment.Running
		return v.transition(s, fmt.Sprintf("resumed-%d", e.Generation), v.wished("a person has resumed it"))
	case wishes.Step > e.Status.Step && wishes.Step < len(e.Spec.Ramp.Steps) && !paused:
		return v.enter(s, wishes.Step, v.wished("a person has made the step"))
	}
	waiting, m := v.keep()
	if m != nil {
		return m
	}
	if v.Judged == nil {
		return Judge{}
	}
	if v.Judged.Err != nil {
		return waits("a readout, and holds: %v", v.Judged.Err)
	}
	m = v.follow(v.Judged.Verdict)
	if _, resting := m.(Rest); resting && waiting.Waits != "" {
		return waiting
	}
	return m
}

// keep has the arms be there, and makes them anew where that is wished. What it waits for does not keep the readout from
// being followed: whoever is in an arm that is not there is served by the untouched Service meanwhile.
func (v *View) keep() (waiting Rest, m Move) {
	e := v.Experiment
	if r := e.Spec.Rebase; r != nil && r.Number > e.Status.Rebases { // one that is under way gives way: its arms may never get ready
		s := v.status()
		s.Rebasing, s.Rebases = true, r.Number
		for i, base := range s.Bases {
			present := v.Services[base.Name]
			if !present.Settled || present.Created != present.Ready {
				return waits("the newest revision of %s, which the arms are to be made of", base.Name), nil
			}
			image := cmp.Or(string(r.Image[base.Name]), base.Treatment)
			if err := e.fits(present, image); err != nil {
				return stalled(reasonRefused, "no rebase: %s", err), nil
			}
			s.Bases[i].Revision, s.Bases[i].Image, s.Bases[i].Treatment = present.Ready, present.Image, image
		}
		return Rest{}, Write{Status: s}
	}
	reach, m := v.arms()
	switch r := m.(type) {
	case nil:
	case Rest:
		if v.Blocked != nil { // trying again at once would not help
			r.Until = v.Now.Add(stage)
		}
		return r, nil
	default:
		return Rest{}, m
	}
	switch s := v.status(); {
	case e.Status.Rebasing:
		s.Rebasing = false
		s.Assign.arm(reach, v.Now)
		return Rest{}, v.transition(s, fmt.Sprintf("rebased-%d", s.Rebases), v.wished("a break: both arms are made of the Services as they are now"))
	case !e.armedAt(reach): // somebody took them away, and they are back
		s.Assign.arm(reach, v.Now)
		return Rest{}, Write{Status: s}
	}
	return Rest{}, nil
}

// follow does what the readout says, and makes the next step when its time has come.
func (v *View) follow(verdict experiment.Verdict) Move {
	e := v.Experiment
	lost := func(text string) Move {
		return v.conclude(experiment.WasRolledBack, why{v.Actor, text, verdict.Figures})
	}
	if e.Spec.End == experiment.Promoted {
		return v.wishedPromotion(verdict)
	}
	if verdict.Guardrails == experiment.GuardBreach {
		return lost(verdict.Reason)
	}
	if e.Status.Phase == experiment.Paused {
		return waits("a person to resume it: %s", cmp.Or(e.Spec.Why, "paused"))
	}
	if verdict.Health != "" {
		return stalled(reasonHealth, "holds, its health is red: %s", verdict.Health)
	}
	switch verdict.Decision {
	case experiment.Harm, experiment.NotWorthIt:
		return lost(verdict.Sentence)
	case experiment.Win:
		return v.won(verdict)
	case experiment.Inconclusive:
		return stalled(reasonDecision, "holds, inconclusive: %s", verdict.Sentence)
	}
	if left := e.holds(verdict, v.Now); left != "" {
		return waits("%s", left)
	}
	next := e.Status.Step + 1
	switch {
	case next < len(e.Spec.Ramp.Steps) && e.Spec.Ramp.Approve == "manual" && e.Spec.Approved < next:
		return stalled(reasonDecision, "approval of step %d: kn experiment approve %s", next+1, e.Name)
	case next < len(e.Spec.Ramp.Steps):
		return v.enter(v.status(), next, why{v.Actor, "the step before was held, and no guardrail is against it", verdict.Figures})
	case e.Spec.Unit == experiment.Request: // guardrails alone judge, and they pass
		return v.won(verdict)
	}
	return waits("a verdict: %s", cmp.Or(verdict.Sentence, "not yet"))
}

// won is of a win. An open guardrail may yet turn out to be breached, so it counts as no pass here either.
func (v *View) won(verdict experiment.Verdict) Move {
	e := v.Experiment
	text := cmp.Or(verdict.Sentence, "every guardrail passes")
	if verdict.Guardrails != experiment.GuardPass {
		return waits("%s", guarded(verdict))
	}
	if e.Spec.Promote != "automatic" {
		return stalled(reasonDecision, "promotion: %s: kn experiment promote %s", text, e.Name)
	}
	return v.promotion(why{v.Actor, text, verdict.Figures})
}

// holds says what the present step waits for; nothing where it is over. Units are capped at what the step can have.
func (e *Experiment) holds(verdict experiment.Verdict, now time.Time) string {
	hold, step := e.Spec.Ramp.Hold, e.Spec.Ramp.Steps[e.Status.Step]
	if until := e.Status.StepAt.Add(hold.Least()); now.Before(until) {
		return fmt.Sprintf("step %s until %s", e.progress(), until.UTC().Format("2006-01-02 15:04:05"))
	}
	if units := min(int64(hold.Units), verdict.Reachable*int64(step)/100); verdict.Entered.Min() < units {
		return fmt.Sprintf("%d units in each arm; there are %d and %d", units, verdict.Entered.Control, verdict.Entered.Treatment)
	}
	if verdict.Guardrails != experiment.GuardPass {
		return guarded(verdict)
	}
	return ""
}

// guarded is what guardrails that do not pass yet wait for.
func guarded(verdict experiment.Verdict) string {
	return "the guardrails: " + cmp.Or(verdict.Reason, string(verdict.Guardrails))
}
