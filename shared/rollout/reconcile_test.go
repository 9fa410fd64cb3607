package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/rollout"
)

var services = []string{"like", "timeline", "tweet"}

// foreign is what somebody has set up on tweet before the experiment: a split, and two tags.
var foreign = []rollout.Target{
	{Latest: true, Percent: 90}, {Revision: "tweet-00000", Percent: 10, Tag: "before"}, {Tag: "mine", Revision: "tweet-00000"},
}

func begin(t *testing.T) *world {
	w := newWorld(t, services...)
	w.services["tweet"].Traffic = slices.Clone(foreign)
	w.draft(whole)
	w.want("likes", experiment.Run{State: experiment.Running, By: "ada"})
	return w
}

// The life of an experiment, seen from outside: who could get what, at every moment (see world.check), and what is left.
func TestLife(t *testing.T) {
	t.Parallel()
	run := func(state experiment.State) experiment.Run { return experiment.Run{State: state, By: "ada"} }
	for _, c := range []struct {
		name        string
		live        func(*world)
		traffic     []rollout.Target // of tweet, in the end
		features    string
		image       string // of tweet, where it is another
		transitions []string
	}{{
		name: "promoted",
		live: func(w *world) {
			w.until("likes", atStep(0))
			w.want("likes", experiment.Run{State: experiment.Running, Step: 2, By: "ada"})
			w.until("likes", atStep(2))
			w.want("likes", experiment.Run{State: experiment.Promoted, By: "bob", Why: "it is good"})
			w.until("likes", phase(rollout.Concluded))
		},
		traffic:  []rollout.Target{{Latest: true, Percent: 100}, {Tag: "before", Revision: "tweet-00000"}, {Tag: "mine", Revision: "tweet-00000"}},
		features: "likes",
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "running-0: Running 10% by ada: every arm answers",
			"running-2: Running 50% by ada: a person has made the step", "promoting: Promoting 100% by bob: it is good",
			"concluding: Concluding 0% by steer: the treatment is what everyone has",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}, {
		name: "moved to another image, and rolled back",
		live: func(w *world) {
			w.until("likes", atStep(0))
			w.want("likes", experiment.Run{State: experiment.Running, Images: map[string]experiment.Image{"tweet": "registry.test/tweet@sha256:2"}})
			w.until("likes", func(e *rollout.Experiment) bool { return e.Status.Bases == 1 })
			w.want("likes", run(experiment.RolledBack))
			w.until("likes", phase(rollout.Concluded))
		},
		traffic: foreign,
		image:   "registry.test/tweet@sha256:2",
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "running-0: Running 10% by ada: every arm answers",
			"rebased-1: Running 10% by steer: a break: a deployment has moved both arms to another image",
			"concluding: Concluding 0% by ada: a person has rolled it back",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}, {
		name: "rolled back by a person",
		live: func(w *world) {
			w.until("likes", atStep(0))
			w.want("likes", run(experiment.RolledBack))
			w.until("likes", phase(rollout.Concluded))
		},
		traffic: foreign,
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "running-0: Running 10% by ada: every arm answers",
			"concluding: Concluding 0% by ada: a person has rolled it back",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}, {
		name: "stopped while it warms",
		live: func(w *world) {
			w.until("likes", phase(rollout.Warming))
			w.want("likes", run(experiment.Stopped))
			w.until("likes", phase(rollout.Concluded))
		},
		traffic: foreign,
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "concluding: Concluding 0% by ada: a person has stopped it",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}, {
		name: "deleted while it runs",
		live: func(w *world) {
			w.until("likes", atStep(0))
			w.remove("likes")
			if rules := w.experiments["likes"].Rules(); rules.Open != (experiment.Open{}) {
				w.t.Errorf("a deletion waits to be reconciled: %+v", rules)
			}
			w.until("likes", func(*rollout.Experiment) bool { return w.gone["likes"] != nil })
		},
		traffic: foreign,
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "running-0: Running 10% by ada: every arm answers",
			"concluding: Concluding 0% by steer: it was deleted",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}, {
		name: "deleted while a treatment crashes",
		live: func(w *world) {
			w.broken = func(revision string) string {
				if strings.HasPrefix(revision, "timeline-likes-treatment-") {
					return "ExitCode2"
				}
				return ""
			}
			w.until("likes", func(e *rollout.Experiment) bool { return strings.HasSuffix(e.Status.Message, "ExitCode2") })
			w.remove("likes")
			w.until("likes", func(*rollout.Experiment) bool { return w.gone["likes"] != nil })
		},
		traffic: foreign,
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "concluding: Concluding 0% by steer: it was deleted",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}, {
		name: "steps by itself, is paused, resumed, and lost by a guardrail",
		live: func(w *world) {
			w.until("likes", atStep(0))
			w.tick(24 * time.Hour)
			w.until("likes", atStep(1))
			w.want("likes", run(experiment.Paused))
			w.until("likes", phase(rollout.Paused))
			w.tick(48 * time.Hour)
			if o, _ := w.reconcile("likes"); o.Experiment.Status.Step != 1 {
				w.t.Errorf("a step was made in a pause: %+v", o.Experiment.Status)
			}
			w.want("likes", run(experiment.Running))
			w.until("likes", atStep(2))
			w.verdict.Guardrails, w.verdict.Reason = experiment.GuardBreach, "error_share is 5pp higher"
			w.until("likes", phase(rollout.Concluded))
		},
		traffic: foreign,
		transitions: []string{
			"warming: Warming 0% by ada: a person has started it", "running-0: Running 10% by ada: every arm answers",
			"running-1: Running 25% by steer: the step before was held, and no guardrail is against it",
			"paused-3: Paused 25% by ada: a person has paused it", "resumed-4: Running 25% by ada: a person has resumed it",
			"running-2: Running 50% by steer: the step before was held, and no guardrail is against it",
			"concluding: Concluding 0% by steer: error_share is 5pp higher",
			"concluded: Concluded 0% by steer: every Service is as it was found, but for what has won",
		},
	}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole := begin(t)
			c.live(whole)
			if diff := cmp.Diff(c.transitions, whole.transitions); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.traffic, whole.services["tweet"].Traffic); diff != "" {
				t.Error(diff)
			}
			for _, s := range whole.services {
				want := rollout.Template{Image: "registry.test/" + s.Name, Env: map[string]string{"FEATURES": c.features}, Elsewhere: []string{"DATABASE_URL"}}
				if s.Name == "tweet" && c.image != "" {
					want.Image = c.image
				}
				if diff := cmp.Diff(want, s.Template); diff != "" {
					t.Errorf("%s: %s", s.Name, diff)
				}
				if got := whole.revisions[s.Ready].Env; got["FEATURES"] != c.features || got["ARM"] != "" {
					t.Errorf("%s: its newest revision has %v", s.Name, got)
				}
			}

			// Whoever reconciles is killed at each write, before it has come through and after: the next one finishes.
			for at := 1; at <= whole.writes; at++ {
				for _, written := range []bool{false, true} {
					w := begin(t)
					w.dieAt, w.written = at, written
					c.live(w)
					if w.writes < at {
						t.Fatalf("there was no write %d", at)
					}
					if diff := cmp.Diff(left(whole), left(w)); diff != "" {
						t.Errorf("killed at write %d of %d (written: %t): %s", at, whole.writes, written, diff)
					}
				}
			}
			t.Logf("killed at each of %d writes, twice", whole.writes)
		})
	}
}

// left is what there is in the end, but for when it was made, and how revisions are numbered.
func left(w *world) any {
	services := make(map[string]any)
	for name, s := range w.services {
		services[name] = []any{s.Template, s.Traffic, w.revisions[s.Ready].Template}
	}
	status := w.last("likes").Status
	return []any{services, w.transitions, status.Phase, status.Conclusion, status.Open, status.Salt, w.started["likes"].PlannedUnits}
}

// Who has promoted by mistake has everyone back at once, whatever the edges still do.
func TestAPromotionCanBeStopped(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.slow = true
	w.want("likes", experiment.Run{State: experiment.Promoted})
	w.until("likes", phase(rollout.Promoting))
	w.reconcile("likes")
	treatment := w.experiments["likes"].Status.Services[2].Treatment
	if got := w.serves("tweet"); !slices.Equal(got, []string{treatment}) {
		t.Errorf("in a promotion %v serves, want %s", got, treatment)
	}
	w.want("likes", experiment.Run{State: experiment.RolledBack})
	w.lenient = true // until the next write
	w.reconcile("likes")
	w.lenient, w.slow = false, false
	if got := w.serves("tweet"); !slices.Equal(got, []string{"tweet-00001", "tweet-00000"}) {
		t.Errorf("after the stop %v serves", got)
	}
	w.until("likes", phase(rollout.Concluded))
	if diff := cmp.Diff(foreign, w.services["tweet"].Traffic); diff != "" || w.experiments["likes"].Status.Conclusion != rollout.WasRolledBack {
		t.Error(w.experiments["likes"].Status.Conclusion, diff)
	}
}

// No user gets into an arm that does not run, and whoever looks is told why.
func TestATreatmentThatCrashesGetsNobody(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.broken = func(revision string) string {
		if strings.HasPrefix(revision, "timeline-likes-treatment-") {
			return "ExitCode2: FEATURES is \"hearts\""
		}
		return ""
	}
	for range 5 {
		w.reconcile("likes")
		w.tick(time.Minute)
	}
	o, _ := w.reconcile("likes")
	if e := w.experiments["likes"]; e.Status.Phase != rollout.Warming || e.Rules().Open != (experiment.Open{}) || e.Status.Message != o.Waits {
		t.Errorf("%+v", e.Status)
	}
	if want := "the treatment of timeline, revision timeline-likes-treatment-"; !o.Stuck || !strings.Contains(o.Waits, want) || !strings.HasSuffix(o.Waits, `FEATURES is "hearts"`) {
		t.Errorf("it waits for %q, want %q and why", o.Waits, want)
	}
	w.want("likes", experiment.Run{State: experiment.Stopped})
	w.until("likes", phase(rollout.Concluded))
	if diff := cmp.Diff(foreign, w.services["tweet"].Traffic); diff != "" {
		t.Error(diff)
	}
}

// What Knative says of itself is not what a request finds.
func TestNobodyIsAssignedBeforeEveryTagAnswers(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.deaf = true
	for range 5 {
		w.reconcile("likes")
		w.tick(time.Minute)
	}
	if e := w.experiments["likes"]; e.Status.Phase != rollout.Warming || !strings.Contains(e.Status.Message, "likes-control of like to answer: no such host") {
		t.Errorf("%+v", e.Status)
	}
	w.deaf = false
	w.until("likes", atStep(0))
}

func TestItHoldsWithoutAReadoutAndStopsWithoutADatabase(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.databaseErr, w.verdictErr = errors.New("the database is away"), errors.New("the database is away")
	w.tick(48 * time.Hour)
	o, _ := w.reconcile("likes")
	if want := "a readout, and holds: the database is away"; o.Waits != want || o.Experiment.Status.Step != 0 {
		t.Errorf("%q at step %d, want %q", o.Waits, o.Experiment.Status.Step, want)
	}
	w.want("likes", experiment.Run{State: experiment.Stopped, By: "ada"})
	if rules := w.experiments["likes"].Rules(); rules.Open != (experiment.Open{}) {
		t.Errorf("a stop waits to be reconciled: %+v", rules)
	}
	for range 4 {
		w.reconcile("likes")
		w.tick(time.Minute)
	}
	if e := w.experiments["likes"]; e.Status.Phase != rollout.Concluded || len(e.Status.Unrecorded) != 2 {
		t.Errorf("%+v", e.Status)
	}
	w.databaseErr = nil
	w.until("likes", phase(rollout.Concluded))
	if got := w.transitions[len(w.transitions)-2:]; !strings.HasPrefix(got[0], "concluding: ") || !strings.HasPrefix(got[1], "concluded: ") {
		t.Errorf("the database caught up on %q", got)
	}
}

// A report of what has ended reads until then: had it a second less, it might not see what the end was for.
func TestAnEndIsRecordedToTheMicrosecond(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.tick(time.Hour + 300*time.Millisecond)
	w.verdict.Guardrails, w.verdict.Reason = experiment.GuardBreach, "error_share is 5pp higher"
	judged := w.now
	for range 2 { // it is written, and then recorded
		w.reconcile("likes")
	}
	if !w.recorded.Equal(judged) || !strings.HasPrefix(w.transitions[len(w.transitions)-1], "concluding: ") {
		t.Errorf("recorded %q at %s, judged at %s", w.transitions, w.recorded, judged)
	}
}

func TestWhatTheReadoutSaysIsDone(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*world){
		"Running: step 1/3 10% until 2026-11-25 12:00:10": func(w *world) { w.tick(-24 * time.Hour) },
		"Running: 10 units in each arm, and has 9 and 30": func(w *world) {
			w.verdict.Entered, w.verdict.Reachable = experiment.Counts{Control: 9, Treatment: 30}, 100
		},
		"Running: 30 units in each arm, and has 29 and 30": func(w *world) { w.verdict.Entered = experiment.Counts{Control: 29, Treatment: 30} },
		"Running: the guardrails: 12 of 30 windows": func(w *world) {
			w.verdict.Guardrails, w.verdict.Reason = experiment.GuardInconclusive, "12 of 30 windows"
		},
		"Running: holds, its health is red: sample ratio":                               func(w *world) { w.verdict.Health, w.verdict.Decision = "sample ratio", experiment.Win },
		"Running: holds, inconclusive: no one knows":                                    func(w *world) { w.verdict.Decision, w.verdict.Sentence = experiment.Inconclusive, "no one knows" },
		"Running: promotion: it is better: kn experiment promote likes":                 func(w *world) { w.verdict.Decision, w.verdict.Sentence = experiment.Win, "it is better" },
		"Concluding: the edges to look away from the arms, until 12:00:15: it is worse": func(w *world) { w.verdict.Decision, w.verdict.Sentence = experiment.Harm, "it is worse" },
		"Concluding: the edges to look away from the arms, until 12:00:15: too little":  func(w *world) { w.verdict.Decision, w.verdict.Sentence = experiment.NotWorthIt, "too little" },
		"Running: approval of step 2: kn experiment approve likes":                      func(w *world) { w.experiments["likes"].Spec.Ramp.Approve = "manual" },
	} {
		w := begin(t)
		w.until("likes", atStep(0))
		w.tick(24 * time.Hour)
		change(w)
		o, _ := w.reconcile("likes")
		got := fmt.Sprintf("%s: %s", o.Experiment.Status.Phase, o.Waits)
		if because, ok := strings.CutPrefix(o.Experiment.Status.Because, "rolled back: "); ok {
			got += ": " + because
		}
		got = strings.ReplaceAll(got, "until 12:00:15 ", "")
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	w := begin(t)
	w.experiments["likes"].Spec.Promote = "automatic"
	w.until("likes", atStep(0))
	w.verdict.Decision, w.verdict.Sentence = experiment.Win, "it is better"
	w.verdict.Guardrails, w.verdict.Reason = experiment.GuardInconclusive, "12 of 30 windows"
	if o, _ := w.reconcile("likes"); o.Waits != "the guardrails: 12 of 30 windows" || o.Experiment.Status.Phase != rollout.Running {
		t.Errorf("a win with an open guardrail is %s, and waits for %q", o.Experiment.Status.Phase, o.Waits)
	}
	w.verdict.Guardrails = experiment.GuardPass
	w.until("likes", phase(rollout.Concluded))
	if got := w.experiments["likes"].Status.Conclusion; got != rollout.WasPromoted {
		t.Errorf("a win that may promote is %s", got)
	}
}

// A person who writes while a step is being made is heard first.
func TestAPauseBeatsAStep(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.tick(24 * time.Hour)
	r := rollout.Reconciler{Cluster: pausing{w}, Store: w, Readout: w, Now: func() time.Time { return w.now }, Actor: "steer"}
	o, err := r.Reconcile(t.Context(), "likes")
	if err != nil || o.Experiment.Status.Phase != rollout.Paused || o.Experiment.Status.Step != 0 {
		t.Errorf("%+v %v", o, err)
	}
}

// pausing has a person pause between what Reconcile reads and what it writes.
type pausing struct{ *world }

func (p pausing) Service(ctx context.Context, name string) (*rollout.Service, error) {
	if p.experiments["likes"].Spec.Run.State != experiment.Paused {
		p.want("likes", experiment.Run{State: experiment.Paused})
	}
	return p.world.Service(ctx, name)
}

// Somebody else changes a Service all the time: their tag survives, and the experiment goes on.
func TestConflictsAreReadAgain(t *testing.T) {
	t.Parallel()
	w := begin(t)
	n := 0
	w.meddle = func(w *world) {
		if n++; n%2 == 1 {
			s := w.services["like"]
			s.Traffic = append(s.Traffic, rollout.Target{Tag: fmt.Sprint("other-", n), Revision: "like-00001"})
			s.version++
		}
	}
	w.until("likes", atStep(0))
	w.want("likes", experiment.Run{State: experiment.RolledBack})
	w.until("likes", phase(rollout.Concluded))
	got := w.services["like"].Traffic
	if len(got) < 3 || got[0] != (rollout.Target{Latest: true, Percent: 100}) || got[1].Tag != "other-1" {
		t.Errorf("%v", got)
	}
}

// What somebody has undone is done again, or everyone in the experiment would be out of it until somebody notices.
func TestATagThatWasTakenAwayComesBack(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	before := slices.Clone(w.services["like"].Traffic)
	w.services["like"].Traffic = []rollout.Target{{Latest: true, Percent: 100}}
	w.reconcile("likes")
	if diff := cmp.Diff(before, w.services["like"].Traffic); diff != "" {
		t.Error(diff)
	}
}

// Requests are split by Knative's own percent; guardrails alone judge.
func TestCanary(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		w := newWorld(t, "validate")
		e := w.draft(canary)
		e.Spec.Promote = "automatic"
		w.verdict = experiment.Verdict{Guardrails: experiment.GuardInconclusive}
		w.want("canary", experiment.Run{State: experiment.Running})
		w.until("canary", func(*rollout.Experiment) bool {
			return len(w.services["validate"].Traffic) == 3 && w.services["validate"].Traffic[2].Percent > 0
		})
		want := []rollout.Target{
			{Revision: "validate-00001", Percent: 60},
			{Tag: "canary-control", Revision: w.experiments["canary"].Status.Services[0].Control, Percent: 20},
			{Tag: "canary-treatment", Revision: w.experiments["canary"].Status.Services[0].Treatment, Percent: 20},
		}
		if diff := cmp.Diff(want, w.services["validate"].Traffic); diff != "" {
			t.Error(diff)
		}
		w.tick(24 * time.Hour)
		image, conclusion := "registry.test/validate@sha256:1", rollout.WasPromoted
		w.verdict.Guardrails = experiment.GuardPass
		if lost {
			image, conclusion = "registry.test/validate", rollout.WasRolledBack
			w.verdict.Guardrails = experiment.GuardBreach
		}
		w.until("canary", phase(rollout.Concluded))
		if got := w.experiments["canary"].Status.Conclusion; got != conclusion || w.services["validate"].Template.Image != image {
			t.Errorf("%s, and %s is left", got, w.services["validate"].Template.Image)
		}
		if diff := cmp.Diff([]rollout.Target{{Latest: true, Percent: 100}}, w.services["validate"].Traffic); diff != "" {
			t.Error(diff)
		}
	}
}

// All that is against a start is said at once, and nothing has changed.
func TestAStartThatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "like", "tweet")
	w.draft(whole)
	w.draft(strings.NewReplacer("name: likes}", "name: other}", "[like, timeline, tweet]", "[tweet]", "exposure: [timeline, tweet]", "exposure: [tweet]", "unit: community", "unit: user").Replace(whole))
	w.want("other", experiment.Run{State: experiment.Running})
	w.until("other", atStep(0))
	w.services["like"].Template.Elsewhere = []string{"FEATURES"}
	w.want("likes", experiment.Run{State: experiment.Running})
	before := w.writes
	o, _ := w.reconcile("likes")
	want := `refused: services: tweet is in the experiment other, which is Running, step 1/3 10%: expected one at a time
layer: engagement has community, and user of the experiment other: expected one kind of unit
layer.slots: 0 to 5000 of engagement overlap those of the experiment other, 0 to 5000: expected others
like: the variable FEATURES has its value from a secret or config map: expected one that the treatment can set
like: it has no DATABASE_URL, so it cannot write who was exposed: expected a function with a database, or unit request
services: there is no Knative Service timeline`
	if diff := cmp.Diff(want, o.Waits); diff != "" || !o.Stuck {
		t.Error(diff)
	}
	if w.writes != before+1 || o.Experiment.Status.Phase != "" {
		t.Errorf("%d writes; %+v", w.writes-before, o.Experiment.Status)
	}
}

// What has changed no Service, or has put all of them back, goes as soon as it is deleted.
func TestWhatHasNothingToPutBackGoesAtOnce(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]func(*world){
		"a draft": func(w *world) {
			w.want("likes", experiment.Run{})
			w.reconcile("likes")
		},
		"one that was refused": func(w *world) {
			delete(w.services, "like")
			w.reconcile("likes")
		},
		"a concluded one": func(w *world) {
			w.until("likes", atStep(0))
			w.want("likes", experiment.Run{State: experiment.Stopped})
			w.until("likes", phase(rollout.Concluded))
		},
		"an archived one": func(w *world) {
			w.until("likes", atStep(0))
			w.want("likes", experiment.Run{State: experiment.Stopped})
			w.until("likes", phase(rollout.Concluded))
			w.want("likes", experiment.Run{State: experiment.Archived})
			w.until("likes", phase(rollout.Archived))
		},
	} {
		w := begin(t)
		live(w)
		w.remove("likes")
		if w.gone["likes"] == nil {
			t.Errorf("%s waits for %v", name, w.experiments["likes"].Finalizers)
		}
	}
}

// An experiment that was started before there were finalizers gets one; one that is deleted is there until the database
// has how it ended, but for a database that knows nothing of it.
func TestADeletionWaitsForTheRecord(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	w.lenient, w.experiments["likes"].Finalizers = true, nil
	w.reconcile("likes")
	w.lenient, w.databaseErr = false, errors.New("the database is away")
	w.remove("likes")
	for range 4 {
		w.reconcile("likes")
		w.tick(time.Minute)
	}
	if e := w.experiments["likes"]; e == nil || e.Status.Phase != rollout.Concluded || e.Status.Message != "the database to have how it ended" {
		t.Errorf("%+v", e)
	}
	w.databaseErr = fmt.Errorf("another database: %w", problem.NotFound)
	w.reconcile("likes")
	if w.gone["likes"] == nil {
		t.Errorf("it is still there, and waits for %s", w.experiments["likes"].Status.Message)
	}
}

// Of two that want one Service the one that has it keeps it, also where the other is older.
func TestAnOlderExperimentDoesNotTakeAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, services...)
	w.draft(whole)
	w.tick(time.Hour)
	w.draft(rival)
	w.want("rival", experiment.Run{State: experiment.Running})
	w.until("rival", atStep(0))
	w.want("likes", experiment.Run{State: experiment.Running})
	before := slices.Clone(w.services["tweet"].Traffic)
	o, _ := w.reconcile("likes")
	if want := "refused: services: tweet is in the experiment rival, which is Running, step 1/3 10%: expected one at a time"; o.Waits != want || !o.Stuck {
		t.Errorf("%q, want %q", o.Waits, want)
	}
	if diff := cmp.Diff(before, w.services["tweet"].Traffic); diff != "" || w.experiments["likes"].Rules().Open != (experiment.Open{}) {
		t.Error(w.experiments["likes"].Status, diff)
	}
}

// rival wants tweet as well.
var rival = strings.NewReplacer("name: likes}", "name: rival}", "[like, timeline, tweet]", "[tweet]", "exposure: [timeline, tweet]", "exposure: [tweet]", "name: engagement", "name: writing").Replace(whole)

// Two starts at the same moment, whichever looks first: one has the Service, and the other is told by which.
func TestTwoStartsOfOneService(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"likes", "rival"}, {"rival", "likes"}} {
		first, second := names[0], names[1]
		w := newWorld(t, services...)
		w.draft(whole)
		w.draft(rival)
		w.want("likes", experiment.Run{State: experiment.Running})
		w.want("rival", experiment.Run{State: experiment.Running})
		r := rollout.Reconciler{Cluster: &racing{world: w, other: second}, Store: w, Readout: w, Now: func() time.Time { return w.now }, Actor: "steer"}
		if o, err := r.Reconcile(t.Context(), first); err != nil || o.Experiment.Status.Phase != rollout.Warming {
			t.Fatalf("%+v %v", o, err)
		}
		if got, want := w.experiments[second].Status.Message, "another experiment that is being started"; got != want {
			t.Errorf("%s waits for %q, want %q", second, got, want)
		}
		o, _ := w.reconcile(second)
		if want := "refused: services: tweet is in the experiment " + first + ", which is Warming: expected one at a time"; o.Waits != want || o.Experiment.Status.Phase.Live() {
			t.Errorf("%s is %s: %q, want %q", second, o.Experiment.Status.Phase, o.Waits, want)
		}
		w.until(first, atStep(0))
	}
}

// racing has another experiment reconciled between what Reconcile reads of the experiments and what it writes.
type racing struct {
	*world
	other string
	ran   bool
}

func (r *racing) Service(ctx context.Context, name string) (*rollout.Service, error) {
	if !r.ran {
		r.ran = true
		r.reconcile(r.other)
	}
	return r.world.Service(ctx, name)
}

func TestTwoDoNotReconcileOneExperiment(t *testing.T) {
	t.Parallel()
	w := begin(t)
	release, err := w.Lock(t.Context(), "likes", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	r := rollout.Reconciler{Cluster: w, Store: w, Readout: w, Now: func() time.Time { return w.now }}
	if _, err := r.Reconcile(t.Context(), "likes"); !errors.Is(err, rollout.ErrLocked) {
		t.Errorf("%v, want %v", err, rollout.ErrLocked)
	}
	release()
	w.until("likes", atStep(0))
}
