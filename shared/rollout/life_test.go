package rollout_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/rollout"
)

var services = []string{"like", "timeline", "tweet"}

// begin returns a fixture in which ada has started the experiment likes. changes are replacements in its text.
func begin(t *testing.T, changes ...string) *fixture {
	w := newFixture(t, services...)
	w.draft(strings.NewReplacer(changes...).Replace(whole), experiment.Wishes{Start: true, By: "ada"})
	return w
}

// with adds fields to the spec.
func with(fields string) []string {
	return []string{"  unit: community", fields + "\n  unit: community"}
}

var (
	automatic = with("  promote: automatic")
	imaged    = []string{"{env: {FEATURES: likes}}", "{env: {FEATURES: likes}, image: {tweet: registry.test/tweet:2}}"}
	win       = experiment.Judgement{Guardrails: experiment.GuardPass, Decision: experiment.Win, Sentence: "it is better", Figures: []byte(`{"lift":1}`)}
	breach    = experiment.Judgement{Guardrails: experiment.GuardBreach, Reason: "error_share is 5pp higher"}
)

// A scene is what happens to an experiment in its life, seen from outside. check must hold all the time.
type scene struct {
	name    string
	changes []string
	live    func(*fixture)
	// The expected end.
	conclusion experiment.Conclusion
	ids        string // of the transitions, without concluded
	written    int    // how often steer has written each Service
}

var scenes = []scene{{
	name: "the ramp, to a win that is promoted", changes: append(slices.Clone(automatic), imaged...),
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.pass(24 * time.Hour)
		w.until("likes", atStep(1))
		w.pass(24 * time.Hour)
		w.until("likes", atStep(2))
		w.verdict["likes"] = win
		w.until("likes", swept)
	},
	conclusion: experiment.WasPromoted, written: 1,
	ids: "warming running-0 running-1 running-2 promoting promoting-0-5000 promoting-0-2500 promoting-0-0",
}, {
	name: "a baseline before the first step", changes: []string{"window: 7d", "window: 7d\n    baseline: 1h"},
	live: func(w *fixture) {
		w.until("likes", func(e *rollout.Experiment) bool { return strings.HasPrefix(e.Status.Message, "the baseline, ") })
		w.pass(50 * time.Minute)
		w.turn()
		w.until("likes", func(e *rollout.Experiment) bool {
			return e.Status.Phase == experiment.Warming && len(e.Rules().Baseline) == 3 && e.Rules().Open == experiment.Open{}
		})
		w.pass(10 * time.Minute)
		w.until("likes", func(e *rollout.Experiment) bool { return atStep(0)(e) && e.Rules().Baseline == nil })
		w.end("likes", experiment.RolledBack)
		w.until("likes", swept)
	},
	conclusion: experiment.WasRolledBack, ids: "warming running-0",
}, {
	name: "a win at 10 % takes the remaining steps", changes: automatic,
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.verdict["likes"] = win
		w.until("likes", swept)
	},
	conclusion: experiment.WasPromoted, written: 1,
	ids: "warming running-0 promoting promoting-1000-5000 promoting-0-10000 promoting-0-5000 promoting-0-2500 promoting-0-0",
}, {
	name: "paused, resumed, a step by hand, and a breach",
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.wish("likes", func(s *experiment.Wishes) { s.Paused = true })
		w.until("likes", inPhase(experiment.Paused))
		w.pass(48 * time.Hour)
		w.verdict["likes"] = win
		w.turn()
		w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Phase == experiment.Paused && e.Status.Step == 0 })
		delete(w.verdict, "likes")
		w.wish("likes", func(s *experiment.Wishes) { s.Paused, s.Step = false, 2 })
		w.until("likes", atStep(2))
		w.verdict["likes"] = breach
		w.until("likes", swept)
	},
	conclusion: experiment.WasRolledBack, ids: "warming running-0 paused-2 resumed-3 running-2",
}, {
	name: "rebased to another image, and archived", changes: imaged,
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.deploy("tweet", func(s *rollout.Service) { s.Env["OTHER"] = "1" })
		w.wish("likes", func(s *experiment.Wishes) {
			s.Rebase = &experiment.Rebase{Number: 1, Image: map[string]experiment.Image{"tweet": "registry.test/tweet:3"}}
		})
		w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Rebases == 1 && !e.Status.Rebasing })
		w.end("likes", experiment.RolledBack)
		w.until("likes", swept)
		w.wish("likes", func(s *experiment.Wishes) { s.Archive = true })
		w.until("likes", inPhase(experiment.Archived))
	},
	conclusion: experiment.WasRolledBack, ids: "warming running-0 rebased-1",
}, {
	name: "promoted by git", changes: with("  promoteBy: git"),
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.end("likes", experiment.Promoted)
		w.until("likes", func(e *rollout.Experiment) bool { return strings.HasPrefix(e.Status.Message, "the manifests of like") })
		w.pass(10 * time.Minute)
		w.turn()
		for _, name := range services {
			w.deploy(name, func(s *rollout.Service) { s.Env["FEATURES"] = "likes" })
		}
		w.until("likes", swept)
	},
	conclusion: experiment.WasPromoted,
	ids:        "warming running-0 promoting promoting-1000-5000 promoting-0-10000 promoting-0-5000 promoting-0-2500 promoting-0-0",
}, {
	name: "stopped while it warms",
	live: func(w *fixture) {
		w.until("likes", inPhase(experiment.Warming))
		w.end("likes", experiment.Stopped)
		w.until("likes", swept)
	},
	conclusion: experiment.WasStopped, ids: "warming",
}, {
	name: "deleted while it runs",
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.remove("likes")
		for range 3 {
			w.turn()
		}
	},
	conclusion: experiment.WasStopped, ids: "warming running-0",
}, {
	name: "deleted while it promotes",
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.end("likes", experiment.Promoted)
		w.until("likes", func(e *rollout.Experiment) bool { return len(e.Status.Treated) == 3 })
		w.remove("likes")
		for range 3 {
			w.turn()
		}
	},
	conclusion: experiment.WasStopped, written: 1, ids: "warming running-0 promoting promoting-1000-5000 promoting-0-10000",
}, {
	name: "a tripwire",
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.trip("likes", "it fails")
		w.until("likes", swept)
	},
	conclusion: experiment.WasRolledBack, ids: "warming running-0",
}, {
	name: "a Service that is deleted and made again",
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.serve("tweet")
		w.until("likes", swept)
	},
	conclusion: experiment.WasStopped, ids: "warming running-0",
}, {
	name: "adopted by a rebuilt cluster, and promoted there",
	live: func(w *fixture) {
		w.until("likes", atStep(0))
		w.wish("likes", func(s *experiment.Wishes) { s.Step = 1 })
		w.until("likes", atStep(1))
		w.rebuild()
		w.turn()
		w.draft(whole, experiment.Wishes{Start: true, By: "ada"})
		w.until("likes", atStep(1))
		w.end("likes", experiment.Promoted)
		w.until("likes", swept)
	},
	conclusion: experiment.WasPromoted, written: 1,
	ids: "warming running-0 running-1 warming-namespace-1-rebuilt running-1-namespace-1-rebuilt promoting-namespace-1-rebuilt promoting-0-10000-namespace-1-rebuilt " +
		"promoting-0-5000-namespace-1-rebuilt promoting-0-2500-namespace-1-rebuilt promoting-0-0-namespace-1-rebuilt",
}}

// remains returns everything that exists at the end, without times.
func (w *fixture) remains() any {
	var left []any
	for _, name := range services {
		left = append(left, fmt.Sprint(name, w.services[name].Env, w.services[name].Wished, w.services[name].written))
	}
	for _, t := range w.transitions["likes"] {
		t.At = time.Time{}
		left = append(left, t)
	}
	if e := w.experiments["likes"]; e != nil {
		s := e.Status
		s.Assign.ArmedAt = metav1.MicroTime{}
		left = append(left, s.Phase, s.Conclusion, s.Because, s.Assign, s.Swept, s.Planned == w.started["likes"].PlannedUnits, s.Bases, s.Unrecorded)
	}
	return append(left, len(w.arms), w.archived)
}

func TestLives(t *testing.T) {
	t.Parallel()
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := define(t)
			w := begin(t, s.changes...)
			w.strict = &d
			s.live(w)
			ids := w.recorded("likes")
			end := slices.IndexFunc(w.transitions["likes"], func(t experiment.Transition) bool { return t.Phase == experiment.Concluded })
			if end < 0 || strings.Join(ids[:end], " ") != s.ids || w.transitions["likes"][end].Conclusion != s.conclusion {
				t.Errorf("recorded %v: expected %s, and then %s", w.transitions["likes"], s.ids, s.conclusion)
			}
			for _, name := range services {
				if got := w.services[name].written; got != s.written {
					t.Errorf("%s was written %d times: expected %d", name, got, s.written)
				}
			}
			if len(w.arms) > 0 {
				t.Errorf("arms are left: %v", w.arms)
			}

			// Two drivers at the same time reach the same end.
			both := begin(t, s.changes...)
			both.drivers = 2
			s.live(both)
			if diff := cmp.Diff(w.remains(), both.remains()); diff != "" {
				t.Errorf("two at once: %s", diff)
			}

			// A driver is killed at each write, before or after the write took effect. The next driver continues.
			for at := 1; at <= w.writes; at++ {
				for _, through := range []bool{false, true} {
					killed := begin(t, s.changes...)
					killed.dieAt, killed.through = at, through
					s.live(killed)
					if diff := cmp.Diff(w.remains(), killed.remains()); diff != "" {
						t.Errorf("killed at write %d of %d (through: %t): %s", at, w.writes, through, diff)
					}
				}
			}
			// One of two drivers is killed, while the other may make the same move.
			for at := 1; at <= w.writes; at += 3 {
				killed := begin(t, s.changes...)
				killed.drivers, killed.dieAt, killed.through = 2, at, at%2 == 0
				s.live(killed)
				if diff := cmp.Diff(w.remains(), killed.remains()); diff != "" {
					t.Errorf("one of two killed at write %d of %d: %s", at, w.writes, diff)
				}
			}
			t.Logf("killed at each of %d writes, twice", w.writes)
		})
	}
}

// Two drivers begin an experiment at the same moment with different plans. The status has the plan that the database stored.
func TestTheStatusHasThePlanThatTheDatabaseStored(t *testing.T) {
	t.Parallel()
	w := begin(t)
	e := w.experiments["likes"]
	e.Spec.Salt = "mine"
	w.meanwhile = func() {
		w.started["likes"] = experiment.Start{Name: "likes", Spec: e.Spec, Salt: "mine", UID: string(e.UID), Namespace: w.namespace.UID, PlannedUnits: 77}
	}
	w.until("likes", inPhase(experiment.Warming))
	if got := w.experiments["likes"].Status.Planned; got != 77 {
		t.Errorf("planned %d units: expected 77, the plan of the driver that began it", got)
	}
}

// The kill switch works in every phase. After it, steer only deletes the arms.
func TestTheKillSwitchWorksInEveryPhase(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]func(*fixture){
		"Warming": func(w *fixture) { w.until("likes", inPhase(experiment.Warming)) },
		"Running": func(w *fixture) { w.until("likes", atStep(0)) },
		"Paused": func(w *fixture) {
			w.until("likes", atStep(0))
			w.wish("likes", func(s *experiment.Wishes) { s.Paused = true })
			w.until("likes", inPhase(experiment.Paused))
		},
		"rebasing": func(w *fixture) {
			w.until("likes", atStep(0))
			w.wish("likes", func(s *experiment.Wishes) { s.Rebase = &experiment.Rebase{Number: 1} })
			w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Rebasing })
		},
		"a promotion that is refused": func(w *fixture) {
			w.until("likes", atStep(0))
			w.verdict["likes"] = experiment.Judgement{Health: "sample ratio", Guardrails: experiment.GuardPass}
			w.end("likes", experiment.Promoted)
			w.until("likes", stalledFor("PromotionRefused"))
		},
		"Promoting": func(w *fixture) {
			w.until("likes", atStep(0))
			w.end("likes", experiment.Promoted)
			w.until("likes", inPhase(experiment.Promoting))
		},
		"Promoting, half closed": func(w *fixture) {
			w.until("likes", atStep(0))
			w.end("likes", experiment.Promoted)
			w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Assign.Open == experiment.Open{Treatment: 5000} })
		},
	} {
		for end, conclusion := range map[experiment.End]experiment.Conclusion{experiment.Stopped: experiment.WasStopped, experiment.RolledBack: experiment.WasRolledBack} {
			w := begin(t)
			live(w)
			w.end("likes", end)
			if rules := w.experiments["likes"].Rules(); rules.Open != (experiment.Open{}) {
				t.Errorf("%s: %s waits for steer: %+v", name, end, rules.Open)
			}
			w.turn()
			if s := w.experiments["likes"].Status; s.Conclusion != conclusion || s.Assign.Open != (experiment.Open{}) {
				t.Errorf("%s: one turn after %s it is %s %s", name, end, s.Phase, s.Conclusion)
			}
			w.until("likes", swept)
		}
	}
	w := begin(t)
	w.end("likes", experiment.Stopped)
	w.turn()
	if s := w.experiments["likes"].Status; s.Phase != "" || len(w.started) > 0 {
		t.Errorf("a draft that is stopped is %s", s.Phase)
	}
}

// What a running experiment waits for, or does, for each judgement of the readout.
func TestTheReadoutsJudgementIsFollowed(t *testing.T) {
	t.Parallel()
	pass := experiment.GuardPass
	for want, c := range map[string]struct {
		changes []string
		verdict experiment.Judgement
	}{
		"Running 1: step 2/3 25% until 2026-11-25 12:01":           {nil, experiment.Judgement{Guardrails: pass}},
		"Running 0: the guardrails: 12 of 30 count periods":        {nil, experiment.Judgement{Guardrails: experiment.GuardInconclusive, Reason: "12 of 30 count periods"}},
		"Running 0: 1001 units in each arm; there are 1000 and 10": {[]string{"units: 30", "units: 1001", "[10, 25, 50]", "[20, 25, 50]"}, experiment.Judgement{Guardrails: pass}},
		"Running 0 Unhealthy: no step and no verdict while a h":    {nil, experiment.Judgement{Guardrails: pass, Health: "skewed", Decision: experiment.Win}},
		"Running 0 DecisionNeeded: a person to end it, because i":  {nil, experiment.Judgement{Guardrails: pass, Decision: experiment.Inconclusive, Sentence: "no one knows"}},
		"Running 0 DecisionNeeded: promotion: it is better: kn e":  {nil, win},
		"Running 0 DecisionNeeded: approval of step 2: kn experi":  {[]string{"approve: automatic", "approve: manual"}, experiment.Judgement{Guardrails: pass}},
		"Concluded 0: rolled back: it is worse":                    {nil, experiment.Judgement{Guardrails: pass, Decision: experiment.Harm, Sentence: "it is worse"}},
		"Concluded 0: rolled back: too little":                     {nil, experiment.Judgement{Guardrails: pass, Decision: experiment.NotWorthIt, Sentence: "too little"}},
		"Concluded 0: rolled back: error_share is 5pp higher":      {nil, breach},
		"Running 0: the guardrails: not yet":                       {automatic, experiment.Judgement{Guardrails: experiment.GuardInconclusive, Reason: "not yet", Decision: experiment.Win}},
		"Promoting 0: stage 20% of the promotion, until 12:0":      {automatic, win},
	} {
		w := begin(t, c.changes...)
		w.until("likes", atStep(0))
		w.pass(24 * time.Hour)
		w.verdict["likes"] = c.verdict
		w.turn()
		s := w.experiments["likes"].Status
		_, reason := w.experiments["likes"].Stalled()
		got := fmt.Sprint(s.Phase, " ", s.Step, " ", reason)
		if s.Phase == experiment.Concluded {
			s.Message = s.Because
		}
		if got = strings.TrimSpace(got) + ": " + s.Message; !strings.HasPrefix(strings.Replace(got, "11-26", "11-25", 1), want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAStepNeedsApprovalIfTheRampSaysSo(t *testing.T) {
	t.Parallel()
	w := begin(t, "approve: automatic", "approve: manual")
	w.until("likes", atStep(0))
	w.pass(24 * time.Hour)
	w.until("likes", stalledFor("DecisionNeeded"))
	w.wish("likes", func(s *experiment.Wishes) { s.Approved = 1 })
	w.until("likes", atStep(1))
	w.pass(24 * time.Hour)
	w.until("likes", stalledFor("DecisionNeeded"))
}

// A promotion that a person wishes is refused with the reason, and proceeds once the person overrules it.
func TestAPromotionIsRefusedUnlessOverruled(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]experiment.Judgement{"a guardrail is breached": breach, "a health check is red": {Guardrails: experiment.GuardPass, Health: "skewed"}} {
		w := begin(t)
		w.until("likes", atStep(0))
		w.end("likes", experiment.Promoted)
		w.verdict["likes"] = verdict
		w.turn()
		e := w.until("likes", stalledFor("PromotionRefused"))
		if !strings.Contains(e.Status.Message, name) || e.Status.Phase != experiment.Running {
			t.Errorf("%s: %s %s", name, e.Status.Phase, e.Status.Message)
		}
		w.wish("likes", func(s *experiment.Wishes) { s.Anyway = true })
		w.until("likes", swept)
		if got := w.experiments["likes"].Status.Conclusion; got != experiment.WasPromoted {
			t.Errorf("%s, and anyway: %s", name, got)
		}
	}
}

func TestAServiceThatFluxManagesIsNotWritten(t *testing.T) {
	t.Parallel()
	w := begin(t, automatic...)
	w.until("likes", atStep(0))
	w.services["tweet"].Manager = "Flux"
	w.verdict["likes"] = win
	if e := w.until("likes", stalledFor("ServiceManaged")); e.Status.Phase != experiment.Running || !strings.Contains(e.Status.Message, "Flux") {
		t.Errorf("%s: %s", e.Status.Phase, e.Status.Message)
	}
}

// Somebody removes the treatment from a Service during the promotion. Steer does not write it again, and the arms stay.
func TestATreatmentThatSomebodyRemovesIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.end("likes", experiment.Promoted)
	w.until("likes", func(e *rollout.Experiment) bool { return len(e.Status.Treated) == 3 })
	w.deploy("tweet", func(s *rollout.Service) { s.Env["FEATURES"] = "" })
	w.until("likes", stalledFor("Reverted"))
	w.pass(time.Hour)
	w.turn()
	if len(w.arms) != 3 || w.services["tweet"].written != 1 {
		t.Errorf("%d arms, %d writes", len(w.arms), w.services["tweet"].written)
	}
	w.end("likes", experiment.Stopped)
	w.until("likes", swept)
	if got := w.experiments["likes"].Status.Because; !strings.Contains(got, "the treatment was already written into like, timeline, tweet") {
		t.Error(got)
	}
}

func TestATripwireRollsBackInOneTurn(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.trip("likes", "the treatment fails: 9 of 10")
	w.turn()
	if s := w.experiments["likes"].Status; s.Because != "rolled back: the treatment fails: 9 of 10" {
		t.Errorf("%s: %s", s.Phase, s.Because)
	}
}

func TestAnExperimentEndsIfAServiceIsGoneOrItsArmsAreNeverReady(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*fixture){
		"stopped: its Service tweet is gone":                                                                        func(w *fixture) { delete(w.services, "tweet") },
		"stopped: its Service tweet was replaced by another of that name":                                           func(w *fixture) { w.serve("tweet") },
		"rolled back: its arms were not ready within 10m: it waited for the treatment of tweet, revision likes-tw":  func(w *fixture) { w.broken["tweet/treatment"] = "exit code 2" },
		"rolled back: its arms were not ready within 10m: it waited for the control of tweet, which cannot be made": func(w *fixture) { w.taken["likes-tweet-control"] = true },
	} {
		w := begin(t)
		if strings.HasPrefix(want, "rolled") {
			change(w)
			w.until("likes", inPhase(experiment.Warming))
			w.pass(9 * time.Minute)
			w.turn()
			w.until("likes", inPhase(experiment.Warming))
			w.pass(time.Minute)
		} else {
			w.until("likes", atStep(0))
			change(w)
		}
		w.turn()
		s := w.experiments["likes"].Status
		if !strings.HasPrefix(s.Because, want) {
			t.Errorf("%q: expected %s", s.Because, want)
		}
		if w.broken["tweet/treatment"] != "" && !strings.HasSuffix(s.Because, "exit code 2") {
			t.Errorf("%q: expected what the pod says", s.Because)
		}
		w.until("likes", swept)
	}
}

// A deployment during an experiment does not change the arms, until a person wishes a rebase.
func TestADeploymentChangesTheArmsOnlyByARebase(t *testing.T) {
	t.Parallel()
	w := begin(t, imaged...)
	w.until("likes", atStep(0))
	before := w.experiments["likes"].Status.Assign
	w.deploy("tweet", func(s *rollout.Service) { s.Wished = "registry.test/tweet:9" })
	drifted := func(e *rollout.Experiment) bool {
		return slices.ContainsFunc(e.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == "BaseDrifted" && c.Status == "True" && c.Message == "tweet"
		})
	}
	w.until("likes", drifted)
	if diff := cmp.Diff(before, w.experiments["likes"].Status.Assign); diff != "" {
		t.Error(diff)
	}
	w.end("likes", experiment.Promoted)
	if e := w.until("likes", stalledFor("PromotionRefused")); !strings.Contains(e.Status.Message, "rebase") {
		t.Error(e.Status.Message)
	}

	// An image from another repository could be another program, with the rights of the Service.
	image := func(number int, image experiment.Image) {
		w.wish("likes", func(s *experiment.Wishes) {
			s.Rebase = &experiment.Rebase{Number: number, Image: map[string]experiment.Image{"tweet": image}}
		})
	}
	image(1, "elsewhere.test/tweet:10")
	w.until("likes", func(e *rollout.Experiment) bool {
		return strings.Contains(e.Status.Message, "the rebase, before") || stalledFor("Refused")(e)
	})
	if e := w.experiments["likes"]; e.Status.Rebases != 0 {
		t.Errorf("rebased to another repository: %+v", e.Status)
	}

	// A rebase whose arms never get ready is replaced by the next one.
	w.broken["tweet/treatment"] = "exit code 2"
	image(2, "registry.test/tweet:10")
	w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Rebasing })
	w.pass(time.Hour)
	w.turn()
	if e := w.experiments["likes"]; e.Status.Phase != experiment.Running {
		t.Errorf("a promotion goes on in a rebase: %s", e.Status.Phase)
	}
	delete(w.broken, "tweet/treatment")
	image(3, "registry.test/tweet:11")
	w.until("likes", swept)
	if ids := w.recorded("likes"); ids[2] != "rebased-3" || w.services["tweet"].Wished != "registry.test/tweet:11" {
		t.Errorf("%v, and tweet has %s", ids, w.services["tweet"].Wished)
	}
	if want := "likes-tweet-control-00003 of tweet-00002: registry.test/tweet:9@sha256:tweet-00002"; !slices.Contains(w.told, want) {
		t.Errorf("%q: expected %s", w.told, want)
	}
}

func TestArmsThatSomebodyDeletedAreMadeAgain(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	back := func(*rollout.Experiment) bool {
		return w.answer("treatment-likes-tweet.test") == "likes-tweet-treatment-00001"
	}
	w.takeAway("likes/tweet")
	w.until("likes", back)
	w.end("likes", experiment.Promoted)
	w.until("likes", inPhase(experiment.Promoting))
	w.takeAway("likes/tweet")
	w.until("likes", back)

	// Errors while the arms were missing are not the treatment's fault. Errors afterwards are.
	w = begin(t)
	w.until("likes", atStep(0))
	w.takeAway("likes/tweet")
	w.trip("likes", "the treatment fails")
	w.away = true // so the driver cannot read the suspension
	w.turn()
	if open := w.experiments["likes"].Rules().Open; open != (experiment.Open{}) {
		t.Errorf("without its arms it assigns %v", open)
	}
	w.away = false
	w.until("likes", func(e *rollout.Experiment) bool {
		return back(e) && e.Rules().Open == experiment.Open{Control: 1000, Treatment: 1000}
	})
	w.pass(time.Second)
	w.trip("likes", "it fails")
	w.turn()
	if s := w.experiments["likes"].Status; s.Because != "rolled back: it fails" {
		t.Errorf("%s: %s", s.Phase, s.Because)
	}

	// The readout's judgement is followed even if the arms cannot be made.
	for name, spoil := range map[string]func(*fixture){
		"NameTaken": func(w *fixture) { w.taken["likes-tweet-control"] = true },
		"":          func(w *fixture) { delete(w.ready, "tweet-00001") }, // the base is gone
	} {
		w = begin(t)
		w.until("likes", atStep(0))
		w.deploy("tweet", func(*rollout.Service) {})
		spoil(w)
		w.takeAway("likes/tweet")
		w.until("likes", func(e *rollout.Experiment) bool {
			return stalledFor(name)(e) && strings.Contains(e.Status.Message, "the control of tweet, which cannot be made")
		})
		w.verdict["likes"] = breach
		w.turn()
		if s := w.experiments["likes"].Status; s.Phase != experiment.Concluded {
			t.Errorf("%q: %s", name, s.Phase)
		}
	}
}

// While the database is away, nothing can record the deletion. It is recorded as soon as the database is back.
func TestADeletionIsRecordedOnceTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.away = true
	w.remove("likes")
	w.turn()
	if got := w.phase("likes"); got != experiment.Running {
		t.Errorf("a database that is away has %s", got)
	}
	w.away = false
	w.turn()
	if last := w.transitions["likes"][2]; last.ID != "deleted" || last.Conclusion != experiment.WasStopped {
		t.Errorf("%+v", last)
	}
}

// A new Service with the name of an old one gets no treatment, and the arms are not copies of it.
func TestAServiceThatIsMadeAgainEndsTheExperimentInEveryPhase(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]func(*fixture){
		"Warming": func(w *fixture) { w.until("likes", inPhase(experiment.Warming)) },
		"Paused": func(w *fixture) {
			w.until("likes", atStep(0))
			w.wish("likes", func(s *experiment.Wishes) { s.Paused = true })
			w.until("likes", inPhase(experiment.Paused))
		},
		"rebasing": func(w *fixture) {
			w.until("likes", atStep(0))
			w.wish("likes", func(s *experiment.Wishes) { s.Rebase = &experiment.Rebase{Number: 1} })
			w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Rebasing })
		},
		"Promoting": func(w *fixture) {
			w.until("likes", atStep(0))
			w.end("likes", experiment.Promoted)
			w.until("likes", inPhase(experiment.Promoting))
		},
		"Promoting, after it had the treatment": func(w *fixture) {
			w.until("likes", atStep(0))
			w.end("likes", experiment.Promoted)
			w.until("likes", func(e *rollout.Experiment) bool { return len(e.Status.Treated) == 3 })
		},
	} {
		w := begin(t)
		live(w)
		w.serve("tweet")
		w.until("likes", swept)
		if got := w.experiments["likes"].Status.Because; !strings.HasPrefix(got, "stopped: its Service tweet was replaced by another of that name") || w.services["tweet"].written != 0 {
			t.Errorf("%s: %s, and the other was written %d times", name, got, w.services["tweet"].written)
		}
	}
}

// The rows in the database belong to the first experiment of a name, for ever.
func TestANameCanBeUsedOnlyOnce(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.remove("likes")
	w.draft(whole, experiment.Wishes{Start: true})
	w.turn()
	e := w.until("likes", stalledFor("NameUsed"))
	if last := w.transitions["likes"][2]; e.Status.Phase != experiment.Concluded || last.Reason != "it was deleted" || len(w.arms) > 0 {
		t.Errorf("%s %+v, %v", e.Status.Phase, last, w.arms)
	}

	w.rebuild() // an experiment that has ended is not adopted
	w.draft(whole, experiment.Wishes{Start: true})
	if e := w.until("likes", stalledFor("NameUsed")); e.Status.Phase != experiment.Concluded || len(w.arms) > 0 || len(w.transitions["likes"]) != 3 {
		t.Errorf("in a rebuilt cluster: %s, %v", e.Status.Phase, w.arms)
	}
}

// A rebuilt cluster continues with what the database knows. Everyone keeps their arm.
func TestAnExperimentIsAdoptedByARebuiltCluster(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]func(*fixture){
		"at its first step": func(w *fixture) { w.until("likes", atStep(0)) },
		"at its second step": func(w *fixture) {
			w.until("likes", atStep(0))
			w.wish("likes", func(s *experiment.Wishes) { s.Step = 1 })
			w.until("likes", atStep(1))
		},
		"promoting": func(w *fixture) {
			w.until("likes", atStep(0))
			w.end("likes", experiment.Promoted)
			w.until("likes", inPhase(experiment.Promoting))
			w.end("likes", experiment.Stopped) // Git has the wish before steer has seen the experiment
		},
	} {
		w := begin(t)
		live(w)
		before := w.experiments["likes"]
		was := w.past("likes")
		w.remove("likes")
		w.namespace.UID = "namespace-2"
		w.turn()
		if w.phase("likes") != was.Phase {
			t.Errorf("%s: without an experiment in the new cluster it is %s", name, w.phase("likes"))
		}
		w.draft(whole, experiment.Wishes{End: before.Spec.End})
		if before.Spec.End != "" {
			w.until("likes", swept)
			if w.phase("likes") != experiment.Concluded {
				t.Errorf("%s: stopped in the new cluster, the database has %s", name, w.phase("likes"))
			}
			continue
		}
		e := w.until("likes", inPhase(experiment.Running))
		if e.Status.Assign.Salt != before.Status.Assign.Salt || e.Status.Step != before.Status.Step || e.Status.Planned != before.Status.Planned {
			t.Errorf("%s: %+v, and before %+v", name, e.Status.Assign, before.Status.Assign)
		}
		if got := w.past("likes"); got.Phase != experiment.Running || got.Namespace != "namespace-2" {
			t.Errorf("%s: the database has %+v", name, got)
		}
		w.wish("likes", func(s *experiment.Wishes) { s.Paused = true })
		w.until("likes", inPhase(experiment.Paused))
		if w.phase("likes") != experiment.Paused {
			t.Errorf("%s: the database has %v", name, w.recorded("likes"))
		}
	}
}

func TestNothingIsWrittenInANamespaceThatIsBeingDeleted(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.namespace.Terminating = true
	w.end("likes", experiment.Stopped)
	w.remove("likes")
	writes := w.writes
	w.turn()
	if w.writes != writes {
		t.Errorf("%d writes in a namespace that is being deleted", w.writes-writes)
	}
	if got := w.phase("likes"); got != experiment.Running { // another cluster may adopt it
		t.Errorf("the database has %s", got)
	}
}

// rival is an experiment with the Service tweet, which likes has as well.
var rival = strings.NewReplacer("name: likes}", "name: rival}", "[like, timeline, tweet]", "[tweet]", "exposure: [timeline, tweet]", "exposure: [tweet]", "name: engagement", "name: writing").Replace(whole)

func TestIfTwoConflictingExperimentsStartTogetherOneSurvives(t *testing.T) {
	t.Parallel()
	for drivers := 1; drivers <= 3; drivers++ {
		for range 10 {
			w := begin(t)
			w.drivers = drivers
			w.draft(rival, experiment.Wishes{Start: true})
			for range 10 {
				w.turn()
				w.pass(5 * time.Second)
			}
			if a, b := w.experiments["likes"].Status.Phase, w.experiments["rival"].Status.Phase; (a == experiment.Running) == (b == experiment.Running) || a.Live() && b.Live() {
				t.Errorf("%d drivers: they are %q and %q", drivers, a, b)
			}
		}
	}
}

// A refused start lists every problem, and changes nothing.
func TestARefusedStartListsEveryProblem(t *testing.T) {
	t.Parallel()
	w := newFixture(t, services...)
	w.connections = 60 // 3 Services of 3 pods of 4 connections, and twice tweet's
	w.draft(rival, experiment.Wishes{Start: true})
	w.until("rival", atStep(0))
	w.draft(strings.NewReplacer("name: engagement", "name: writing", "unit: community", "unit: user").Replace(whole), experiment.Wishes{Start: true})
	w.services["like"].Elsewhere = []string{"FEATURES"}
	w.services["like"].Env["WARBLE_ARM"] = "both"
	w.services["tweet"].Experiments = manifest.ByRequestOnly
	w.services["timeline"].Latest = false
	w.turn()
	e := w.until("likes", stalledFor("Refused"))
	want := `refused: services: tweet is in the experiment rival: expected one at a time
layer: writing has the unit user here, and community in the experiment rival: expected one kind of unit
layer.slots: 0 to 5000 of writing overlap those of the experiment rival, 0 to 5000: expected others (rival is Running, step 1/3 10%)
like: the variable FEATURES comes from a secret or config map: expected one that the treatment can set
like: its template has the variable WARBLE_ARM: expected none, because steer sets it in the arms
timeline: its newest revision does not have all of its traffic: expected 100 percent, because the arms are copies of it
tweet: warble.dev/experiments is request, because it does not record who was exposed: expected another Service, or unit request
tweet: warble.dev/experiments is request, because it records no latency: expected only the guardrail error_share
at max-scale its arms may open 72 connections to the database, and everything else 60: expected at most 60 together (DATABASE_CONNECTIONS of steer), so lower max-scale`
	if diff := cmp.Diff(want, e.Status.Message); diff != "" || e.Status.Phase != "" || w.started["likes"].Salt != "" {
		t.Error(diff, e.Status.Phase)
	}
}

// Warble's functions do not know visitors, so an experiment on visitors needs guests.
func TestAnExperimentOnVisitorsNeedsGuests(t *testing.T) {
	t.Parallel()
	w := newFixture(t, services...)
	visitors := strings.NewReplacer("unit: community", "unit: user\n  identity: {kind: visitor}", "[like, timeline, tweet]", "[tweet]", "  exposure: [timeline, tweet]\n", "").Replace(whole)
	w.draft(visitors, experiment.Wishes{Start: true})
	w.turn()
	e := w.until("likes", stalledFor("Refused"))
	if want := "refused: tweet: it has no label warble.dev/guest, but the identity visitor is only for guests: expected that label, or identity token"; e.Status.Message != want {
		t.Errorf("%s, want %s", e.Status.Message, want)
	}
	w.services["tweet"].Guest = true
	w.until("likes", atStep(0)) // the answers of a guest name no revision
}

// Steer may not read the cluster's default max-scale, so every Service with a database needs its own before a start.
func TestAStartIsRefusedIfNothingLimitsTheConnections(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.connections = 1000
	w.serve("users") // not in the experiment
	w.services["users"].MostPods = 0
	w.serve("validate")
	w.services["validate"].MostPods, w.services["validate"].Pool = 0, 0 // no database
	w.pass(time.Minute)
	if e := w.until("likes", stalledFor("Refused")); !strings.HasPrefix(e.Status.Message, "refused: nothing limits how many pods users may have") {
		t.Error(e.Status.Message)
	}
	w.services["users"].MostPods = 3
	w.until("likes", atStep(0))
}

func TestAnExperimentStartsAtItsTime(t *testing.T) {
	t.Parallel()
	w := newFixture(t, services...)
	w.draft(whole, experiment.Wishes{StartAt: w.now.Add(time.Hour).Format(time.RFC3339)})
	w.turn()
	w.pass(59 * time.Minute)
	w.turn()
	if e := w.experiments["likes"]; e.Status.Phase != "" || e.Status.Message != "its start at 2026-11-24 13:01:00" {
		t.Errorf("%q: %s", e.Status.Phase, e.Status.Message)
	}
	w.pass(time.Minute)
	w.until("likes", atStep(0))
}

// A stop does not wait for the database. Once the database is back, it gets every transition.
func TestAStopNeedsNoDatabase(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", inPhase(experiment.Warming))
	w.away = true
	w.until("likes", atStep(0))
	w.pass(48 * time.Hour)
	w.turn()
	if e := w.experiments["likes"]; e.Status.Step != 0 || e.Status.Message != "the readout, without which it makes no step: the database is away" {
		t.Errorf("step %d: %s", e.Status.Step, e.Status.Message)
	}
	w.wish("likes", func(s *experiment.Wishes) { s.Paused = true })
	w.until("likes", inPhase(experiment.Paused))
	w.end("likes", experiment.Stopped)
	w.turn()
	if e := w.experiments["likes"]; e.Status.Phase != experiment.Concluded || e.Status.Assign.Open != (experiment.Open{}) {
		t.Errorf("%+v", e.Status)
	}
	w.until("likes", swept)
	w.away = false
	w.until("likes", swept)
	if got, want := strings.Join(w.recorded("likes"), " "), "warming running-0 paused-2 concluded"; got != want {
		t.Errorf("recorded %s: expected %s", got, want)
	}
	if got := w.transitions["likes"]; got[3].Conclusion != experiment.WasStopped || got[2].Conclusion != "" {
		t.Errorf("%+v", got)
	}
}

// With requests as the unit, the route splits them in half, and sends all of them to the treatment in a promotion.
func TestACanarySplitsRequestsInHalfUntilThePromotion(t *testing.T) {
	t.Parallel()
	for verdict, want := range map[experiment.Guard]experiment.Conclusion{experiment.GuardPass: experiment.WasPromoted, experiment.GuardBreach: experiment.WasRolledBack} {
		w := newFixture(t, "validate")
		w.draft(strings.Replace(canary, "unit: request", "unit: request\n  promote: automatic", 1), experiment.Wishes{Start: true})
		w.until("canary", atStep(0))
		if route := w.arms["canary/validate"].route; route.Percent != 50 {
			t.Errorf("%+v", route)
		}
		w.pass(24 * time.Hour)
		w.verdict["canary"] = experiment.Judgement{Guardrails: verdict}
		if want == experiment.WasPromoted {
			w.until("canary", inPhase(experiment.Promoting))
			w.until("canary", func(*rollout.Experiment) bool { return w.arms["canary/validate"].route.Percent == 100 })
		}
		w.until("canary", swept)
		if got := w.experiments["canary"].Status.Conclusion; got != want || (w.services["validate"].written == 1) != (want == experiment.WasPromoted) {
			t.Errorf("%s, written %d times: expected %s", got, w.services["validate"].written, want)
		}
	}
}

// Arms that do not answer delay other experiments for one turn at most, and never delay an end.
func TestArmsThatNeverAnswerDelayNobodyBeyondOneTurn(t *testing.T) { //nolint:paralleltest // it sets a package variable
	defer rollout.SetAskLimit(300 * time.Millisecond)()
	w := newFixture(t, services...)
	single := func(name, service string) string {
		return strings.NewReplacer("name: likes}", "name: "+name+"}", "[like, timeline, tweet]", "["+service+"]", "exposure: [timeline, tweet]", "exposure: ["+service+"]", "  layer: {name: engagement, slots: [0, 5000]}\n", "").Replace(whole)
	}
	for i := range 6 {
		w.serve(fmt.Sprint("deaf", i))
	}
	w.pass(time.Minute)
	w.draft(single("likes", "like"), experiment.Wishes{Start: true})
	w.draft(single("zeta", "tweet"), experiment.Wishes{Start: true})
	w.until("likes", atStep(0))
	w.until("zeta", atStep(0))
	for i := range 6 {
		name := fmt.Sprint("a-deaf", i) // before the others in the alphabet
		w.draft(single(name, fmt.Sprint("deaf", i)), experiment.Wishes{Start: true})
		w.until(name, inPhase(experiment.Warming))
		w.deaf[name] = true
	}
	w.pass(time.Minute)
	w.end("zeta", experiment.Stopped)
	w.trip("likes", "it fails")
	began, stopped := time.Now(), time.Duration(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for stopped == 0 && time.Since(began) < time.Minute {
			w.mu.Lock()
			if w.experiments["zeta"].Status.Phase == experiment.Concluded {
				stopped = time.Since(began)
			}
			w.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	}()
	w.turnBy(&rollout.Driver{})
	<-done
	if got := w.experiments["likes"].Status.Phase; got != experiment.Concluded {
		t.Errorf("likes is %s after one turn", got)
	}
	if stopped > 250*time.Millisecond {
		t.Errorf("the stop took %s: expected it to be first", stopped)
	}
}

func TestATurnBeginsWithEndsAndThenTheLongestWaiting(t *testing.T) {
	t.Parallel()
	w, d := newFixture(t, services...), &rollout.Driver{}
	order := func() string {
		all, err := (&access{fixture: w}).Experiments(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(d.Order(all), " ")
	}
	w.draft(rival, experiment.Wishes{Start: true})
	w.turnBy(d)
	w.draft(strings.Replace(rival, "name: rival}", "name: other}", 1), experiment.Wishes{})
	w.draft(strings.Replace(rival, "name: rival}", "name: zeta}", 1), experiment.Wishes{})
	if got := order(); got != "other zeta rival" {
		t.Errorf("%s: expected rival last, because it has had its turn", got)
	}
	w.end("rival", experiment.Stopped)
	if got := order(); got != "rival other zeta" {
		t.Errorf("%s: expected rival first, because it has to end", got)
	}
}

// A new database does not know the experiment. The experiment continues, and does not wait for transitions to be recorded.
func TestAnExperimentDoesNotWaitForADatabaseThatDoesNotKnowIt(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	clear(w.started)
	w.end("likes", experiment.Stopped)
	w.until("likes", swept)
}
