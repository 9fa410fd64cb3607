package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// file writes the experiment likes to a file, with replacements of its text, and returns the path.
func file(t *testing.T, change ...string) string {
	t.Helper()
	e := withKind(likes(""))
	e.Status, e.Generation = rollout.Status{}, 0
	text, err := yaml.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "likes.yaml")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(change...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartWithAFile(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.services = []any{service("like")}
	stdout, stderr, code := a.run(t, "start", "-f", file(t), "-m", "let us see")
	want := `the plan is not checked, because DATABASE_URL is not set
likes is Warming
likes is Running, step 1/3 10%
`
	if diff := cmp.Diff(want, stdout); code != 0 || diff != "" {
		t.Errorf("exit code %d, says %q\n%s", code, stderr, diff)
	}
	if e := a.experiment("likes"); !e.Spec.Start || e.Spec.By != "ada" || e.Spec.Why != "let us see" || len(a.writes("")) != 1 {
		t.Errorf("%+v after %q", e.Spec.Wishes, a.writes(""))
	}
}

// The baseline takes an hour, so start does not wait for its end.
func TestAStartIsDoneWhileTheBaselineIsCounted(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(e *rollout.Experiment, _ int) {
		if e.Spec.Start {
			e.Status.ObservedGeneration, e.Status.Phase, e.Status.Message = e.Generation, experiment.Warming, "the baseline, which is counted until 2099-01-01 00:00:00"
			e.Status.Assign.Services = []rollout.ServiceReach{{Name: "like"}}
		}
	})
	a.services = []any{service("like")}
	draft := likes("")
	draft.Spec.Metrics.Baseline = new(experiment.Duration(3600e9))
	draft.Spec.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}
	a.keep(draft)
	stdout, stderr, code := a.run(t, "start", "likes")
	if code != 0 || !strings.HasSuffix(stdout, "likes is Warming\nwaits for the baseline, which is counted until 2099-01-01 00:00:00\n") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
}

func TestStartWithTheNameOfADraft(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.services = []any{service("like")}
	a.keep(likes(""))
	a.conflicts = 1
	_, stderr, code := a.run(t, "start", "likes")
	if code != 0 || len(a.writes("PATCH")) != 2 || len(a.writes("")) != 2 {
		t.Errorf("exit code %d, says %q, wrote %q", code, stderr, a.writes(""))
	}
}

// A draft in the cluster gets the design of the file, and keeps its wishes and labels.
func TestStartWithAFileUpdatesTheDraft(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.services = []any{service("like")}
	draft := likes("")
	draft.Labels = map[string]string{"team": "growth"}
	draft.Spec.Ramp.Steps = []int{50}
	a.keep(draft)
	a.conflicts = 1
	_, stderr, code := a.run(t, "start", "-f", file(t))
	e := a.experiment("likes")
	if code != 0 || len(a.writes("PUT")) != 2 || len(a.writes("")) != 2 {
		t.Errorf("exit code %d, says %q, wrote %q", code, stderr, a.writes(""))
	}
	if diff := cmp.Diff([]int{10, 25, 50}, e.Spec.Ramp.Steps); diff != "" || e.Labels["team"] != "growth" || !e.Spec.Start {
		t.Errorf("%+v %v", e.Spec, e.Labels)
	}
}

func TestStartAtATimeIsDoneWhenSteerHasSeenIt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	stdout, stderr, code := a.run(t, "start", "-f", file(t), "--at", "2099-01-01T00:00:00Z")
	if code != 0 || !strings.HasSuffix(stdout, "likes is Draft\nwaits for its start at 2099-01-01T00:00:00Z\n") || !strings.Contains(stdout, "steer checks again at the time of the start") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
	if e := a.experiment("likes"); e.Spec.Start || e.Spec.StartAt != "2099-01-01T00:00:00Z" {
		t.Errorf("%+v", e.Spec.Wishes)
	}
	// A stop before that time prevents the start.
	if stdout, stderr, code := a.run(t, "stop", "likes"); code != 0 || a.experiment("likes").Spec.End != experiment.Stopped {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
	if _, stderr, code := a.run(t, "start", "likes"); code != refused || !strings.Contains(stderr, "likes never starts, because somebody ended it before its start") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
}

func TestARefusedStartWritesNothing(t *testing.T) {
	t.Parallel()
	for verb, args := range map[string][]string{"start": {"start", "-f", file(t)}, "plan": {"plan", "-f", file(t)}} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, steer)
			_, stderr, code := a.run(t, args...)
			if code != refused || !strings.Contains(stderr, "there is no Knative Service like") || len(a.writes("")) > 0 {
				t.Errorf("exit code %d, says %q, wrote %q", code, stderr, a.writes(""))
			}
		})
	}
}

func TestStartWorksWithoutTheRightToReadServices(t *testing.T) {
	t.Parallel()
	a := newAPI(t, steer)
	a.forbidden = "services"
	stdout, stderr, code := a.run(t, "start", "-f", file(t))
	if code != 0 || !strings.Contains(stdout, "the Services are not checked here, because you may not read them; steer checks them\n") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
	if stdout, stderr, code := a.run(t, "plan", "-f", file(t, "likes", "loves")); code != 0 || !strings.Contains(stdout, "cannot show what a start would make") {
		t.Errorf("plan: exit code %d, says %q and %q", code, stdout, stderr)
	}
}

// refuses plays a steer that refuses every start.
func refuses(e *rollout.Experiment, _ int) {
	if e.Spec.Start && e.Spec.End == "" {
		e.Status.ObservedGeneration = e.Generation
		stall(e, "Refused", "refused: services: like is in the experiment loves: expected one at a time")
	}
}

func TestANewExperimentIsDeletedIfItsStartIsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, refuses)
	a.services = []any{service("like")}
	_, stderr, code := a.run(t, "start", "-f", file(t))
	if code != refused || !strings.Contains(stderr, "likes: refused: services: like is in the experiment loves") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
	if e := a.experiment("likes"); e != nil {
		t.Errorf("%+v is still there", e.Spec.Wishes)
	}
	if writes := a.writes("PATCH"); len(writes) != 1 || !strings.Contains(writes[0], `"end":"Stopped"`) { // prevents a start before the deletion
		t.Errorf("wrote %q", a.writes(""))
	}
}

func TestADraftIsKeptIfItsStartIsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, refuses)
	a.services = []any{service("like")}
	a.keep(likes(""))
	_, stderr, code := a.run(t, "start", "-f", file(t))
	if code != refused || !strings.Contains(stderr, "to cancel the start: kn experiment stop likes") || a.experiment("likes") == nil {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
}

// The reason for an old refusal may be gone. Steer checks the experiment again within a minute.
func TestAnOldRefusalIsNotTakenForAnAnswer(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(e *rollout.Experiment, reads int) {
		if reads == 4 {
			e.Status.Phase, e.Status.Conditions, e.Status.Message = experiment.Running, nil, ""
		}
	})
	a.services = []any{service("like")}
	draft := likes("")
	draft.Spec.Start, draft.Spec.By = true, "ada"
	refuses(draft, 0)
	a.keep(draft)
	if stdout, stderr, code := a.run(t, "start", "likes"); code != 0 || !strings.Contains(stdout, "likes is Running") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
}

func TestPlanShowsWhatAStartMakesForEachService(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.services = []any{service("like", map[string]any{"name": "FEATURES", "value": "none"})}
	stdout, stderr, code := a.run(t, "plan", "-f", file(t))
	want := `like
  untouched  like-00007; you can deploy new revisions at any time
  control    a copy of like-00007
  treatment  a copy of like-00007 with
               FEATURES: "none" -> "likes"
cannot show which effect the experiment can find: DATABASE_URL is not set: expected the URL of Warble's PostgreSQL, with a login that is a member of warble_ops
`
	if diff := cmp.Diff(want, stdout); code != 0 || diff != "" || len(a.writes("")) > 0 {
		t.Errorf("exit code %d, says %q\n%s", code, stderr, diff)
	}
}
