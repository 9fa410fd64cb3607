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

// prepareArms makes what is missing: both arms of each Service, and then the route to them. It waits until every host has answered with
// its arm's revision. A guest's answers name no revision, so the arms of a guest only need a route that is ready. At the end, reach is
// where the arms are, and m is nil. Until then m is the next move, or what the arms wait for.
func (v *View) prepareArms() (reach []ServiceReach, m Move) {
	if m := v.forEveryBase(v.makeArms); m != nil {
		return nil, m
	}
	if m := v.forEveryBase(v.putRoute); m != nil {
		return nil, m
	}
	for _, base := range v.Experiment.Status.Bases {
		reach = append(reach, ServiceReach{base.Name, v.Arms[base.Name].Route.Reach})
	}
	if v.Experiment.armedAt(reach) { // these arms have answered before
		return reach, nil
	}
	if m := v.askArms(reach); m != nil {
		return nil, m
	}
	return reach, nil
}

// forEveryBase returns the first move that prepare makes for a base. If it makes none, forEveryBase returns a Rest that names everything
// the bases wait for; nil if they wait for nothing. A move that the driver could not make is something to wait for, too.
func (v *View) forEveryBase(prepare func(Base) Move) Move {
	var waiting []string
	reason := ""
	for _, base := range v.Experiment.Status.Bases {
		switch m := prepare(base).(type) {
		case nil:
		case Rest:
			waiting = append(waiting, m.Waits)
		default:
			if v.Blocked == nil {
				return m
			}
			text := v.Blocked.Error()
			if errors.Is(v.Blocked, ErrTaken) {
				reason, text = reasonTaken, text+": delete that object, or rename the experiment"
			}
			waiting = append(waiting, text)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	return Rest{Waits: strings.Join(waiting, "; "), Reason: reason}
}

// askArms asks the hosts of all arms, except those of guests, and waits for the arm that has not answered with its revision; nil if all
// have.
func (v *View) askArms(reach []ServiceReach) Move {
	var hosts []string
	for _, at := range reach {
		if v.guest(at.Name) {
			continue
		}
		for _, arm := range experiment.Arms {
			hosts = append(hosts, at.Side(arm).Host)
		}
	}
	if v.Answers == nil && len(hosts) > 0 {
		return Ask{hosts}
	}
	for _, at := range reach {
		if v.guest(at.Name) {
			continue
		}
		for _, arm := range experiment.Arms {
			side := at.Side(arm)
			switch answer := v.Answers[side.Host]; {
			case answer.Err != nil:
				return waits("the %s of %s to answer: %v", arm, at.Name, answer.Err)
			case answer.Revision != side.Revision:
				return waits("the %s of %s to answer as %s: it answers as %q", arm, at.Name, side.Revision, answer.Revision)
			}
		}
	}
	return nil
}

// guest reports whether a Service is a guest.
func (v *View) guest(service string) bool {
	s := v.Services[service]
	return s != nil && s.Guest
}

// armed reports whether all arms have answered, and nobody has deleted one since.
func (e *Experiment) armed() bool { return !e.Status.Assign.ArmedAt.IsZero() }

// armedAt reports whether the arms at reach have answered and are in the status, which the edges follow.
func (e *Experiment) armedAt(reach []ServiceReach) bool {
	return e.armed() && slices.Equal(reach, e.Status.Assign.Services)
}

// disarm closes the slots if somebody has deleted an arm, or the route to the arms. It returns nil if all exist, or if the slots are closed
// already. The arms are made again. If the slots stayed open until then, users would get errors, and the edges would blame the treatment.
func (v *View) disarm() Move {
	e := v.Experiment
	incomplete := func(base Base) bool {
		arms := v.Arms[base.Name]
		return arms == nil || arms.Control == nil || arms.Treatment == nil || arms.Route == nil
	}
	if e.Status.Phase == experiment.Warming || !e.armed() || !slices.ContainsFunc(e.Status.Bases, incomplete) {
		return nil
	}
	s := v.status()
	s.Assign.ArmedAt = metav1.MicroTime{}
	return Write{Status: s}
}

// makeArms makes both arms of a Service and waits until they are ready.
func (v *View) makeArms(base Base) Move {
	arms := v.Arms[base.Name]
	for _, arm := range experiment.Arms {
		want, have := v.Experiment.wantedArm(base, arm), arms.state(arm)
		if have == nil || have.Source != want.Source {
			return Make{want}
		}
	}
	for _, arm := range experiment.Arms {
		switch have := arms.state(arm); {
		case have.Failed != "":
			return waits("the %s of %s, revision %s, which does not become ready: %s", arm, base.Name, have.Revision, have.Failed)
		case !have.Ready:
			return waits("the %s of %s to be ready", arm, base.Name)
		}
	}
	return nil
}

// wantedArm returns how an arm of a Service has to be made.
func (e *Experiment) wantedArm(base Base, arm experiment.Arm) Arm {
	wanted := Arm{
		Service: base.Name, Arm: arm, Base: base.Revision, Image: base.Image, Source: fmt.Sprintf("%s/%d", base.Revision, e.Status.Rebases),
		Env: map[string]string{experiment.EnvService: base.Name, experiment.EnvExperiment: e.Name, experiment.EnvArm: string(arm)},
	}
	if arm == experiment.Treatment {
		maps.Copy(wanted.Env, e.treatmentEnv())
		wanted.Image = cmp.Or(base.Treatment, base.Image)
	}
	return wanted
}

// treatmentEnv returns the variables that the treatment sets.
func (e *Experiment) treatmentEnv() map[string]string {
	env := make(map[string]string)
	for name, value := range e.Spec.Treatment.Env {
		env[name] = string(value)
	}
	return env
}

// putRoute makes the route to both arms of a Service lead to their newest revisions, and waits until it does.
func (v *View) putRoute(base Base) Move {
	arms := v.Arms[base.Name]
	want := Route{
		Service: base.Name, Control: arms.Control.Revision, Treatment: arms.Treatment.Revision, Percent: v.Experiment.treatmentPercent(),
	}
	switch have := arms.Route; {
	case have == nil || have.Control != want.Control || have.Treatment != want.Treatment || have.Percent != want.Percent:
		return Put{want}
	case !have.InForce:
		return waits("the route to the arms of %s", base.Name)
	}
	return nil
}

// treatmentPercent returns the percent of the requests without a tag that go to the treatment. The edge sends such requests only if
// requests are the unit.
func (e *Experiment) treatmentPercent() int {
	if e.Status.Phase == experiment.Promoting && e.Spec.Unit == experiment.Request {
		return 100
	}
	return 50
}

// nextWarming returns the next move of an experiment that warms: it makes the arms, counts the baseline, and then enters the first step.
// Nobody is assigned until then. The arms must answer within the deadline, which applies a second time after the baseline if they
// answered before it.
func (v *View) nextWarming() Move {
	e := v.Experiment
	reach, m := v.prepareArms()
	baselineEnd := e.Status.StartedAt.Add(e.Spec.Metrics.Before())
	if r, resting := m.(Rest); resting && !v.Now.Before(e.warmingDeadline(baselineEnd)) {
		return v.conclude(experiment.WasRolledBack, v.byDriver(fmt.Sprintf("its arms were not ready within %s: it waited for %s", e.Spec.WarmingDeadline, r.Waits)))
	}
	if m != nil {
		return m
	}
	s := v.status()
	if v.Now.Before(baselineEnd) {
		if !slices.Equal(reach, s.Assign.Services) {
			s.Assign.Services = reach
			return Write{Status: s}
		}
		r := waits("the baseline, which is counted until %s", baselineEnd.UTC().Format("2006-01-02 15:04:05"))
		r.Until = baselineEnd
		return r
	}
	s.Assign.arm(reach, v.Now)
	return v.enter(s, e.Status.Step, v.wished("every arm answers"))
}

// warmingDeadline returns when the arms must have answered: counted from the start, or from the end of the baseline if they have answered
// once already.
func (e *Experiment) warmingDeadline(baselineEnd time.Time) time.Time {
	from := e.Status.StartedAt.Time
	if len(e.Status.Assign.Services) > 0 {
		from = baselineEnd
	}
	return from.Add(time.Duration(*e.Spec.WarmingDeadline))
}

// yieldsTo reports whether e must end because o has a Service or slots of e. This happens if two drivers start both at the same moment
// and neither sees the other's start. An experiment that warms yields to one that does not. If both warm, or neither does, the one that
// started later yields.
func (e *Experiment) yieldsTo(o *Experiment) bool {
	ours, theirs := e.Rules(), o.Rules()
	if !o.Status.Phase.Live() || ours.Conflict(&theirs) == nil {
		return false
	}
	if warms := e.Status.Phase == experiment.Warming; warms != (o.Status.Phase == experiment.Warming) {
		return warms
	}
	return o.startedBefore(e)
}

// startedBefore reports whether e started before o. If both started at the same time, the UIDs decide.
func (e *Experiment) startedBefore(o *Experiment) bool {
	if !e.Status.StartedAt.Time.Equal(o.Status.StartedAt.Time) {
		return e.Status.StartedAt.Time.Before(o.Status.StartedAt.Time)
	}
	return e.UID < o.UID
}
