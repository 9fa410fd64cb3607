package rollout_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/jsonpath"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// condition returns a condition in a line; empty if the experiment does not have it.
func condition(e *rollout.Experiment, kind string) string {
	c := meta.FindStatusCondition(e.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return strings.TrimSuffix(fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), ": ")
}

// What kubectl wait, Flux and Argo CD can see of the readout's judgement, and of the end.
func TestConditionsShowHealthGuardrailsAndTheEnd(t *testing.T) {
	t.Parallel()
	pass := experiment.GuardPass
	judged := func(j experiment.Judgement) func(*fixture) {
		return func(w *fixture) { w.verdict["likes"] = j; w.turn() }
	}
	ended := func(end experiment.End) func(*fixture) {
		return func(w *fixture) { w.turn(); w.end("likes", end); w.until("likes", swept) }
	}
	const healthy, passing = "True EveryCheckPasses", "True Pass"
	for name, c := range map[string]struct {
		live                           func(*fixture)
		healthy, guardrails, concluded string
	}{
		"all is well":          {judged(experiment.Judgement{Guardrails: pass}), healthy, passing, ""},
		"a red health check":   {judged(experiment.Judgement{Guardrails: pass, Health: "skewed"}), "False ACheckIsRed: skewed", passing, ""},
		"too few requests":     {judged(experiment.Judgement{Guardrails: experiment.GuardInconclusive, Reason: "12 of 30 windows"}), healthy, "False Inconclusive: 12 of 30 windows", ""},
		"a breached guardrail": {judged(breach), healthy, "False Breach: error_share is 5pp higher", "True RolledBack: rolled back: error_share is 5pp higher"},
		"a verdict of harm":    {judged(experiment.Judgement{Guardrails: pass, Decision: experiment.Harm, Sentence: "it is worse"}), healthy, passing, "True RolledBack: rolled back: it is worse"},
		"a readout that then fails": {func(w *fixture) {
			judged(experiment.Judgement{Guardrails: pass, Health: "skewed"})(w)
			w.away = true
			w.turn()
		}, "False ACheckIsRed: skewed", passing, ""},
		"a person who rolls it back": {ended(experiment.RolledBack), healthy, passing, "True RolledBack: rolled back: a person has rolled it back"},
		"a person who stops it":      {ended(experiment.Stopped), healthy, passing, "True Stopped: stopped: a person has stopped it"},
		"a person who promotes it":   {ended(experiment.Promoted), healthy, passing, "True Promoted: promoted: everyone has the treatment"},
	} {
		w := begin(t)
		e := w.until("likes", inPhase(experiment.Warming))
		for _, kind := range []string{"Healthy", "GuardrailsPassing", "Concluded"} {
			if got := condition(e, kind); got != "" {
				t.Errorf("before it runs it has %s=%s", kind, got)
			}
		}
		w.until("likes", atStep(0))
		c.live(w)
		e = w.experiments["likes"]
		for kind, want := range map[string]string{"Healthy": c.healthy, "GuardrailsPassing": c.guardrails, "Concluded": c.concluded} {
			if got := condition(e, kind); got != want {
				t.Errorf("%s: %s is %q, want %q", name, kind, got, want)
			}
		}
		for _, condition := range e.Status.Conditions {
			if slices.Contains([]string{"Ready", "Concluded"}, condition.Type) && condition.ObservedGeneration != e.Generation {
				t.Errorf("%s: %s observes the generation %d, want %d", name, condition.Type, condition.ObservedGeneration, e.Generation)
			}
		}
	}
}

// Tools read how long a condition has held. A turn that finds the same does not change that.
func TestAConditionKeepsItsTimeUntilItChanges(t *testing.T) {
	t.Parallel()
	w := begin(t)
	w.until("likes", atStep(0))
	since := func() time.Time {
		return meta.FindStatusCondition(w.experiments["likes"].Status.Conditions, "Healthy").LastTransitionTime.Time
	}
	w.turn()
	before := since()
	w.pass(time.Minute)
	w.turn()
	if !since().Equal(before) {
		t.Errorf("the same health holds since %s, and before since %s", since(), before)
	}
	w.verdict["likes"] = experiment.Judgement{Guardrails: experiment.GuardPass, Health: "skewed"}
	w.turn()
	if !since().Equal(w.now.Truncate(time.Second)) {
		t.Errorf("red since %s, want %s", since(), w.now)
	}
}

// columns are the printer columns of a definition, with the values of an object, as kubectl get shows them.
func (d definition) columns(t *testing.T, object any) map[string]string {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	cells := make(map[string]string)
	for _, column := range d.printed {
		path := jsonpath.New(column.Name).AllowMissingKeys(true) // as the API server does
		if err := path.Parse("{" + column.JSONPath + "}"); err != nil {
			t.Fatal(err)
		}
		found, err := path.FindResults(members)
		if err != nil {
			t.Fatal(err)
		}
		cells[column.Name] = ""
		if len(found) > 0 && len(found[0]) > 0 {
			cells[column.Name] = fmt.Sprint(found[0][0].Interface())
		}
	}
	return cells
}

func TestKubectlShowsAnExperimentInItsColumns(t *testing.T) {
	t.Parallel()
	d := define(t)
	w := begin(t)
	w.until("likes", atStep(0))
	w.verdict["likes"] = experiment.Judgement{Guardrails: experiment.GuardPass, Lift: "+3 %"}
	w.turn()
	e := w.experiments["likes"]
	e.CreationTimestamp = metav1.NewTime(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))
	want := map[string]string{
		"Phase": "Running", "Step": "1/3 10%", "Lift": "+3 %", "Healthy": "True", "Ready": "True", "Message": "step 1/3 10% until 2026-11-25 12:01:10", "Age": "2026-11-24T12:00:00Z",
	}
	if diff := cmp.Diff(want, d.columns(t, e)); diff != "" {
		t.Error(diff)
	}
	w.verdict["likes"] = breach
	w.turn()
	want["Phase"], want["Step"], want["Lift"], want["Message"] = "Concluded", "", "+3 %", w.experiments["likes"].Status.Message
	want["Age"] = ""
	w.experiments["likes"].CreationTimestamp = metav1.Time{}
	if diff := cmp.Diff(want, d.columns(t, w.experiments["likes"])); diff != "" {
		t.Error(diff)
	}
}

// A column whose field does not exist is empty for ever, and nobody notices.
func TestEveryColumnShowsAFieldOfTheDefinition(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"../../knative/210-experiment-crd.yaml", "../../knative/211-metric-crd.yaml"} {
		d := defineBy(t, file)
		if len(d.printed) < 2 {
			t.Errorf("%s has %d columns: it proves nothing", file, len(d.printed))
		}
		for _, column := range d.printed {
			if mistake := d.columnMistake(column); mistake != "" {
				t.Errorf("%s: %s: %s", file, column.Name, mistake)
			}
		}
	}
	d := define(t)
	for _, path := range []string{".status.phases", ".spec.phase", ".status", `.status.conditions[?(@.kind=="Ready")].status`, ".metadata.age"} {
		if d.columnMistake(apiextensionsv1.CustomResourceColumnDefinition{JSONPath: path, Type: "string"}) == "" {
			t.Errorf("%s is taken for a field", path)
		}
	}
}

// columnMistake returns what is wrong with a column's path; empty if nothing is.
func (d definition) columnMistake(column apiextensionsv1.CustomResourceColumnDefinition) string {
	if column.JSONPath == ".metadata.creationTimestamp" { // Kubernetes has this field in every object
		return map[bool]string{false: "expected the type date"}[column.Type == "date"]
	}
	filter := regexp.MustCompile(`\[\?\(@\.(\w+)=="\w+"\)\]`)
	at := *d.structural
	for part := range strings.SplitSeq(filter.ReplaceAllString(strings.TrimPrefix(column.JSONPath, "."), ".[$1]"), ".") {
		name, filtered := strings.CutPrefix(part, "[")
		var next schema.Structural
		known := false
		switch {
		case filtered && at.Items != nil:
			_, known = at.Items.Properties[strings.TrimSuffix(name, "]")]
			next = *at.Items
		case !filtered:
			next, known = at.Properties[name]
		}
		if !known {
			return fmt.Sprintf("%s: there is no field %s", column.JSONPath, part)
		}
		at = next
	}
	if at.Type != column.Type {
		return fmt.Sprintf("%s has the type %s, and the column %s", column.JSONPath, at.Type, column.Type)
	}
	return ""
}
