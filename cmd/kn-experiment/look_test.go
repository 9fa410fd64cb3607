package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

func TestListAndStatusShowTheResource(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	e := likes(experiment.Running)
	e.Status.Lift, e.Status.Message = "+4.1% (1.0% to 7.3%)", "refused:\nfor two reasons"
	for kind, message := range map[string]string{"Healthy": "", "BaseDrifted": "like"} {
		meta.SetStatusCondition(&e.Status.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: "It", Message: message})
	}
	meta.SetStatusCondition(&e.Status.Conditions, metav1.Condition{Type: "GuardrailsPassing", Status: metav1.ConditionFalse, Reason: "Inconclusive", Message: "more requests"})
	a.keep(e)
	stdout, stderr, code := a.run(t, "list")
	want := `NAME   PHASE      STEP       HEALTH  LIFT
likes  Running    1/3 10%    good    +4.1% (1.0% to 7.3%)
  refused:; for two reasons
`
	if diff := cmp.Diff(want, stdout); code != 0 || diff != "" {
		t.Errorf("exit code %d, says %q\n%s", code, stderr, diff)
	}
	e.Status.Message = "step 1/3 10% until tomorrow"
	a.keep(e)
	stdout, stderr, code = a.run(t, "status", "likes")
	want = `likes: Running, step 1/3 10%
  services    like
  slots       1000 control, 1000 treatment of 10000
  drift       like was deployed after the arms: kn experiment rebase likes
  health      good
  guardrails  inconclusive more requests
  lift        +4.1% (1.0% to 7.3%)
  now         step 1/3 10% until tomorrow
`
	if diff := cmp.Diff(want, stdout); code != 0 || diff != "" {
		t.Errorf("exit code %d, says %q\n%s", code, stderr, diff)
	}
	for _, format := range []string{"yaml", "json"} {
		if stdout, _, code := a.run(t, "list", "-o", format); code != 0 || !strings.Contains(stdout, "ExperimentList") {
			t.Errorf("exit code %d, says %q", code, stdout)
		}
	}
	if stdout, _, code := a.run(t, "status", "likes", "-o", "yaml"); code != 0 || !strings.Contains(stdout, "kind: Experiment\n") || !strings.Contains(stdout, "phase: Running") {
		t.Errorf("exit code %d, says %q", code, stdout)
	}
}

// The edges close every slot when they see a wish to stop, so the status shows no open slot.
func TestStatusShowsTheSlotsThatTheEdgesUse(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	e := likes(experiment.Running)
	e.Spec.End, e.Generation = experiment.Stopped, 2
	a.keep(e)
	stdout, _, code := a.run(t, "status", "likes")
	if code != 0 || !strings.Contains(stdout, "0 control, 0 treatment of 10000") || !strings.Contains(stdout, "steer has not seen the last wish yet") {
		t.Errorf("exit code %d, says %q", code, stdout)
	}
}

func TestVersionSaysWhetherTheClusterHasTheResource(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	if stdout, _, code := a.run(t, "version"); code != 0 || !strings.Contains(stdout, "cluster   "+a.URL+" has the resource\n") {
		t.Errorf("exit code %d, says %q", code, stdout)
	}
	if stdout, _, code := a.run(t, "version", "-n", "elsewhere"); code != 0 || !strings.Contains(stdout, "does not have the resource: kubectl apply -f knative/210-experiment-crd.yaml") {
		t.Errorf("exit code %d, says %q", code, stdout)
	}
}

func TestTheNamespaceIsThatOfTheFlagTheFileOrTheContext(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.keep(likes(experiment.Running))
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"the context's":                 {[]string{"status", "likes"}, ""},
		"the flag's":                    {[]string{"status", "likes", "-n", "elsewhere"}, "in the namespace elsewhere"},
		"the file's before the context": {[]string{"plan", "-f", file(t, "name: likes", "name: likes\n  namespace: elsewhere")}, "could not find the requested resource"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, stderr, _ := a.run(t, c.args...); !strings.Contains(stderr, c.says) || c.says == "" && stderr != "" {
				t.Errorf("says %q, want %q", stderr, c.says)
			}
		})
	}
}

func TestImageOfTheTreatment(t *testing.T) {
	t.Parallel()
	e := byImage()
	if got := imageOf(e, "like"); got != "registry.test/like@sha256:1" {
		t.Errorf("before the arms are made: %s", got)
	}
	e.Status.Bases = []rollout.Base{{Name: "like", Treatment: "registry.test/like@sha256:2"}}
	if got := imageOf(e, "like"); got != "registry.test/like@sha256:2" {
		t.Errorf("after a rebase: %s", got)
	}
}
