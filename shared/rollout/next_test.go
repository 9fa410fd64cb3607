package rollout_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// running returns a view of an experiment at its first step. Nothing has to be done before its hold is over.
func running(t *testing.T) *rollout.View {
	e, err := check(rival)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	reach := experiment.Reach{
		Control:   experiment.Side{Host: "control.test", Revision: "rival-tweet-control-00001"},
		Treatment: experiment.Side{Host: "treatment.test", Revision: "rival-tweet-treatment-00001"},
	}
	e.UID, e.Generation = "rival-1", 3
	e.Spec.Start = true
	e.Status = rollout.Status{
		Phase: experiment.Running, StartedAt: metav1.NewTime(now.Add(-time.Hour)), StepAt: metav1.NewTime(now.Add(-time.Hour)),
		Bases:  []rollout.Base{{Name: "tweet", UID: "tweet-1", Revision: "tweet-00001", Image: "registry.test/tweet@sha256:1"}},
		Assign: rollout.Assign{Salt: "salt", Open: experiment.Open{Control: 1000, Treatment: 1000}, Services: []rollout.ServiceReach{{Name: "tweet", Reach: reach}}, ArmedAt: metav1.NewMicroTime(now.Add(-time.Hour))},
	}
	return &rollout.View{
		Now: now, Actor: "steer", Namespace: rollout.Namespace{UID: "namespace-1"}, Experiment: &e,
		Services: map[string]*rollout.Service{"tweet": {
			Name: "tweet", UID: "tweet-1", Created: "tweet-00001", Ready: "tweet-00001", Settled: true, Latest: true,
			Image: "registry.test/tweet@sha256:1", Wished: "registry.test/tweet", Env: map[string]string{"FEATURES": ""}, Timeout: 40 * time.Second,
		}},
		Arms: map[string]*rollout.Arms{"tweet": {
			Control:   &rollout.ArmState{Source: "tweet-00001/0", Revision: reach.Control.Revision, Ready: true},
			Treatment: &rollout.ArmState{Source: "tweet-00001/0", Revision: reach.Treatment.Revision, Ready: true},
			Route:     &rollout.RouteState{Control: reach.Control.Revision, Treatment: reach.Treatment.Revision, Percent: 50, InForce: true, Reach: reach},
		}},
		Judged: &rollout.Judged{Judgement: experiment.Judgement{Guardrails: experiment.GuardPass}},
	}
}

// line returns a move as a line of text.
func line(m rollout.Move) string {
	write := func(w rollout.Write) string {
		ids := ""
		for _, r := range w.Status.Unrecorded {
			ids += " " + r.ID
		}
		return fmt.Sprintf("writes %s %v%s", w.Status.Phase, w.Status.Assign.Open, ids)
	}
	switch m := m.(type) {
	case rollout.Write:
		return write(m)
	case rollout.Begin:
		return fmt.Sprintf("begins %s (%d)", m.Start.Salt, m.Start.PlannedUnits)
	case rollout.Archive:
		return "sweeps, " + write(m.Write)
	case rollout.Make:
		return fmt.Sprintf("makes %s of %s: %s, FEATURES=%s", m.Arm.Arm, m.Arm.Source, m.Arm.Image, m.Arm.Env["FEATURES"])
	case rollout.Put:
		return fmt.Sprintf("routes to %s and %s", m.Route.Control, m.Route.Treatment)
	case rollout.Remove:
		return fmt.Sprintf("removes %s, arms: %t", m.Service, m.Arms)
	case rollout.Give:
		return fmt.Sprintf("gives %s %v %s", m.Service.Name, m.Env, m.Image)
	case rollout.Rest:
		return strings.TrimSpace("rests " + m.Reason + ": " + m.Waits)
	}
	return fmt.Sprintf("%T%v", m, m)
}

// Next depends only on the view, and does not change it.
func TestNextReturnsTheMoveForEachView(t *testing.T) {
	t.Parallel()
	type view = rollout.View
	draft := func(v *view) {
		v.Experiment.Status, v.Judged, v.Arms = rollout.Status{}, nil, nil
		v.Pools = map[string]int{"tweet": 12}
	}
	warming := func(v *view) {
		v.Experiment.Status.Phase, v.Experiment.Status.Assign = experiment.Warming, rollout.Assign{Salt: "salt"}
		v.Experiment.Status.StartedAt = metav1.NewTime(v.Now)
	}
	promoting := func(control, treatment int) func(*view) {
		return func(v *view) {
			v.Experiment.Status.Phase, v.Experiment.Status.Assign.Open = experiment.Promoting, experiment.Open{Control: control, Treatment: treatment}
			v.Experiment.Spec.End = experiment.Promoted
		}
	}
	treated := func(v *view) {
		v.Services["tweet"].Env["FEATURES"], v.Experiment.Status.Treated = "likes", map[string]int64{"tweet": 1}
	}
	concluded := func(ago time.Duration) func(*view) {
		return func(v *view) {
			v.Experiment.Status.Phase, v.Experiment.Status.Conclusion, v.Experiment.Status.Because = experiment.Concluded, experiment.WasStopped, "stopped: so"
			v.Experiment.Status.Assign.Open, v.Experiment.Status.ClosedAt = experiment.Open{}, metav1.NewTime(v.Now.Add(-ago))
		}
	}
	end := func(end experiment.End) func(*view) { return func(v *view) { v.Experiment.Spec.End = end } }
	other := func(phase experiment.Phase, started time.Duration) func(*view) {
		return func(v *view) {
			o := *v.Experiment.DeepCopy()
			o.Name, o.UID, o.Status.Phase, o.Status.StartedAt = "other", "other-1", phase, metav1.NewTime(v.Experiment.Status.StartedAt.Add(started))
			v.Others = append(v.Others, o)
		}
	}
	past := func(uid, namespace string, phase experiment.Phase, step int) func(*view) {
		return func(v *view) {
			v.Past = &experiment.Past{Name: "rival", Salt: "old", UID: uid, Namespace: namespace, PlannedUnits: 7, Phase: phase, Step: step}
		}
	}
	wish := func(change func(*experiment.Wishes)) func(*view) {
		return func(v *view) { change(&v.Experiment.Spec.Wishes) }
	}
	paused := func(v *view) { v.Experiment.Status.Phase, v.Experiment.Spec.Paused = experiment.Paused, true }
	baseline := func(v *view) { v.Experiment.Spec.Metrics.Baseline = new(experiment.Duration(time.Hour)) }
	answer := func(v *view) {
		v.Answers = map[string]rollout.Answer{"control.test": {Revision: "rival-tweet-control-00001"}, "treatment.test": {Revision: "rival-tweet-treatment-00001"}}
	}
	answered := func(v *view) {
		v.Experiment.Status.Assign.Services = []rollout.ServiceReach{{Name: "tweet", Reach: v.Arms["tweet"].Route.Reach}}
	}
	disarmed := func(v *view) { v.Experiment.Status.Assign.ArmedAt = metav1.MicroTime{} }
	for _, c := range []struct {
		name    string
		changes []func(*view)
		want    string
	}{
		{"a draft asks for the plan", []func(*view){draft}, "rollout.Plan{}"},
		{"a draft begins", []func(*view){draft, func(v *view) { v.Planned = &rollout.Planned{Units: 9}; v.Experiment.Spec.Salt = "mine" }}, "begins mine (9)"},
		{"a plan that fails is not a refusal: the database may be away", []func(*view){draft, func(v *view) { v.Planned = &rollout.Planned{Err: errors.New("no data")} }}, "rests PlanFailed: not started: no data"},
		{"a draft that nobody starts", []func(*view){draft, wish(func(s *experiment.Wishes) { s.Start = false })}, "rests : its start: kn experiment start rival"},
		{"a draft that is stopped", []func(*view){draft, end(experiment.Stopped)}, "rests : nothing: it was ended before it started, so it never starts"},
		{"too many connections", []func(*view){draft, func(v *view) { v.Connections = 35 }}, "rests Refused: refused: at max-scale its arms may open 24 connections to the database, and everything else 12: expected at most 35 together (DATABASE_CONNECTIONS of steer), so lower max-scale"},
		{"connections without a limit", []func(*view){draft, func(v *view) { v.Connections, v.Unlimited = 1000, []string{"tweet", "users"} }}, "rests Refused: refused: nothing limits how many pods tweet, users may have, and how many of the database's 1000 connections they open (DATABASE_CONNECTIONS of steer): expected autoscaling.knative.dev/max-scale in the template"},
		{"connections that nobody counts", []func(*view){draft, func(v *view) { v.Unlimited = []string{"tweet"} }}, "rollout.Plan{}"},
		{"as many connections as there are", []func(*view){draft, func(v *view) { v.Connections = 36 }}, "rollout.Plan{}"},
		{"the database has the start, and the status does not", []func(*view){draft, past("rival-1", "namespace-1", experiment.Draft, 0), end(experiment.Stopped)}, "writes Warming {0 0} warming"},
		{"an experiment of another cluster is adopted", []func(*view){draft, past("rival-0", "namespace-0", experiment.Running, 1)}, "begins old (7)"},
		{"an adopted experiment whose driver was killed", []func(*view){draft, past("rival-1", "namespace-1", experiment.Running, 1)}, "writes Warming {0 0} warming-namespace-1"},
		{"an experiment of another cluster that has ended", []func(*view){draft, past("rival-0", "namespace-0", experiment.Concluded, 1)}, "writes Concluded {0 0}"},
		{"an earlier experiment of this cluster", []func(*view){draft, past("rival-0", "namespace-1", experiment.Running, 1)}, "writes Concluded {0 0}"},

		{"warming makes the control first", []func(*view){warming, func(v *view) { v.Arms = nil }}, "makes control of tweet-00001/0: registry.test/tweet@sha256:1, FEATURES="},
		{"then it makes the treatment", []func(*view){warming, func(v *view) { v.Arms["tweet"].Treatment = nil }}, "makes treatment of tweet-00001/0: registry.test/tweet@sha256:1, FEATURES=likes"},
		{"then it makes the route to both", []func(*view){warming, func(v *view) { v.Arms["tweet"].Route = nil }}, "routes to rival-tweet-control-00001 and rival-tweet-treatment-00001"},
		{"it waits for what is not ready", []func(*view){warming, func(v *view) { v.Arms["tweet"].Treatment.Ready = false }}, "rests : the treatment of tweet to be ready"},
		{"it asks every host", []func(*view){warming}, "rollout.Ask{[control.test treatment.test]}"},
		{"a host that answers with another revision", []func(*view){warming, func(v *view) {
			v.Answers = map[string]rollout.Answer{"control.test": {Revision: "rival-tweet-control-00001"}, "treatment.test": {Revision: "tweet-00001"}}
		}}, `rests : the treatment of tweet to answer as rival-tweet-treatment-00001: it answers as "tweet-00001"`},
		{"a host that does not answer", []func(*view){warming, func(v *view) {
			v.Answers = map[string]rollout.Answer{"control.test": {Revision: "rival-tweet-control-00001"}, "treatment.test": {Err: errors.New("404")}}
		}}, "rests : the treatment of tweet to answer: 404"},
		{"every host answers", []func(*view){warming, func(v *view) {
			v.Answers = map[string]rollout.Answer{"control.test": {Revision: "rival-tweet-control-00001"}, "treatment.test": {Revision: "rival-tweet-treatment-00001"}}
		}}, "writes Running {1000 1000} running-0"},
		{"it waits for an arm that cannot be made", []func(*view){warming, func(v *view) { v.Arms = nil; v.Blocked = errors.New("no quota") }}, "rests : no quota"},
		{"it waits for an arm that cannot be made, until the deadline", []func(*view){warming, func(v *view) {
			v.Arms, v.Blocked = nil, errors.New("no quota")
			v.Now = v.Now.Add(10 * time.Minute)
		}}, "writes Concluded {0 0} concluded"},
		{"a baseline is counted once the arms have answered", []func(*view){warming, baseline, answer}, "writes Warming {0 0}"},
		{"the baseline is counted as long as the spec says", []func(*view){warming, baseline, answer, answered}, "rests : the baseline, which is counted until 2026-11-24 13:00:00"},
		{"arms that do not answer until the deadline, whatever the baseline", []func(*view){warming, baseline, func(v *view) { v.Arms["tweet"].Treatment.Ready, v.Now = false, v.Now.Add(10*time.Minute) }}, "writes Concluded {0 0} concluded"},
		{"arms that have answered before", []func(*view){warming, baseline, answered, func(v *view) { v.Arms["tweet"].Treatment.Ready, v.Now = false, v.Now.Add(69*time.Minute) }}, "rests : the treatment of tweet to be ready"},
		{"arms that are not ready after the baseline", []func(*view){warming, baseline, answered, func(v *view) { v.Arms["tweet"].Treatment.Ready, v.Now = false, v.Now.Add(70*time.Minute) }}, "writes Concluded {0 0} concluded"},
		{"the first step comes after the baseline", []func(*view){warming, baseline, answer, answered, func(v *view) { v.Now = v.Now.Add(time.Hour) }}, "writes Running {1000 1000} running-0"},
		{"another has started before", []func(*view){warming, other(experiment.Warming, -time.Second)}, "writes Concluded {0 0} concluded"},
		{"another has started after", []func(*view){warming, other(experiment.Warming, time.Second)}, "rollout.Ask{[control.test treatment.test]}"},
		{"another has started after, and runs", []func(*view){warming, other(experiment.Running, time.Second)}, "writes Concluded {0 0} concluded"},
		{"two run, and this one has started after", []func(*view){other(experiment.Running, -time.Second)}, "writes Concluded {0 0} concluded"},
		{"this one runs, and the other warms", []func(*view){other(experiment.Warming, -time.Second)}, "rests : step 1/3 10% until 2026-11-25 11:00:00"},

		{"it waits for the end of the hold", nil, "rests : step 1/3 10% until 2026-11-25 11:00:00"},
		{"a stop", []func(*view){end(experiment.Stopped)}, "writes Concluded {0 0} concluded"},
		{"a stop wins over everything", []func(*view){end(experiment.RolledBack), func(v *view) { v.Services, v.Arms, v.Judged = nil, nil, nil }}, "writes Concluded {0 0} concluded"},
		{"tripped", []func(*view){func(v *view) { v.Tripped = "it fails" }}, "writes Concluded {0 0} concluded"},
		{"another Service of that name", []func(*view){func(v *view) { v.Services["tweet"].UID = "tweet-2" }}, "writes Concluded {0 0} concluded"},
		{"a pause beats a step", []func(*view){wish(func(s *experiment.Wishes) { s.Paused, s.Step = true, 1 })}, "writes Paused {1000 1000} paused-3"},
		{"a step", []func(*view){wish(func(s *experiment.Wishes) { s.Step = 2 })}, "writes Running {5000 5000} running-2"},
		{"a step that was made", []func(*view){wish(func(s *experiment.Wishes) { s.Step = 1 }), func(v *view) { v.Experiment.Status.Step = 2 }}, "rests : step 3/3 50% until 2026-11-25 11:00:00"},
		{"it asks for the readout", []func(*view){func(v *view) { v.Judged = nil }}, "rollout.Judge{}"},
		{"no readout", []func(*view){func(v *view) { v.Judged = &rollout.Judged{Err: errors.New("away")} }}, "rests : the readout, without which it makes no step: away"},
		{"an arm is gone", []func(*view){func(v *view) { v.Arms["tweet"].Control = nil }}, "writes Running {1000 1000}"},
		{"an arm is gone, and the edges have seen it", []func(*view){func(v *view) { v.Arms["tweet"].Treatment, v.Tripped = nil, "it fails" }}, "writes Running {1000 1000}"},
		{"an arm is gone, and the slots are closed", []func(*view){disarmed, func(v *view) { v.Arms["tweet"].Control, v.Tripped = nil, "it fails" }}, "makes control of tweet-00001/0: registry.test/tweet@sha256:1, FEATURES="},
		{"an arm is back, and has to answer", []func(*view){disarmed}, "rollout.Ask{[control.test treatment.test]}"},
		{"an arm of a guest is back, whose answers name no revision", []func(*view){disarmed, func(v *view) { v.Services["tweet"].Guest = true }}, "writes Running {1000 1000}"},
		{"the route to a guest's arms is not ready", []func(*view){disarmed, func(v *view) {
			v.Services["tweet"].Guest, v.Arms["tweet"].Route.InForce = true, false
		}}, "rests : the route to the arms of tweet"},
		{"the route to the arms is gone in a promotion", []func(*view){promoting(1000, 2000), func(v *view) { v.Arms["tweet"].Route = nil }}, "writes Promoting {1000 2000}"},
		{"a breach while an arm is not ready", []func(*view){func(v *view) {
			v.Arms["tweet"].Control.Ready = false
			v.Judged.Judgement.Guardrails = experiment.GuardBreach
		}}, "writes Concluded {0 0} concluded"},
		{"a breach in a pause", []func(*view){wish(func(s *experiment.Wishes) { s.Paused = true }), func(v *view) {
			v.Experiment.Status.Phase = experiment.Paused
			v.Judged.Judgement.Guardrails = experiment.GuardBreach
		}}, "writes Concluded {0 0} concluded"},
		{"a rebase waits for the newest revision", []func(*view){wish(func(s *experiment.Wishes) { s.Rebase = &experiment.Rebase{Number: 1} }), func(v *view) { v.Services["tweet"].Created = "tweet-00002" }},
			"rests : the newest revision of tweet to be ready, before the rebase"},
		{"a promotion waits for the rebase", []func(*view){end(experiment.Promoted), func(v *view) {
			v.Experiment.Status.Rebasing, v.Experiment.Status.Rebases = true, 1
			v.Arms["tweet"].Control.Source, v.Arms["tweet"].Treatment.Source, v.Arms["tweet"].Treatment.Ready = "tweet-00001/1", "tweet-00001/1", false
		}}, "rests : the treatment of tweet to be ready"},
		{"a promotion", []func(*view){end(experiment.Promoted)}, "writes Promoting {1000 2000} promoting"},
		{"a promotion in a pause", []func(*view){end(experiment.Promoted), paused}, "rests : a person to resume it, before the promotion"},
		{"a promotion in a pause, anyway", []func(*view){end(experiment.Promoted), paused, wish(func(s *experiment.Wishes) { s.Anyway = true })}, "rests : a person to resume it, before the promotion"},
		{"a promotion and the end of a pause", []func(*view){end(experiment.Promoted), paused, wish(func(s *experiment.Wishes) { s.Paused = false })}, "writes Running {1000 1000} resumed-3"},
		{"a pause that comes after the promotion has begun", []func(*view){promoting(1000, 2000), wish(func(s *experiment.Wishes) { s.Paused = true })}, "writes Promoting {1000 5000} promoting-1000-5000"},

		{"a stage of a promotion", []func(*view){promoting(1000, 2000)}, "writes Promoting {1000 5000} promoting-1000-5000"},
		{"a stage, though an arm is not ready", []func(*view){promoting(1000, 2000), func(v *view) { v.Arms["tweet"].Treatment.Ready = false }}, "writes Promoting {1000 5000} promoting-1000-5000"},
		{"a stage lasts a minute", []func(*view){promoting(1000, 2000), func(v *view) { v.Experiment.Status.StepAt = metav1.NewTime(v.Now.Add(-59 * time.Second)) }}, "rests : stage 20% of the promotion, until 12:00:01"},
		{"the last stage before the Services", []func(*view){promoting(1000, 5000)}, "writes Promoting {0 10000} promoting-0-10000"},
		{"the treatment is written into the Services", []func(*view){promoting(0, 10000)}, "gives tweet map[FEATURES:likes] "},
		{"the status notes which Services have it", []func(*view){promoting(0, 10000), treated, func(v *view) { v.Experiment.Status.Treated = nil }}, "writes Promoting {0 10000}"},
		{"the newest revision does not serve yet", []func(*view){promoting(0, 10000), treated, func(v *view) { v.Services["tweet"].Settled = false }}, "rests : the newest revision of tweet, which has the treatment, to serve everybody"},
		{"the newest revision serves", []func(*view){promoting(0, 10000), treated}, "writes Promoting {0 5000} promoting-0-5000"},
		{"the last stage", []func(*view){promoting(0, 2500), treated}, "writes Promoting {0 0} promoting-0-0"},
		{"the end of a promotion", []func(*view){promoting(0, 0), treated}, "writes Concluded {0 0} concluded"},
		{"somebody has removed the treatment", []func(*view){promoting(0, 5000), treated, func(v *view) { v.Services["tweet"].Env["FEATURES"] = "" }},
			"rests Reverted: somebody has removed the treatment from tweet: steer does not write it again, and the arms stay; `kn experiment stop rival` ends it"},
		{"a promotion is stopped", []func(*view){promoting(0, 5000), treated, end(experiment.Stopped)}, "writes Concluded {0 0} concluded"},
		{"a promotion by git", []func(*view){promoting(0, 10000), func(v *view) { v.Experiment.Spec.PromoteBy = "git" }}, "rests : the manifests of tweet to bring the treatment: kn experiment promote rival --write"},

		{"requests are under way", []func(*view){concluded(39 * time.Second)}, "rests : requests under way in the arms, which are deleted at 12:00:01"},
		{"the route is deleted first", []func(*view){concluded(40 * time.Second)}, "removes tweet, arms: false"},
		{"then the arms", []func(*view){concluded(time.Minute), func(v *view) { v.Arms["tweet"].Route = nil }}, "removes tweet, arms: true"},
		{"then nothing is left to delete", []func(*view){concluded(time.Minute), func(v *view) { v.Arms = nil }}, "writes Concluded {0 0}"},
		{"it stays concluded", []func(*view){concluded(time.Minute), func(v *view) { v.Experiment.Status.Swept = true }}, "rests :"},
		{"it is archived", []func(*view){concluded(time.Minute), wish(func(s *experiment.Wishes) { s.Archive = true }), func(v *view) { v.Experiment.Status.Swept = true }}, "sweeps, writes Archived {0 0} archived"},
		{"it is being deleted", []func(*view){end(experiment.Stopped), func(v *view) { v.Experiment.DeletionTimestamp = &metav1.Time{Time: v.Now} }}, "rests :"},
		{"its namespace is being deleted", []func(*view){end(experiment.Stopped), func(v *view) { v.Namespace.Terminating = true }}, "rests :"},
		{"a phase of another version", []func(*view){func(v *view) { v.Experiment.Status.Phase = "Floating" }}, `rests UnknownPhase: status.phase is "Floating": expected one that this version knows`},
	} {
		build := func() *rollout.View {
			v := running(t)
			for _, change := range c.changes {
				change(v)
			}
			return v
		}
		v := build()
		first, second := rollout.Next(v), rollout.Next(v)
		if got := line(first); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
		if line(second) != line(first) {
			t.Errorf("%s: %s, and then %s of the same view", c.name, line(first), line(second))
		}
		if diff := cmp.Diff(build(), v, cmp.Comparer(func(a, b error) bool { return (a == nil) == (b == nil) })); diff != "" {
			t.Errorf("%s: the view has changed: %s", c.name, diff)
		}
	}
}
