package rollout

import (
	"cmp"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// enter begins a step of the ramp. From then on the edges assign by it.
func (v *View) enter(s Status, step int, because why) Move {
	open := v.Experiment.Spec.Ramp.Steps[step] * experiment.Slots / 100
	s.Phase, s.Step, s.StepAt = experiment.Running, step, metav1.NewTime(v.Now)
	s.Assign.Step, s.Assign.Open = step, experiment.Open{Control: open, Treatment: open}
	return v.transition(s, fmt.Sprintf("running-%d", step), because)
}

// nextRunning returns the next move of an experiment that is Running or Paused. People's wishes come first, then the arms, then the
// readout's judgement, and then the ramp.
func (v *View) nextRunning() Move {
	if m := v.wishedChange(); m != nil {
		return m
	}
	waiting, m := v.keepArms()
	if m != nil {
		return m
	}
	if v.Judged == nil {
		return Judge{}
	}
	if v.Judged.Err != nil {
		return waits("the readout, without which it makes no step: %v", v.Judged.Err)
	}
	m = v.followJudgement(v.Judged.Judgement)
	if _, resting := m.(Rest); resting && waiting.Waits != "" {
		return waiting
	}
	return m
}

// wishedChange returns the move to a pause, out of one, or to a later step, if a person wishes that; otherwise nil.
func (v *View) wishedChange() Move {
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
	return nil
}

// keepArms makes arms that are missing, and makes both arms again if a person wishes a rebase. m is the next move for that. waiting is what
// the arms wait for. The readout's judgement is followed even while they wait, because the untouched Service serves the units of an arm
// that is missing.
func (v *View) keepArms() (waiting Rest, m Move) {
	e := v.Experiment
	if r := e.Spec.Rebase; r != nil && r.Number > e.Status.Rebases { // it replaces a rebase under way, whose arms may never get ready
		return v.beginRebase(r)
	}
	reach, m := v.prepareArms()
	switch r := m.(type) {
	case nil:
	case Rest:
		if v.Blocked != nil { // trying again immediately would not help
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
		return Rest{}, v.transition(s, fmt.Sprintf("rebased-%d", s.Rebases), v.wished("both arms were made again from the Services as they are now"))
	case !e.armedAt(reach): // somebody deleted them, and they exist again
		s.Assign.arm(reach, v.Now)
		return Rest{}, Write{Status: s}
	}
	return Rest{}, nil
}

// beginRebase returns the move that writes the new bases, the Services as they are now, into the status. If a Service does not allow that
// yet, waiting says why.
func (v *View) beginRebase(r *experiment.Rebase) (waiting Rest, m Move) {
	s := v.status()
	s.Rebasing, s.Rebases = true, r.Number
	for i, base := range s.Bases {
		present := v.Services[base.Name]
		if !present.Settled || present.Created != present.Ready {
			return waits("the newest revision of %s to be ready, before the rebase", base.Name), nil
		}
		image := cmp.Or(string(r.Image[base.Name]), base.Treatment)
		if err := v.Experiment.checkService(present, image); err != nil {
			return stalled(reasonRefused, "no rebase: %s", err), nil
		}
		s.Bases[i].Revision, s.Bases[i].Image, s.Bases[i].Treatment = present.Ready, present.Image, image
	}
	return Rest{}, Write{Status: s}
}

// followJudgement does what the readout's judgement calls for: it rolls back, promotes, waits for a person, or makes the next step when the
// hold of the present step is over.
func (v *View) followJudgement(j experiment.Judgement) Move {
	e := v.Experiment
	rollBack := func(text string) Move {
		return v.conclude(experiment.WasRolledBack, why{v.Actor, text, j.Figures})
	}
	if e.Spec.End == experiment.Promoted {
		return v.wishedPromotion(j)
	}
	if j.Guardrails == experiment.GuardBreach {
		return rollBack(j.Reason)
	}
	if e.Status.Phase == experiment.Paused {
		return waits("a person to resume it: %s", cmp.Or(e.Spec.Why, "paused"))
	}
	if j.Health != "" {
		return stalled(reasonHealth, "no step and no verdict while a health check is red: %s", j.Health)
	}
	switch j.Decision {
	case experiment.Harm, experiment.NotWorthIt:
		return rollBack(j.Sentence)
	case experiment.Win:
		return v.promoteWinner(j)
	case experiment.Inconclusive:
		return stalled(reasonDecision, "a person to end it, because it is inconclusive: %s", j.Sentence)
	}
	return v.nextStep(j)
}

// nextStep makes the next step of the ramp when the hold is over and, if the ramp requires it, a person has approved the step. After the
// last step, requests as the unit are promoted; other units wait for a verdict.
func (v *View) nextStep(j experiment.Judgement) Move {
	e := v.Experiment
	if left := e.holdLeft(j, v.Now); left != "" {
		return waits("%s", left)
	}
	next := e.Status.Step + 1
	switch {
	case next < len(e.Spec.Ramp.Steps) && e.Spec.Ramp.Approve == "manual" && e.Spec.Approved < next:
		return stalled(reasonDecision, "approval of step %d: kn experiment approve %s", next+1, e.Name)
	case next < len(e.Spec.Ramp.Steps):
		return v.enter(v.status(), next, why{v.Actor, "the hold of the step before is over, and every guardrail passes", j.Figures})
	case e.Spec.Unit == experiment.Request: // only guardrails judge it, and they pass
		return v.promoteWinner(j)
	}
	return waits("a verdict: %s", cmp.Or(j.Sentence, "not yet"))
}

// promoteWinner promotes a treatment that wins, or waits for a person to do so. A guardrail that is still inconclusive may yet be breached,
// so the promotion waits until it passes.
func (v *View) promoteWinner(j experiment.Judgement) Move {
	e := v.Experiment
	if j.Guardrails != experiment.GuardPass {
		return waits("%s", guardrailsLeft(j))
	}
	text := cmp.Or(j.Sentence, "every guardrail passes")
	if e.Spec.Promote != "automatic" {
		return stalled(reasonDecision, "promotion: %s: kn experiment promote %s", text, e.Name)
	}
	return v.beginPromotion(why{v.Actor, text, j.Figures})
}

// holdLeft returns what the hold of the present step still waits for; empty if it is over. It waits for no more units than the step can
// have.
func (e *Experiment) holdLeft(j experiment.Judgement, now time.Time) string {
	hold, step := e.Spec.Ramp.Hold, e.Spec.Ramp.Steps[e.Status.Step]
	if until := e.Status.StepAt.Add(hold.Least()); now.Before(until) {
		return fmt.Sprintf("step %s until %s", e.progress(), until.UTC().Format("2006-01-02 15:04:05"))
	}
	if units := min(int64(hold.Units), j.Reachable*int64(step)/100); j.Entered.Min() < units {
		return fmt.Sprintf("%d units in each arm; there are %d and %d", units, j.Entered.Control, j.Entered.Treatment)
	}
	if j.Guardrails != experiment.GuardPass {
		return guardrailsLeft(j)
	}
	return ""
}

// guardrailsLeft returns what guardrails that do not pass yet wait for.
func guardrailsLeft(j experiment.Judgement) string {
	return "the guardrails: " + cmp.Or(j.Reason, string(j.Guardrails))
}
