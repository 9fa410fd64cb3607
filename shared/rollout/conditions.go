package rollout

import (
	"cmp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// The conditions, by the conventions that kstatus reads: Ready is true in every phase that is at rest, Reconciling is there
// only on the way, and Stalled only where somebody has to act.
const (
	conditionReady       = "Ready"
	conditionReconciling = "Reconciling"
	conditionStalled     = "Stalled"
	conditionHealthy     = "Healthy"
	conditionGuardrails  = "GuardrailsPassing"
	conditionDrifted     = "BaseDrifted"
	conditionConcluded   = "Concluded"
)

// Stalled returns why somebody has to act, and in one word; empty where nobody has. What only waits for a decision, as to
// promote, is at rest: it is no failure, and the condition Ready says it.
func (e *Experiment) Stalled() (message, reason string) {
	if c := meta.FindStatusCondition(e.Status.Conditions, conditionReady); c != nil && c.Reason == reasonDecision {
		return c.Message, c.Reason
	}
	if c := meta.FindStatusCondition(e.Status.Conditions, conditionStalled); c != nil && c.Status == metav1.ConditionTrue {
		return c.Message, c.Reason
	}
	return "", ""
}

// Moving tells whether it is on its way, and only takes its time: looking again soon is worth while.
func (e *Experiment) Moving() bool {
	c := meta.FindStatusCondition(e.Status.Conditions, conditionReconciling)
	return c != nil && c.Status == metav1.ConditionTrue
}

// conclusions are the reasons of the condition Concluded.
var conclusions = map[experiment.Conclusion]string{
	experiment.WasPromoted: "Promoted", experiment.WasRolledBack: "RolledBack", experiment.WasStopped: "Stopped",
}

// condition gives s the conditions of a status that came of a view, with what its experiment rests on.
func (v *View) condition(s *Status, rest Rest) {
	phase := cmp.Or(s.Phase, experiment.Draft)
	set := func(kind string, holds bool, reason, message string) {
		status := metav1.ConditionFalse
		if holds {
			status = metav1.ConditionTrue
		}
		const most = 32768 // bytes that the API server keeps of one
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message[:min(len(message), most)],
			ObservedGeneration: v.Experiment.Generation, LastTransitionTime: metav1.NewTime(v.Now.Truncate(time.Second)),
		})
	}
	only := func(kind string, there bool, reason, message string) {
		if there {
			set(kind, true, reason, message)
		} else {
			meta.RemoveStatusCondition(&s.Conditions, kind)
		}
	}
	onItsWay := phase == experiment.Warming || phase == experiment.Promoting || phase.Runs() && (s.Rebasing || s.Assign.ArmedAt.IsZero())
	only(conditionReconciling, onItsWay && rest.Reason == "", string(phase), rest.Waits)
	if rest.Reason == reasonDecision {
		only(conditionStalled, false, "", "")
		set(conditionReady, true, reasonDecision, rest.Waits)
	} else {
		only(conditionStalled, rest.Reason != "", rest.Reason, rest.Waits)
		set(conditionReady, !onItsWay && rest.Reason == "", string(phase), rest.Waits)
	}
	only(conditionConcluded, s.Conclusion != "", cmp.Or(conclusions[s.Conclusion], "None"), s.Because)
	if phase.Runs() && v.Services != nil {
		drifted := v.drifted()
		set(conditionDrifted, len(drifted) > 0, map[bool]string{true: "DeployedAnew", false: "AsAtTheStart"}[len(drifted) > 0], strings.Join(drifted, ", "))
	}
	if v.Judged == nil || v.Judged.Err != nil {
		return
	}
	verdict := v.Judged.Verdict
	set(conditionHealthy, verdict.Health == "", map[bool]string{true: "EveryCheckPasses", false: "ACheckIsRed"}[verdict.Health == ""], verdict.Health)
	reason := map[experiment.Guard]string{experiment.GuardPass: "Pass", experiment.GuardBreach: "Breach", experiment.GuardInconclusive: "Inconclusive"}[verdict.Guardrails]
	set(conditionGuardrails, verdict.Guardrails == experiment.GuardPass, cmp.Or(reason, "Unknown"), verdict.Reason)
}
