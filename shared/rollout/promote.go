package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// wishedPromotion is of a promotion that a person wants. What speaks against it has to be said away, and a pause to be over.
func (v *View) wishedPromotion(verdict experiment.Verdict) Move {
	e := v.Experiment
	if !e.Spec.Anyway {
		switch {
		case verdict.Guardrails == experiment.GuardBreach:
			return stalled(reasonPromotion, "no promotion, for a guardrail is breached: %s; `kn experiment promote %s --anyway` promotes it, `rollback` ends it", verdict.Reason, e.Name)
		case verdict.Health != "":
			return stalled(reasonPromotion, "no promotion, for its health is red: %s; `kn experiment promote %s --anyway` promotes it, `rollback` ends it", verdict.Health, e.Name)
		}
	}
	if e.Status.Phase == experiment.Paused {
		return waits("a person to resume it, before the promotion that is wished")
	}
	return v.promotion(v.wished("a person has promoted it"))
}

// promotion begins one, where the Services may be written.
func (v *View) promotion(because why) Move {
	e := v.Experiment
	if r := e.Spec.Rebase; e.Status.Rebasing || r != nil && r.Number > e.Status.Rebases {
		return waits("the rebase, before the promotion")
	}
	if refused := v.notOurs(); refused != nil {
		return refused
	}
	s := v.status()
	s.Phase, s.StepAt = experiment.Promoting, metav1.NewTime(v.Now)
	s.Assign.Open = e.stages()[0]
	return v.transition(s, "promoting", because)
}

// notOurs says why steer may not give the Services the treatment; nil where it may, or need not.
func (v *View) notOurs() Move {
	e := v.Experiment
	image := slices.ContainsFunc(e.Status.Bases, func(b Base) bool { return b.Treatment != "" })
	if drifted := v.drifted(); len(drifted) > 0 && image {
		return stalled(reasonPromotion, "no promotion, for %s was deployed anew, and the treatment's image is of before: `kn experiment rebase %s --image ...` first", strings.Join(drifted, ", "), e.Name)
	}
	if e.Spec.PromoteBy == "git" {
		return nil
	}
	for _, base := range e.Status.Bases {
		s := v.Services[base.Name]
		if e.has(s) {
			continue
		}
		if s.Manager != "" {
			return stalled(reasonManaged, "no promotion, for %s applies %s again and again, and would take it back: expected promoteBy git, and `kn experiment promote %s --write`", s.Manager, s.Name, e.Name)
		}
		if !s.Latest {
			return stalled(reasonManaged, "no promotion, for the newest revision of %s has not all of its traffic: expected that, or nobody would get the treatment", s.Name)
		}
	}
	return nil
}

// drifted are the Services that have been deployed anew since the arms were made of them.
func (v *View) drifted() (names []string) {
	for _, base := range v.Experiment.Status.Bases {
		if s := v.Services[base.Name]; s != nil && s.Ready != base.Revision && !v.Experiment.has(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// stages are how many slots are open while the treatment becomes what everyone has, a minute each: control's pass to it by
// the remaining steps; the Services are given the treatment; and what is open closes, so that they warm under real traffic.
func (e *Experiment) stages() (opening []experiment.Open) {
	steps := e.Spec.Ramp.Steps
	control := steps[min(e.Status.Step, len(steps)-1)] * experiment.Slots / 100
	for _, step := range append(slices.Clone(steps[min(e.Status.Step, len(steps)-1):]), 50) {
		open := experiment.Open{Treatment: 2 * step * experiment.Slots / 100}
		open.Control = min(control, experiment.Slots-open.Treatment)
		if len(opening) == 0 || opening[len(opening)-1] != open {
			opening = append(opening, open)
		}
	}
	return opening
}

// closing are the stages after the Services have the treatment.
var closing = []experiment.Open{{Treatment: experiment.Slots / 2}, {Treatment: experiment.Slots / 4}, {}}

// promote moves a promotion: by stages until all slots are the treatment's, then the Services, then by stages until none is.
func (v *View) promote() Move {
	e := v.Experiment
	switch reach, m := v.arms(); m := m.(type) { // what it waits for keeps nobody: the untouched Service serves meanwhile
	case nil:
		if !e.armedAt(reach) {
			s := v.status()
			s.Assign.arm(reach, v.Now)
			return Write{Status: s}
		}
	case Rest:
	default:
		return m
	}
	open, given := e.Status.Assign.Open, len(e.Status.Given) > 0
	left := e.Status.StepAt.Add(stage)
	if all := (experiment.Open{Treatment: experiment.Slots}); open != all && !given {
		if v.Now.Before(left) {
			return v.untilStage(left, "stage %s of the promotion", e.progress())
		}
		stages := e.stages()
		return v.toStage(stages[min(slices.Index(stages, open)+1, len(stages)-1)])
	}
	if m := v.give(); m != nil {
		return m
	}
	if at := slices.Index(closing, open); at == len(closing)-1 {
		return v.conclude(experiment.WasPromoted, why{v.Actor, "the treatment is what everyone has", nil})
	} else if v.Now.Before(left) {
		return v.untilStage(left, "the Services to warm: %s of the slots still go to the arms", e.progress())
	} else {
		return v.toStage(closing[at+1])
	}
}

func (v *View) untilStage(left time.Time, format string, args ...any) Move {
	return v.until(left, format+", until "+left.UTC().Format("15:04:05"), args...)
}

// until rests; looking again before then is not worth while.
func (v *View) until(then time.Time, format string, args ...any) Move {
	r := waits(format, args...)
	r.Until = then
	return r
}

func (v *View) toStage(open experiment.Open) Move {
	s := v.status()
	s.StepAt, s.Assign.Open = metav1.NewTime(v.Now), open
	return v.transition(s, fmt.Sprintf("promoting-%d-%d", open.Control, open.Treatment), why{v.Actor, "the next stage of the promotion", nil})
}

// has tells whether what everyone gets of a Service is the treatment.
func (e *Experiment) has(s *Service) bool {
	for name, value := range e.env() {
		if has, there := s.Env[name]; !there || has != value {
			return false
		}
	}
	base := e.base(s.Name)
	return base == nil || base.Treatment == "" || s.Wished == base.Treatment || s.Image == base.Treatment
}

// give gives every Service the treatment, or waits until its manifests have, and until its newest revision serves everybody;
// nil once that is so.
func (v *View) give() Move {
	e := v.Experiment
	for _, base := range e.Status.Bases {
		s := v.Services[base.Name]
		_, before := e.Status.Given[base.Name]
		switch has := e.has(s); {
		case has && !before:
			next := v.status()
			next.Given = maps.Clone(next.Given)
			if next.Given == nil {
				next.Given = make(map[string]int64)
			}
			next.Given[base.Name] = v.Now.Unix()
			next.StepAt = metav1.NewTime(v.Now)
			return Write{Status: next}
		case has && (!s.Settled || s.Created != s.Ready || !s.Latest):
			return waits("the newest revision of %s, which has the treatment, to serve everybody", s.Name)
		case has:
		case before:
			return stalled(reasonReverted, "somebody has taken the treatment from %s again: it is not written once more, and the arms stay; `kn experiment stop %s` ends it", s.Name, e.Name)
		case e.Spec.PromoteBy == "git":
			return v.until(v.Now.Add(stage), "the manifests of %s to bring the treatment: kn experiment promote %s --write", s.Name, e.Name)
		default:
			if refused := v.notOurs(); refused != nil {
				return refused
			}
			return Give{Service: s, Env: e.env(), Image: base.Treatment}
		}
	}
	return nil
}
