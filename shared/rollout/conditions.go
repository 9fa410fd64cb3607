package rollout

import (
	"cmp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// The conditions follow the conventions that kstatus reads. Ready is true in every phase in which steer is not in the middle of a change.
// Reconciling is present only during a change, and Stalled only while a person has to act.
const (
	conditionReady       = "Ready"
	conditionReconciling = "Reconciling"
	conditionStalled     = "Stalled"
	conditionHealthy     = "Healthy"
	conditionGuardrails  = "GuardrailsPassing"
	conditionDrifted     = "BaseDrifted"
	conditionConcluded   = "Concluded"
)

// Stalled returns why a person has to act, as a message and as one word; both are empty if nobody has to. An experiment that only waits for
// a decision, for example whether to promote it, has not failed. Then the condition Ready has the message, not the condition Stalled.
func (e *Experiment) Stalled() (message, reason string) {
	if c := meta.FindStatusCondition(e.Status.Conditions, conditionReady); c != nil && c.Reason == reasonDecision {
		return c.Message, c.Reason
	}
	if c := meta.FindStatusCondition(e.Status.Conditions, conditionStalled); c != nil && c.Status == metav1.ConditionTrue {
		return c.Message, c.Reason
	}
	return "", ""
}

// Moving reports whether a change is under way that needs only time, so that it is worth looking again soon.
func (e *Experiment) Moving() bool {
	c := meta.FindStatusCondition(e.Status.Conditions, conditionReconciling)
	return c != nil && c.Status == metav1.ConditionTrue
}

// conclusions has the reason of the condition Concluded for each conclusion.
var conclusions = map[experiment.Conclusion]string{
	experiment.WasPromoted: "Promoted", experiment.WasRolledBack: "RolledBack", experiment.WasStopped: "Stopped",
}

// setConditions sets the conditions of a new status. rest is what the experiment waits for; the zero Rest if it does not wait.
func (v *View) setConditions(s *Status, rest Rest) {
	phase := cmp.Or(s.Phase, experiment.Draft)
	set := func(kind string, holds bool, reason, message string) {
		status := metav1.ConditionFalse
		if holds {
			status = metav1.ConditionTrue
		}
		const most = 32768 // bytes that the API server allows in a message
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message[:min(len(message), most)],
			ObservedGeneration: v.Experiment.Generation, LastTransitionTime: metav1.NewTime(v.Now.Truncate(time.Second)),
		})
	}
	setOnlyIf := func(holds bool, kind, reason, message string) {
		if holds {
			set(kind, true, reason, message)
		} else {
			meta.RemoveStatusCondition(&s.Conditions, kind)
		}
	}
	changing := phase == experiment.Warming || phase == experiment.Promoting || phase.Runs() && (s.Rebasing || s.Assign.ArmedAt.IsZero())
	setOnlyIf(changing && rest.Reason == "", conditionReconciling, string(phase), rest.Waits)
	if rest.Reason == reasonDecision {
		meta.RemoveStatusCondition(&s.Conditions, conditionStalled)
		set(conditionReady, true, reasonDecision, rest.Waits)
	} else {
		setOnlyIf(rest.Reason != "", conditionStalled, rest.Reason, rest.Waits)
		set(conditionReady, !changing && rest.Reason == "", string(phase), rest.Waits)
	}
	setOnlyIf(s.Conclusion != "", conditionConcluded, cmp.Or(conclusions[s.Conclusion], "None"), s.Because)
	if phase.Runs() && v.Services != nil {
		drifted := v.drifted()
		set(conditionDrifted, len(drifted) > 0, map[bool]string{true: "DeployedSince", false: "AsAtTheStart"}[len(drifted) > 0], strings.Join(drifted, ", "))
	}
	if v.Judged == nil || v.Judged.Err != nil {
		return
	}
	j := v.Judged.Judgement
	set(conditionHealthy, j.Health == "", map[bool]string{true: "EveryCheckPasses", false: "ACheckIsRed"}[j.Health == ""], j.Health)
	reason := map[experiment.Guard]string{experiment.GuardPass: "Pass", experiment.GuardBreach: "Breach", experiment.GuardInconclusive: "Inconclusive"}[j.Guardrails]
	set(conditionGuardrails, j.Guardrails == experiment.GuardPass, cmp.Or(reason, "Unknown"), j.Reason)
}
