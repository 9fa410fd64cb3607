package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// likes returns an experiment in a phase.
func likes(phase experiment.Phase) *rollout.Experiment {
	e := &rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: "likes", Generation: 1}}
	e.Spec = experiment.Spec{
		Services: []string{"like"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FEATURES": "likes"}}, Unit: experiment.User,
		Ramp:    experiment.Ramp{Steps: []int{10, 25, 50}},
		Metrics: experiment.Metrics{Window: experiment.Duration(7 * 24 * 3600e9), Primary: experiment.Primary{Name: "tweets_per_user", MinimumEffect: .05}},
	}
	e.Spec.Default()
	e.Status = rollout.Status{Phase: phase, ObservedGeneration: 1}
	if phase.Runs() {
		e.Status.Progress = "1/3 10%"
		e.Status.Assign.Open, e.Status.Assign.ArmedAt = experiment.Open{Control: 1000, Treatment: 1000}, metav1.NowMicro()
	}
	return e
}

// stall marks an experiment as stalled.
func stall(e *rollout.Experiment, reason, message string) {
	e.Status.Message = message
	meta.SetStatusCondition(&e.Status.Conditions, metav1.Condition{Type: "Stalled", Status: metav1.ConditionTrue, Reason: reason, Message: message})
}

// steer carries out wishes at the first read after they were written.
func steer(e *rollout.Experiment, _ int) {
	if e.Status.ObservedGeneration == e.Generation {
		return
	}
	e.Status.ObservedGeneration, e.Status.Message, e.Status.Conditions = e.Generation, "", nil
	switch w := e.Spec.Wishes; {
	case e.Status.Phase == "" && w.End != "":
	case w.End == experiment.Promoted:
		e.Status.Phase, e.Status.Conclusion = experiment.Concluded, experiment.WasPromoted
	case w.End == experiment.Stopped:
		e.Status.Phase, e.Status.Conclusion = experiment.Concluded, experiment.WasStopped
	case w.End == experiment.RolledBack:
		e.Status.Phase, e.Status.Conclusion = experiment.Concluded, experiment.WasRolledBack
	case w.Archive:
		e.Status.Phase = experiment.Archived
	case e.Status.Phase == "" && w.StartAt != "":
		e.Status.Message = "its start at " + w.StartAt
	case e.Status.Phase == "" && w.Start:
		e.Status.Phase, e.Status.Message = experiment.Warming, "the control of like to be ready"
		e.Status.ObservedGeneration-- // so that the next read moves it on
	case e.Status.Phase == experiment.Warming:
		e.Status.Phase = experiment.Running
	case w.Paused:
		e.Status.Phase = experiment.Paused
	case e.Status.Phase == experiment.Paused && w.Rebase == nil:
		e.Status.Phase = experiment.Running
	case w.Rebase != nil:
		e.Status.Rebases = w.Rebase.Number
	case w.Step > e.Status.Step:
		e.Status.Step = w.Step
	}
}

func TestAVerbWritesOnlyItsWish(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		from *rollout.Experiment
		want string // a part of the patch
		says string
	}{
		"step":     {[]string{"step", "likes"}, likes(experiment.Running), `"step":1`, "likes is Running, step 2/3 25%\n"},
		"step to":  {[]string{"step", "likes", "--to", "3"}, likes(experiment.Running), `"step":2`, "likes is Running"},
		"pause":    {[]string{"pause", "likes"}, likes(experiment.Running), `"paused":true`, "likes is Paused"},
		"resume":   {[]string{"resume", "likes"}, paused(), `"paused":null`, "likes is Running"},
		"approve":  {[]string{"approve", "likes"}, manual(), `"approved":1`, "likes is Running"},
		"rebase":   {[]string{"rebase", "likes", "--image", "like=registry.test/like@sha256:2"}, likes(experiment.Paused), `"rebase":{"image":{"like":"registry.test/like@sha256:2"},"number":1}`, "likes is Paused"},
		"promote":  {[]string{"promote", "likes", "--anyway"}, likes(experiment.Running), `"anyway":true,"by":"ada","end":"Promoted"`, "likes is Concluded, promoted"},
		"rollback": {[]string{"rollback", "likes"}, likes(experiment.Running), `"end":"RolledBack"`, "likes is Concluded, rolled back"},
		"stop":     {[]string{"stop", "likes"}, likes(experiment.Promoting), `"end":"Stopped"`, "every slot is closed: within 2 s every edge sends everyone to the untouched Services\nlikes is Concluded, stopped\n"},
		"archive":  {[]string{"archive", "likes", "--no-export"}, concluded(), `"archive":true`, "likes is Archived"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, steer)
			a.keep(c.from)
			stdout, stderr, code := a.run(t, append(c.args, "-m", "we want it")...)
			if code != 0 || !strings.Contains(stdout, c.says) {
				t.Fatalf("exit code %d, says %q and %q; want %q", code, stdout, stderr, c.says)
			}
			writes := a.writes("PATCH")
			if len(a.writes("")) != 1 || len(writes) != 1 || !strings.Contains(writes[0], c.want) || !strings.Contains(writes[0], `"why":"we want it"`) {
				t.Errorf("wrote %q, want one patch with %s", a.writes(""), c.want)
			}
			if version := regexp.MustCompile(`"resourceVersion":"\d+"`); len(writes) == 1 && !version.MatchString(writes[0]) {
				t.Errorf("%s has no version", writes[0])
			}
		})
	}
}

func paused() *rollout.Experiment {
	e := likes(experiment.Paused)
	e.Spec.Paused = true
	return e
}

func manual() *rollout.Experiment {
	e := likes(experiment.Running)
	e.Spec.Ramp.Approve = "manual"
	return e
}

func concluded() *rollout.Experiment {
	e := likes(experiment.Concluded)
	e.Status.Conclusion, e.Status.Swept, e.Status.Because = experiment.WasStopped, true, "stopped: enough"
	return e
}

func byImage() *rollout.Experiment {
	e := likes(experiment.Running)
	e.Spec.Treatment.Image = map[string]experiment.Image{"like": "registry.test/like@sha256:1"}
	return e
}

func TestAnImpossibleWishIsNotWritten(t *testing.T) {
	t.Parallel()
	promoted := concluded()
	promoted.Status.Conclusion = experiment.WasPromoted
	used := likes(experiment.Concluded)
	used.Status.Swept, used.Status.Because = true, "an experiment likes has been started before"
	for name, c := range map[string]struct {
		args []string
		from *rollout.Experiment
		code int
		says string
	}{
		"a step of a draft":                {[]string{"step", "likes"}, likes(""), refused, "likes is Draft: step needs an experiment that is Running"},
		"a step back":                      {[]string{"step", "likes", "--to", "1"}, likes(experiment.Running), refused, "at step 1 of 3: expected a later step"},
		"a step after the last":            {[]string{"step", "likes", "--to", "4"}, likes(experiment.Running), refused, "at step 1 of 3"},
		"an approval that is not needed":   {[]string{"approve", "likes"}, likes(experiment.Running), refused, "because its ramp.approve is automatic, not manual"},
		"a rebase with the old image":      {[]string{"rebase", "likes"}, byImage(), refused, "name a new image with --image like=IMAGE"},
		"an image of another Service":      {[]string{"rebase", "likes", "--image", "tweet=a"}, byImage(), misused, "--image tweet: expected a Service of the experiment: like"},
		"a stop after a promotion":         {[]string{"stop", "likes"}, promoted, refused, "it has ended already"},
		"a stop of a draft":                {[]string{"stop", "likes"}, likes(""), refused, "kubectl delete experiment likes"},
		"a promotion during a pause":       {[]string{"promote", "likes"}, paused(), refused, "resume it first, with `kn experiment resume likes`"},
		"a promotion after a stop":         {[]string{"promote", "likes"}, concluded(), refused, "only an experiment that runs can be promoted"},
		"an archive without a database":    {[]string{"archive", "likes"}, concluded(), refused, "--no-export deletes the rows without one"},
		"an archive while it runs":         {[]string{"archive", "likes", "--no-export"}, likes(experiment.Running), refused, "archive needs an experiment that is Concluded"},
		"an archive before it ever ran":    {[]string{"archive", "likes", "--no-export"}, used, refused, "likes never ran"},
		"a wish for an unknown experiment": {[]string{"stop", "loves"}, likes(experiment.Running), failed, "there is no experiment loves in the namespace warble"},
		"a start while it runs":            {[]string{"start", "likes"}, likes(experiment.Running), refused, "a start needs a draft"},
		"a start after the end":            {[]string{"start", "likes"}, concluded(), refused, "give the new experiment another name"},
		"a start of an unknown draft":      {[]string{"start", "loves"}, likes(""), failed, "there is no experiment loves"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, steer)
			a.keep(c.from)
			_, stderr, code := a.run(t, c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d, says %q; want %d and %q", code, stderr, c.code, c.says)
			}
			if len(a.writes("")) > 0 {
				t.Errorf("wrote %q", a.writes(""))
			}
		})
	}
}

func TestAWishThatChangesNothingIsNotWritten(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.keep(concluded())
	if stdout, stderr, code := a.run(t, "stop", "likes"); code != 0 || stdout != "likes is Concluded, stopped\n" || len(a.writes("")) > 0 {
		t.Errorf("exit code %d, says %q and %q, wrote %q", code, stdout, stderr, a.writes(""))
	}
}

func TestAWishIsWrittenAgainAfterAConflict(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.keep(likes(experiment.Running))
	a.conflicts = 3
	if _, stderr, code := a.run(t, "stop", "likes"); code != 0 || len(a.writes("PATCH")) != 4 {
		t.Errorf("exit code %d, says %q, wrote %q", code, stderr, a.writes(""))
	}
}

func TestAVerbSaysThatSteerHasNotSeenTheWish(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.keep(likes(experiment.Running))
	stdout, stderr, code := a.run(t, "stop", "likes", "--timeout", "1s")
	want := "every slot is closed: within 2 s every edge sends everyone to the untouched Services\n" +
		"steer has not seen the wish for 500ms: check that steer is deployed (kubectl get ksvc steer), or move the experiment from here (kn experiment run)\n"
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Error(diff)
	}
	if code != late || !strings.Contains(stderr, "likes: not done after 1s: steer has not seen the wish") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
	if e := a.experiment("likes"); e.Spec.End != experiment.Stopped || e.Rules().Open != (experiment.Open{}) {
		t.Errorf("%+v: expected every slot closed without steer", e.Spec.Wishes)
	}
}

func TestAVerbPrintsEachThingThatItWaitsForOnce(t *testing.T) {
	t.Parallel()
	var reads int
	a := newAPI(t, func(e *rollout.Experiment, _ int) {
		if e.Spec.End == "" {
			return
		}
		e.Status.ObservedGeneration, e.Status.Phase = e.Generation, experiment.Promoting
		reads++
		e.Status.Message = "stage 20% of the promotion"
		if reads > 5 {
			e.Status.Message = "stage 50% of the promotion"
		}
	})
	a.keep(likes(experiment.Running))
	stdout, stderr, code := a.run(t, "promote", "likes", "--timeout", "2s")
	if diff := cmp.Diff("likes is Promoting\nwaits for stage 20% of the promotion\nwaits for stage 50% of the promotion\n", stdout); diff != "" {
		t.Error(diff)
	}
	if code != late || !strings.Contains(stderr, "not done after 2s: it waits for stage 50% of the promotion; steer continues") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
}

func TestPromoteFailsIfTheExperimentEndsInAnotherWay(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(e *rollout.Experiment, _ int) {
		if e.Spec.End != "" {
			e.Status.ObservedGeneration, e.Status.Phase, e.Status.Conclusion = e.Generation, experiment.Concluded, experiment.WasRolledBack
			e.Status.Because = "rolled back: the edges have suspended it"
		}
	})
	a.keep(likes(experiment.Running))
	if _, stderr, code := a.run(t, "promote", "likes"); code != refused || !strings.Contains(stderr, "likes was not promoted: rolled back: the edges have suspended it") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
}

func TestAPromotionByGitIsDoneWhenSteerAcceptsIt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(e *rollout.Experiment, _ int) {
		if e.Spec.End != "" {
			e.Status.ObservedGeneration, e.Status.Phase = e.Generation, experiment.Promoting
		}
	})
	e := likes(experiment.Running)
	e.Spec.PromoteBy = "git"
	a.keep(e)
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("../../knative")); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := a.run(t, "promote", "likes", "--write="+folder)
	if code != 0 || !strings.Contains(stdout, "wrote "+filepath.Join(folder, "500-like.yaml")+": commit it\nsteer waits until the manifests are deployed; to follow: ") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
}

func TestAVerbGivesUpIfTheExperimentStaysStalled(t *testing.T) {
	t.Parallel()
	for reason, c := range map[string]struct{ least, most int32 }{ // reads after the wish was seen
		"PromotionRefused": {1, 1},
		"ServiceManaged":   {1, 1},
		"DecisionNeeded":   {2, 50},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int32
			a := newAPI(t, func(e *rollout.Experiment, _ int) {
				if e.Spec.End == "" {
					return
				}
				seen.Add(1)
				e.Status.ObservedGeneration = e.Generation
				stall(e, reason, "no promotion")
			})
			e := likes(experiment.Running)
			stall(e, "DecisionNeeded", "promotion: kn experiment promote likes") // the state before the wish
			a.keep(e)
			_, stderr, code := a.run(t, "promote", "likes")
			if code != refused || !strings.Contains(stderr, "kn experiment: likes: no promotion\n") || seen.Load() < c.least || seen.Load() > c.most {
				t.Errorf("exit code %d after %d reads, says %q", code, seen.Load(), stderr)
			}
		})
	}
}

func TestARefusalByTheRulesHasItsOwnExitCode(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.keep(likes(experiment.Running))
	a.invalid = "spec.end: an end cannot be changed or taken back"
	if _, stderr, code := a.run(t, "stop", "likes"); code != refused || !strings.Contains(stderr, a.invalid) {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
}

func TestAVerbSaysThatTheExperimentWasDeleted(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.react = func(e *rollout.Experiment, reads int) {
		if reads > 2 {
			delete(a.kept, "likes")
		}
	}
	a.keep(likes(experiment.Running))
	// This react does not change e: the server would store a changed e, and the experiment would exist again.
	if _, stderr, code := a.run(t, "pause", "likes", "--timeout", "1m"); code != failed || !strings.Contains(stderr, "likes is gone: somebody has deleted it") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
}
