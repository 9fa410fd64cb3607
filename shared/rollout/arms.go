package rollout

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

// arms makes what is missing of the arms: of each Service both, then the way to them, and ends when every host has answered
// with its revision; those of guests, whose answers name none, when the way to them is ready. reach is where they are then; until then m is the move, or what it waits for.
func (v *View) arms() (reach []ServiceReach, m Move) {
	e := v.Experiment
	for _, step := range []func(Base) Move{v.makeArms, v.putRoute} {
		var waiting []string
		reason := ""
		for _, base := range e.Status.Bases {
			switch m := step(base).(type) {
			case nil:
			case Rest:
				waiting = append(waiting, m.Waits)
			default:
				if v.Blocked == nil {
					return nil, m
				}
				text := v.Blocked.Error()
				if errors.Is(v.Blocked, ErrTaken) {
					reason, text = reasonTaken, text+": take that away, or give the experiment another name"
				}
				waiting = append(waiting, text)
			}
		}
		if len(waiting) > 0 {
			return nil, Rest{Waits: strings.Join(waiting, "; "), Reason: reason}
		}
	}
	var hosts []string
	for _, base := range e.Status.Bases {
		at := v.Arms[base.Name].Route.Reach
		reach = append(reach, ServiceReach{base.Name, at})
		if v.guest(base.Name) {
			continue
		}
		for _, arm := range experiment.Arms {
			hosts = append(hosts, at.Of(arm).Host)
		}
	}
	if e.armedAt(reach) { // they have answered before
		return reach, nil
	}
	if v.Answers == nil && len(hosts) > 0 {
		return nil, Ask{hosts}
	}
	for _, at := range reach {
		if v.guest(at.Name) {
			continue
		}
		for _, arm := range experiment.Arms {
			side := at.Of(arm)
			switch a := v.Answers[side.Host]; {
			case a.Err != nil:
				return nil, waits("the %s of %s to answer: %v", arm, at.Name, a.Err)
			case a.Revision != side.Revision:
				return nil, waits("the %s of %s to be %s, and not %q", arm, at.Name, side.Revision, a.Revision)
			}
		}
	}
	return reach, nil
}

// guest tells whether a Service is one.
func (v *View) guest(service string) bool {
	s := v.Services[service]
	return s != nil && s.Guest
}

// armed tells whether the arms have answered, and nobody has taken one away since.
func (e *Experiment) armed() bool { return !e.Status.Assign.ArmedAt.IsZero() }

// armedAt tells whether the edges have these arms, which have answered.
func (e *Experiment) armedAt(reach []ServiceReach) bool {
	return e.armed() && slices.Equal(reach, e.Status.Assign.Services)
}

// disarm closes the slots where somebody has taken away an arm, or the way to it; nil where all are there, or that is known.
// They are made again, but whoever was sent there meanwhile would meet an error, and the edges would hold the treatment to be
// what fails.
func (v *View) disarm() Move {
	e := v.Experiment
	gone := func(base Base) bool {
		there := v.Arms[base.Name]
		return there == nil || there.Control == nil || there.Treatment == nil || there.Route == nil
	}
	if e.Status.Phase == experiment.Warming || !e.armed() || !slices.ContainsFunc(e.Status.Bases, gone) {
		return nil
	}
	s := v.status()
	s.Assign.ArmedAt = metav1.MicroTime{}
	return Write{Status: s}
}

// makeArms makes both arms of a Service, and waits for them.
func (v *View) makeArms(base Base) Move {
	e := v.Experiment
	for _, arm := range experiment.Arms {
		if want, there := e.arm(base, arm), v.Arms[base.Name].of(arm); there == nil || there.Of != want.Of {
			return Make{want}
		}
	}
	for _, arm := range experiment.Arms {
		switch there := v.Arms[base.Name].of(arm); {
		case there.Failed != "":
			return waits("the %s of %s, revision %s, which does not get ready: %s", arm, base.Name, there.Revision, there.Failed)
		case !there.Ready:
			return waits("the %s of %s to be ready", arm, base.Name)
		}
	}
	return nil
}

// arm is what an arm of a Service is to be.
func (e *Experiment) arm(base Base, arm experiment.Arm) Arm {
	made := Arm{
		Service: base.Name, Arm: arm, Base: base.Revision, Image: base.Image, Of: fmt.Sprintf("%s/%d", base.Revision, e.Status.Rebases),
		Env: map[string]string{experiment.EnvService: base.Name, experiment.EnvExperiment: e.Name, experiment.EnvArm: string(arm)},
	}
	if arm == experiment.Treatment {
		maps.Copy(made.Env, e.env())
		made.Image = cmp.Or(base.Treatment, base.Image)
	}
	return made
}

// env is what the treatment sets.
func (e *Experiment) env() map[string]string {
	env := make(map[string]string)
	for name, value := range e.Spec.Treatment.Env {
		env[name] = string(value)
	}
	return env
}

// putRoute makes the way to both arms of a Service lead to their newest revisions, and waits for it.
func (v *View) putRoute(base Base) Move {
	there := v.Arms[base.Name]
	want := Route{Service: base.Name, Control: there.Control.Revision, Treatment: there.Treatment.Revision, Percent: v.Experiment.routed()}
	switch way := there.Route; {
	case way == nil || way.Control != want.Control || way.Treatment != want.Treatment || way.Percent != want.Percent:
		return Put{want}
	case !way.InForce:
		return waits("the way to the arms of %s", base.Name)
	}
	return nil
}

// routed is the percent of the requests without a tag that go to the treatment. Only requests that are the unit come so.
func (e *Experiment) routed() int {
	if e.Status.Phase == experiment.Promoting && e.Spec.Unit == experiment.Request {
		return 100
	}
	return 50
}

// warm makes the arms, and ends when every one answers and the baseline has been counted. All the time nobody is assigned. Arms
// that have answered once, before the baseline is over, have the deadline again after it.
func (v *View) warm() Move {
	e := v.Experiment
	reach, m := v.arms()
	counted := e.Status.StartedAt.Add(e.Spec.Metrics.Before())
	deadline := e.Status.StartedAt.Add(time.Duration(*e.Spec.WarmingDeadline))
	if len(e.Status.Assign.Services) > 0 {
		deadline = counted.Add(time.Duration(*e.Spec.WarmingDeadline))
	}
	if r, resting := m.(Rest); resting && !v.Now.Before(deadline) {
		return v.conclude(experiment.WasRolledBack, why{v.Actor, fmt.Sprintf("its arms were not there after %s: it waited for %s", e.Spec.WarmingDeadline, r.Waits), nil})
	}
	if m != nil {
		return m
	}
	s := v.status()
	if v.Now.Before(counted) {
		if !slices.Equal(reach, s.Assign.Services) {
			s.Assign.Services = reach
			return Write{Status: s}
		}
		r := waits("the baseline, which is counted until %s", counted.UTC().Format("2006-01-02 15:04:05"))
		r.Until = counted
		return r
	}
	s.Assign.arm(reach, v.Now)
	return v.enter(s, e.Status.Step, v.wished("every arm answers"))
}

// yields tells whether e has to end because it claims what o has: both have started at the same moment, by two drivers that
// did not see the other's. One that warms yields to one that runs; of two alike the first stays.
func (e *Experiment) yields(o *Experiment) bool {
	ours, theirs := e.Rules(), o.Rules()
	if !o.Status.Phase.Live() || ours.Conflict(&theirs) == nil {
		return false
	}
	if warms := e.Status.Phase == experiment.Warming; warms != (o.Status.Phase == experiment.Warming) {
		return warms
	}
	return o.before(e)
}

// before tells which of two has started first.
func (e *Experiment) before(o *Experiment) bool {
	if !e.Status.StartedAt.Time.Equal(o.Status.StartedAt.Time) {
		return e.Status.StartedAt.Time.Before(o.Status.StartedAt.Time)
	}
	return e.UID < o.UID
}
