package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// wishedPromotion returns the next move if a person wishes a promotion. A breached guardrail or a red health check refuses it, unless the
// person overrules them. A pause has to be over first.
func (v *View) wishedPromotion(j experiment.Judgement) Move {
	e := v.Experiment
	if !e.Spec.Anyway {
		switch {
		case j.Guardrails == experiment.GuardBreach:
			return stalled(reasonPromotion, "no promotion, because a guardrail is breached: %s; `kn experiment promote %s --anyway` promotes it, `rollback` ends it", j.Reason, e.Name)
		case j.Health != "":
			return stalled(reasonPromotion, "no promotion, because a health check is red: %s; `kn experiment promote %s --anyway` promotes it, `rollback` ends it", j.Health, e.Name)
		}
	}
	if e.Status.Phase == experiment.Paused {
		return waits("a person to resume it, before the promotion")
	}
	return v.beginPromotion(v.wished("a person has promoted it"))
}

// beginPromotion begins a promotion, if the Services may be written.
func (v *View) beginPromotion(because why) Move {
	e := v.Experiment
	if r := e.Spec.Rebase; e.Status.Rebasing || r != nil && r.Number > e.Status.Rebases {
		return waits("the rebase, before the promotion")
	}
	if refused := v.refusedPromotion(); refused != nil {
		return refused
	}
	s := v.status()
	s.Phase, s.StepAt = experiment.Promoting, metav1.NewTime(v.Now)
	s.Assign.Open = e.stages()[0]
	return v.transition(s, "promoting", because)
}

// refusedPromotion returns why the Services must not get the treatment; nil if they may, or if steer does not write them.
func (v *View) refusedPromotion() Move {
	e := v.Experiment
	ownImage := slices.ContainsFunc(e.Status.Bases, func(b Base) bool { return b.Treatment != "" })
	if drifted := v.drifted(); len(drifted) > 0 && ownImage {
		return stalled(reasonPromotion, "no promotion, because the treatment's image is older than the last deployment of %s: `kn experiment rebase %s --image ...` first", strings.Join(drifted, ", "), e.Name)
	}
	if e.Spec.PromoteBy == "git" {
		return nil
	}
	for _, base := range e.Status.Bases {
		s := v.Services[base.Name]
		if e.hasTreatment(s) {
			continue
		}
		if s.Manager != "" {
			return stalled(reasonManaged, "no promotion, because %s manages %s and would remove the treatment again: expected promoteBy git, and `kn experiment promote %s --write`", s.Manager, s.Name, e.Name)
		}
		if !s.Latest {
			return stalled(reasonManaged, "no promotion, because the newest revision of %s does not have all of its traffic: expected 100 percent, so that everyone gets the treatment", s.Name)
		}
	}
	return nil
}

// drifted returns the names of the Services that have been deployed since the arms were made, other than with the treatment.
func (v *View) drifted() (names []string) {
	for _, base := range v.Experiment.Status.Bases {
		if s := v.Services[base.Name]; s != nil && s.Ready != base.Revision && !v.Experiment.hasTreatment(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// stages returns how many slots are open in each stage until the treatment has all of them. The treatment grows by the ramp's remaining
// steps, and takes over control's slots at the end. After these stages the Services get the treatment, and the slots close again: see
// closing.
func (e *Experiment) stages() (opening []experiment.Open) {
	remaining := e.Spec.Ramp.Steps
	remaining = remaining[min(e.Status.Step, len(remaining)-1):]
	control := remaining[0] * experiment.Slots / 100
	for _, step := range append(slices.Clone(remaining), 50) {
		open := experiment.Open{Treatment: 2 * step * experiment.Slots / 100}
		open.Control = min(control, experiment.Slots-open.Treatment)
		if len(opening) == 0 || opening[len(opening)-1] != open {
			opening = append(opening, open)
		}
	}
	return opening
}

// closing has the stages after the Services have got the treatment. The slots close step by step, so that the Services' new pods start
// under real traffic.
var closing = []experiment.Open{{Treatment: experiment.Slots / 2}, {Treatment: experiment.Slots / 4}, {}}

// nextPromoting returns the next move of a promotion: it gives the treatment all slots, stage by stage, writes it into the Services, and
// then closes the slots, stage by stage.
func (v *View) nextPromoting() Move {
	if m := v.keepPromotedArms(); m != nil {
		return m
	}
	e := v.Experiment
	open, begunToTreat := e.Status.Assign.Open, len(e.Status.Treated) > 0
	stageEnd := e.Status.StepAt.Add(stage)
	if all := (experiment.Open{Treatment: experiment.Slots}); open != all && !begunToTreat {
		if v.Now.Before(stageEnd) {
			return v.untilStage(stageEnd, "stage %s of the promotion", e.progress())
		}
		stages := e.stages()
		return v.toStage(stages[min(slices.Index(stages, open)+1, len(stages)-1)])
	}
	if m := v.treatServices(); m != nil {
		return m
	}
	at := slices.Index(closing, open) // -1 before the first of these stages
	if at == len(closing)-1 {
		return v.conclude(experiment.WasPromoted, v.byDriver("everyone has the treatment"))
	}
	if v.Now.Before(stageEnd) {
		return v.untilStage(stageEnd, "the Services' new pods to start: %s of the slots still go to the arms", e.progress())
	}
	return v.toStage(closing[at+1])
}

// keepPromotedArms returns the move that makes arms that are missing, and nil if they exist or only need time. The promotion does not wait
// for them, because the untouched Service serves their units meanwhile.
func (v *View) keepPromotedArms() Move {
	reach, m := v.prepareArms()
	if _, resting := m.(Rest); resting {
		return nil
	}
	if m == nil && !v.Experiment.armedAt(reach) {
		s := v.status()
		s.Assign.arm(reach, v.Now)
		return Write{Status: s}
	}
	return m
}

// untilStage rests until the present stage of a promotion ends.
func (v *View) untilStage(end time.Time, format string, args ...any) Move {
	return v.restUntil(end, format+", until "+end.UTC().Format("15:04:05"), args...)
}

// restUntil rests. Nothing is expected to change before then.
func (v *View) restUntil(then time.Time, format string, args ...any) Move {
	r := waits(format, args...)
	r.Until = then
	return r
}

func (v *View) toStage(open experiment.Open) Move {
	s := v.status()
	s.StepAt, s.Assign.Open = metav1.NewTime(v.Now), open
	return v.transition(s, fmt.Sprintf("promoting-%d-%d", open.Control, open.Treatment), v.byDriver("the next stage of the promotion"))
}

// hasTreatment reports whether a Service itself has the treatment.
func (e *Experiment) hasTreatment(s *Service) bool {
	for name, want := range e.treatmentEnv() {
		if value, set := s.Env[name]; !set || value != want {
			return false
		}
	}
	base := e.base(s.Name)
	return base == nil || base.Treatment == "" || s.Wished == base.Treatment || s.Image == base.Treatment
}

// treatServices returns the next move until every Service has the treatment and its newest revision serves everybody; then nil.
func (v *View) treatServices() Move {
	for _, base := range v.Experiment.Status.Bases {
		if m := v.treatService(base); m != nil {
			return m
		}
	}
	return nil
}

// treatService writes the treatment into a Service, or waits until the manifests bring it. It notes in the status when the Service has the
// treatment, and waits until the newest revision serves everybody; then it returns nil. If somebody removes the treatment after that, it
// does not write it again.
func (v *View) treatService(base Base) Move {
	e := v.Experiment
	s := v.Services[base.Name]
	_, noted := e.Status.Treated[base.Name]
	switch has := e.hasTreatment(s); {
	case has && !noted:
		return v.noteTreatment(base.Name)
	case has && (!s.Settled || s.Created != s.Ready || !s.Latest):
		return waits("the newest revision of %s, which has the treatment, to serve everybody", s.Name)
	case has:
		return nil
	case noted:
		return stalled(reasonReverted, "somebody has removed the treatment from %s: steer does not write it again, and the arms stay; `kn experiment stop %s` ends it", s.Name, e.Name)
	case e.Spec.PromoteBy == "git":
		return v.restUntil(v.Now.Add(stage), "the manifests of %s to bring the treatment: kn experiment promote %s --write", s.Name, e.Name)
	}
	if refused := v.refusedPromotion(); refused != nil {
		return refused
	}
	return Give{Service: s, Env: e.treatmentEnv(), Image: base.Treatment}
}

// noteTreatment writes into the status that a Service has the treatment, since now.
func (v *View) noteTreatment(service string) Move {
	s := v.status()
	if s.Treated == nil {
		s.Treated = make(map[string]int64)
	}
	s.Treated[service] = v.Now.Unix()
	s.StepAt = metav1.NewTime(v.Now)
	return Write{Status: s}
}
