package rollout_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// definition has the schema, defaults and rules of knative/210-experiment-crd.yaml, read by the API server's own code.
type definition struct {
	structural *schema.Structural
	schema     schemavalidation.SchemaValidator
	rules      *cel.Validator
	printed    []apiextensionsv1.CustomResourceColumnDefinition // the columns of kubectl get
}

func define(t *testing.T) definition {
	t.Helper()
	return defineBy(t, "../../knative/210-experiment-crd.yaml")
}

// defineBy reads the definition in a file.
func defineBy(t *testing.T, file string) definition {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var written apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &written); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&written)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&written.Spec)
	written.Status.StoredVersions = []string{"v1alpha1"}
	var internal apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&written, &internal, nil); err != nil {
		t.Fatal(err)
	}
	if errs := validation.ValidateCustomResourceDefinition(t.Context(), &internal); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	whole, err := apiextensions.GetSchemaForVersion(&internal, "v1alpha1")
	if err != nil {
		t.Fatal(err)
	}
	d := definition{printed: written.Spec.Versions[0].AdditionalPrinterColumns}
	if d.structural, err = schema.NewStructural(whole.OpenAPIV3Schema); err != nil {
		t.Fatal(err)
	}
	if d.schema, _, err = schemavalidation.NewSchemaValidator(whole.OpenAPIV3Schema); err != nil {
		t.Fatal(err)
	}
	d.rules = cel.NewValidator(d.structural, true, celconfig.PerCallLimit)
	return d
}

// admit returns an object with its defaults, and why the API server refuses it. If old is not nil, the object is a change of old.
func (d definition) admit(t *testing.T, text string, old any) (object map[string]any, mistakes error) {
	t.Helper()
	read, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := utiljson.Unmarshal(read, &object); err != nil { // whole numbers are int64, as in an API server
		t.Fatal(err)
	}
	defaulting.Default(object, d.structural)
	errs := schemavalidation.ValidateCustomResource(nil, object, d.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	if len(errs) == 0 { // as the API server does
		errs, _ = d.rules.Validate(t.Context(), nil, d.structural, object, old, celconfig.RuntimeCELCostBudget)
	}
	return object, errs.ToAggregate()
}

// check returns why the tool refuses the same text.
func check(text string) (e rollout.Experiment, mistakes error) {
	if err := yaml.UnmarshalStrict([]byte(text), &e); err != nil {
		return e, err
	}
	e.Spec.Default()
	return e, errors.Join(experiment.CheckName(e.Name), e.Spec.CheckNames(e.Name), e.Spec.Check())
}

const whole = `
apiVersion: warble.dev/v1alpha1
kind: Experiment
metadata: {name: likes}
spec:
  services: [like, timeline, tweet]
  treatment: {env: {FEATURES: likes}}
  unit: community
  layer: {name: engagement, slots: [0, 5000]}
  ramp: {steps: [10, 25, 50], hold: {time: 24h, units: 30}, approve: automatic}
  exposure: [timeline, tweet]
  metrics:
    window: 7d
    primary: {name: tweets_per_user, minimumEffect: 5%}
    secondary: [active_days]
    guardrails: [{name: error_share, margin: 0.5pp}, {name: slow_share, over: 250ms, margin: 1pp}]
`

const canary = `
apiVersion: warble.dev/v1alpha1
kind: Experiment
metadata: {name: canary}
spec:
  services: [validate]
  treatment: {image: {validate: "registry.test/validate@sha256:1"}}
  unit: request
  ramp: {steps: [20]}
  metrics: {guardrails: [{name: error_share, margin: 0.5pp}]}
`

// The API server and the tool refuse the same experiments. The messages of the tool are better.
func TestTheDefinitionAndTheToolRefuseTheSame(t *testing.T) {
	t.Parallel()
	d := define(t)
	for _, c := range []struct{ base, old, new, want string }{
		{base: whole},
		{base: canary},
		{whole, "{env: {FEATURES: likes}}", "{env: {FEATURES: likes}, image: {like: registry.test/like}}", ""},
		{whole, "unit: community", "unit: community\n  assignment: list\n  list: {control: [rustaceans], treatment: [gophers]}", "ramp.steps"},
		{whole, "hold: {time: 24h, units: 30}, ", "", ""},
		{whole, "250ms", "0.25s", ""},
		{whole, "window: 7d", "window: 1m30s", ""},

		{whole, "name: likes}", "name: Likes}", "metadata.name"},
		{whole, "name: likes}", "name: likes-in-all-the-communities-there-are}", "metadata.name"},
		{whole, "[like, timeline, tweet]", "[]", "services"},
		{whole, "[like, timeline, tweet]", "[like, timeline, tweet, like]", "services[3]"},
		{whole, "[like, timeline, tweet]", "[like_, timeline, tweet]", "services[0]"},
		{whole, "{env: {FEATURES: likes}}", "{}", "treatment"},
		{whole, "{FEATURES: likes}", "{ARM: both}", ""},
		{whole, "{FEATURES: likes}", "{2-FEATURES: likes}", "treatment.env"},
		{whole, "{env: {FEATURES: likes}}", "{image: {users: registry.test/users}}", "treatment.image"},
		{whole, "unit: community", "unit: country", "unit"},
		{whole, "unit: community", "unit: community\n  assignment: lottery", "assignment"},
		{whole, "unit: community", "unit: community\n  assignment: list", "list"},
		{whole, "unit: community", "unit: community\n  list: {control: [a], treatment: [b]}", "list"},
		{whole, "unit: community", "unit: community\n  promote: perhaps", "promote"},
		{whole, "unit: community", "unit: community\n  salt: with space", "salt"},
		{whole, "unit: community", "unit: community\n  title: " + strings.Repeat("ü", 120), ""},
		{whole, "unit: community", "unit: community\n  title: " + strings.Repeat("x", 121), "title"},
		{whole, "unit: community", "unit: community\n  hypothesis: " + strings.Repeat("x", 1001), "hypothesis"},
		{whole, "unit: community", "unit: community\n  owner: " + strings.Repeat("x", 121), "owner"},
		{whole, "[0, 5000]", "[5000, 5000]", "layer.slots"},
		{whole, "[0, 5000]", "[0, 10001]", "layer.slots"},
		{whole, "[0, 5000]", "[0]", "layer.slots"},
		{whole, "[10, 25, 50]", "[]", "ramp.steps"},
		{whole, "[10, 25, 50]", "[0, 25, 50]", "ramp.steps[0]"},
		{whole, "[10, 25, 50]", "[10, 25, 51]", "ramp.steps[2]"},
		{whole, "[10, 25, 50]", "[10, 50, 25]", "ramp.steps[2]"},
		{whole, "[10, 25, 50]", "[10, 10, 50]", "ramp.steps[1]"},
		{whole, "units: 30", "units: -1", "ramp.hold.units"},
		{whole, "units: 30", "units: 99999999999999999999", "units"},
		{whole, "units: 30", "units: 1e30", "units"},
		{whole, "time: 24h", "time: -24h", "ramp.hold.time"},
		{whole, "time: 24h", "time: 0s", "ramp.hold.time"},
		{whole, "time: 24h", "time: soon", "duration"},
		{whole, "time: 24h", "time: 9999d", ""},
		{whole, "time: 24h", "time: 10000d", "duration"},
		{whole, "time: 24h", "time: 9999999h", "duration"},
		{whole, "time: 24h", "time: 2000000h2000000h", "duration"},
		{whole, "time: 24h", "time: 0.0000000001s", "ramp.hold.time"},
		{whole, "approve: automatic", "approve: never", "ramp.approve"},
		{whole, "[timeline, tweet]\n", "[timeline, users]\n", "exposure[1]"},
		{whole, "window: 7d", "window: 0s", "metrics.window"},
		{whole, "    window: 7d\n", "", "metrics.window"},
		{whole, "    primary: {name: tweets_per_user, minimumEffect: 5%}\n", "", "metrics.primary"},
		{whole, "minimumEffect: 5%", "minimumEffect: 0%", "minimumEffect"},
		{whole, "minimumEffect: 5%", "minimumEffect: 5", "percentage"},
		{whole, "margin: 0.5pp", "margin: 0.0pp", "guardrails[0].margin"},
		{whole, "margin: 0.5pp", "margin: 100pp", "guardrails[0].margin"},
		{whole, "margin: 0.5pp", "margin: -1pp", "guardrails[0].margin"},
		{whole, "error_share", "error_rate", "guardrails[0].name"},
		{whole, "{name: error_share, margin: 0.5pp}", "{name: slow_share, over: 1s, margin: 1pp}", "guardrails[1].name"},
		{whole, "over: 250ms, ", "", "guardrails[1].over"},
		{whole, "over: 250ms", "over: 251ms", "guardrails[1].over"},
		{whole, "over: 250ms", "over: 1d", "guardrails[1].over"},
		{whole, "name: error_share", "name: error_share, over: 250ms", "guardrails[0].over"},
		{whole, "unit: community", "unit: community\n  alpha: 0.7", "alpha"},
		{whole, "unit: community", "unit: community\n  power: 0.1", "power"},
		{whole, "window: 7d", "window: 7d\n    baseline: 1h", ""},
		{whole, "window: 7d", "window: 7d\n    baseline: 0s", "metrics.baseline"},
		{whole, "window: 7d", "window: 7d\n    baseline: soon", "duration"},
		{whole, "    guardrails: [{name: error_share, margin: 0.5pp}, {name: slow_share, over: 250ms, margin: 1pp}]\n", "    baseline: 1h\n", "metrics.baseline"},
		{whole + "    baseline: 1h\n", "[10, 25, 50]", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]", ""},
		{whole + "    baseline: 1h\n", "[10, 25, 50]", "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]", "metrics.baseline: 3 services times 14 steps are 42: expected at most 40"},
		{whole, "[like, timeline, tweet]", "[like, timeline, tweet, " + strings.Repeat("t", 47) + "]", ""},
		{whole, "[like, timeline, tweet]", "[like, timeline, tweet, " + strings.Repeat("t", 48) + "]", "services[3]"},
		{whole, "{FEATURES: likes}", "{WARBLE_ARM: both}", "treatment.env"},
		{whole, "{FEATURES: likes}", "{K_SERVICE: both}", "treatment.env"},
		{whole, "{FEATURES: likes}", "{PORT: '80'}", "treatment.env"},
		{whole, "{FEATURES: likes}", "{PORTS: '80', FEATURES: " + strings.Repeat("x", 1024) + "}", ""},
		{whole, "{FEATURES: likes}", "{FEATURES: " + strings.Repeat("x", 1025) + "}", "treatment.env.FEATURES"},
		{whole, "unit: community", "unit: community\n  promoteBy: somebody", "promoteBy"},
		{whole, "unit: community", "unit: community\n  promoteBy: git", ""},
		{whole, "unit: community", "unit: community\n  warmingDeadline: soon", "duration"},
		{whole, "unit: community", "unit: community\n  warmingDeadline: 0m", "warmingDeadline"},
		{whole, "unit: community", "unit: community\n  start: true\n  startAt: 2026-12-01T09:00:00Z", ""},
		{whole, "unit: community", "unit: community\n  startAt: 2026-12-01T09:00:00+01:00", ""},
		{whole, "unit: community", "unit: community\n  startAt: tomorrow", "startAt"},
		{whole, "unit: community", "unit: community\n  startAt: 2026-12-01", "startAt"},
		{whole, "unit: community", "unit: community\n  end: Frozen", "end"},
		{whole, "unit: community", "unit: community\n  step: 2", ""},
		{whole, "unit: community", "unit: community\n  step: 3", "step"},
		{whole, "unit: community", "unit: community\n  step: -1", "step"},
		{whole, "unit: community", "unit: community\n  approved: 20", "approved"},
		{whole, "unit: community", "unit: community\n  by: " + strings.Repeat("x", 257), "by"},
		{whole, "unit: community", "unit: community\n  why: " + strings.Repeat("x", 1025), "why"},
		{whole, "unit: community", "unit: community\n  rebase: {number: 0}", "rebase.number"},
		{whole, "unit: community", "unit: community\n  rebase: {number: 1, image: {like: registry.test/like}}", ""},
		{whole, "unit: community", "unit: community\n  rebase: {number: 1, image: {users: registry.test/users}}", "rebase.image"},
		{whole, "unit: community", "unit: community\n  rebase: {number: 1, image: {like: ''}}", "rebase.image.like"},
		{whole, "unit: community", "unit: user\n  identity: {kind: visitor}", ""},
		{whole, "unit: community", "unit: community\n  identity: {kind: token}", ""},
		{whole, "unit: community", "unit: user\n  identity: {kind: visitor, cookie: __Host-shop}", ""},
		{whole, "unit: community", "unit: user\n  identity: {kind: visitor, cookie: shop=1}", "identity.cookie"},
		{whole, "unit: community", "unit: user\n  identity: {kind: visitor, cookie: " + strings.Repeat("c", 65) + "}", "identity.cookie"},
		{whole, "unit: community", "unit: user\n  identity: {kind: token, cookie: shop}", "identity.cookie"},
		{whole, "unit: community", "unit: user\n  identity: {cookie: shop}", "identity.kind"},
		{whole, "unit: community", "unit: user\n  identity: {kind: passport}", "identity.kind"},
		{whole, "unit: community", "unit: community\n  identity: {kind: visitor}", "unit"},
		{whole, "unit: community", "unit: user\n  audience: {communities: [gophers]}\n  identity: {kind: visitor}", "audience.communities"},
		{whole, "unit: community", "unit: user\n  audience: {communities: [gophers]}\n  identity: {kind: issuer, issuer: {url: 'https://issuer.test/a', audience: shop, userClaim: uid, communityClaim: team}}", ""},
		{whole, "unit: community", "unit: user\n  identity: {kind: issuer}", "identity.issuer"},
		{whole, "unit: community", "unit: user\n  identity: {kind: visitor, issuer: {url: 'https://issuer.test', audience: shop}}", "identity.issuer"},
		{whole, "unit: community", "unit: user\n  identity: {kind: issuer, issuer: {url: issuer.test, audience: shop}}", "identity.issuer.url"},
		{whole, "unit: community", "unit: user\n  identity: {kind: issuer, issuer: {url: 'https://issuer.test?a=b', audience: shop}}", "identity.issuer.url"},
		{whole, "unit: community", "unit: user\n  identity: {kind: issuer, issuer: {url: 'https://issuer.test', audience: ''}}", "identity.issuer.audience"},
		{whole, "unit: community", "unit: user\n  identity: {kind: issuer, issuer: {url: 'https://issuer.test', audience: shop, userClaim: " + strings.Repeat("c", 65) + "}}", "identity.issuer.userClaim"},
		{whole, "unit: community", "unit: user\n  plan: {unitsPerDay: 2000, mean: 0.2, cv: 3}", ""},
		{whole, "unit: community", "unit: user\n  plan: {unitsPerDay: 2000}", ""},
		{whole, "unit: community", "unit: user\n  plan: {mean: 0.2}", ""},
		{whole, "unit: community", "unit: user\n  plan: {cv: 3}", "plan.cv: expected mean"},
		{whole, "unit: community", "unit: user\n  plan: {unitsPerDay: -1}", "plan.unitsPerDay"},
		{whole, "unit: community", "unit: user\n  plan: {mean: -1}", "plan.mean"},
		{whole, "unit: community", "unit: user\n  plan: {mean: 1, cv: 2000}", "plan.cv"},
		{whole, "unit: community", "unit: community\n  plan: {unitsPerDay: 2000}", "plan: expected none"},
		{whole, "unit: community", "unit: request", "exposure"},
		{canary, "{guardrails: [{name: error_share, margin: 0.5pp}]}", "{}", "metrics.guardrails"},
		{canary, "steps: [20]", "steps: [20], hold: {units: 1}", "ramp.hold.units"},
		{canary, "unit: request", "unit: request\n  layer: {slots: [0, 5000]}", "layer.slots"},
		{canary, "unit: request", "unit: request\n  audience: {communities: [gophers]}", "audience.communities"},
		{canary, "unit: request", "unit: request\n  exposure: [validate]", "exposure"},
		{canary, "metrics: {", "metrics: {window: 7d, ", "metrics.window"},
		{canary, "metrics: {", "metrics: {baseline: 1h, ", "metrics.baseline"},
		{canary, "metrics: {", "metrics: {primary: {name: tweets_per_user, minimumEffect: 5%}, ", "metrics.primary"},
	} {
		text := strings.Replace(c.base, c.old, c.new, 1)
		if c.old != "" && text == c.base {
			t.Errorf("%q is not in the text", c.old)
		}
		_, refused := d.admit(t, text, nil)
		_, mistakes := check(text)
		if c.want == "" && (refused != nil || mistakes != nil) {
			t.Errorf("%q: the definition says %v, the tool %v: want nothing", c.new, refused, mistakes)
		}
		if c.want != "" && (refused == nil || mistakes == nil || !strings.Contains(mistakes.Error(), c.want)) {
			t.Errorf("%q: the definition says %v, the tool %v: want both to refuse it, and %q", c.new, refused, mistakes, c.want)
		}
	}
}

func TestARefusalListsEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := check(strings.NewReplacer("[10, 25, 50]", "[60, 25]", "margin: 1pp", "margin: 0pp", "[timeline, tweet]\n", "[users]\n", "[0, 5000]", "[9, 3]").Replace(whole))
	want := strings.Split(`layer.slots: [9 3]: expected two slots: the first, from 0, and the one after the last, at most 10000
ramp.steps[0]: 60: expected 1 to 50 percent, in each arm
ramp.steps[1]: 25 after 60: expected rising percents
metrics.guardrails[1].margin: 0pp: expected more than 0pp and less than 100pp`, "\n")
	want = append([]string{`exposure[0]: "users": expected one of services`}, want...)
	if diff := cmp.Diff(want, strings.Split(fmt.Sprint(err), "\n")); diff != "" {
		t.Error(diff)
	}
}

// A guardrail can use every bound of the latency histograms.
func TestAGuardrailMayUseEveryLatencyBound(t *testing.T) {
	t.Parallel()
	d := define(t)
	for _, bound := range experiment.LatencyBounds {
		text := strings.Replace(whole, "250ms", fmt.Sprintf("%vms", bound), 1)
		if _, err := d.admit(t, text, nil); err != nil {
			t.Errorf("%v ms: the definition says %v", bound, err)
		}
		if _, err := check(text); err != nil {
			t.Errorf("%v ms: the tool says %v", bound, err)
		}
	}
}

func TestTheToolFillsInTheDefinitionsDefaults(t *testing.T) {
	t.Parallel()
	d := define(t)
	for _, text := range []string{whole, canary} {
		object, err := d.admit(t, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		admitted, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		var got rollout.Experiment
		if err := json.Unmarshal(admitted, &got); err != nil {
			t.Fatal(err)
		}
		want, err := check(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Spec, got.Spec); diff != "" {
			t.Error(diff)
		}
	}
}

// Which changes are allowed depends on the phase. The definition and CheckChange allow the same.
func TestTheDefinitionAndTheToolRefuseTheSameChanges(t *testing.T) {
	t.Parallel()
	d := define(t)
	const start = "  start: true\n"
	spec := func(fields string) string { return strings.Replace(whole, "  unit", fields+"  unit", 1) }
	always := func(experiment.Phase) bool { return true }
	never := func(experiment.Phase) bool { return false }
	draft := func(p experiment.Phase) bool { return p == "" || p == experiment.Draft }
	unended := func(p experiment.Phase) bool { return p != experiment.Concluded && p != experiment.Archived }
	type change struct {
		from, to string
		may      func(experiment.Phase) bool
	}
	changes := []change{
		{whole, spec(start), always}, {spec(start), whole, always}, {whole, spec("  startAt: 2026-12-01T09:00:00Z\n"), always},
		{spec("  paused: true\n"), whole, always}, {spec("  step: 1\n"), spec("  step: 2\n  by: ada\n  why: soon\n"), always},
		{whole, spec("  rebase: {number: 1}\n"), always}, {spec("  rebase: {number: 1}\n"), spec("  rebase: {number: 2, image: {like: registry.test/like}}\n"), always},
		{whole, spec("  end: Stopped\n"), always}, {spec("  end: Stopped\n"), whole, never}, {spec("  end: Stopped\n"), spec("  end: RolledBack\n"), never},
		{spec("  end: RolledBack\n"), spec("  end: Stopped\n"), never}, {spec("  end: Stopped\n"), spec("  end: Promoted\n"), never},
		{spec("  end: Promoted\n"), spec("  end: Stopped\n"), unended}, {spec("  end: Promoted\n"), spec("  end: RolledBack\n"), unended},
		{spec("  end: Promoted\n"), whole, never}, {spec("  end: Promoted\n"), spec("  end: Promoted\n  anyway: true\n"), always},
		{spec("  archive: true\n"), whole, never}, {spec("  archive: true\n"), spec("  archive: false\n"), never}, {whole, spec("  archive: true\n"), always},
	}
	byUser := strings.Replace(whole, "unit: community", "unit: user", 1)
	changes = append(changes, change{byUser, byUser + "  identity: {kind: visitor}\n", draft}, change{byUser, byUser + "  plan: {unitsPerDay: 2000}\n", draft})
	for _, c := range [][2]string{
		{"[like, timeline, tweet]", "[like, timeline, tweet, users]"}, {"FEATURES: likes", "FEATURES: hearts"}, {"community\n", "user\n"},
		{"[0, 5000]", "[0, 6000]"}, {"units: 30", "units: 3"}, {"  exposure: [timeline, tweet]\n", ""}, {"  unit", "  salt: pinched\n  unit"},
		{"  unit", "  title: likes\n  unit"}, {"  unit", "  hypothesis: more\n  unit"}, {"  unit", "  owner: ada\n  unit"},
		{"5%", "1%"}, {"  unit", "  alpha: 0.1\n  unit"}, {"  unit", "  power: 0.9\n  unit"}, {"  unit", "  promote: automatic\n  unit"},
		{"  unit", "  promoteBy: git\n  unit"}, {"  unit", "  warmingDeadline: 5m\n  unit"}, {"  unit", "  audience: {communities: [gophers]}\n  unit"},
	} {
		text := strings.Replace(whole, c[0], c[1], 1)
		if text == whole {
			t.Errorf("%q is not in the text", c[0])
		}
		changes = append(changes, change{whole, text, draft})
	}
	for _, phase := range append([]experiment.Phase{""}, experiment.Phases...) {
		status := ""
		if phase != "" {
			status = "status: {phase: " + string(phase) + "}\n"
		}
		for _, c := range changes {
			old, err := d.admit(t, c.from+status, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, refused := d.admit(t, c.to+status, old)
			from, err := check(c.from)
			if err != nil {
				t.Fatal(err)
			}
			to, err := check(c.to)
			if err != nil {
				t.Fatal(err)
			}
			mistakes := experiment.CheckChange(phase, from.Spec, to.Spec)
			if may := c.may(phase); (refused == nil) != may || (mistakes == nil) != may {
				t.Errorf("in phase %q, from%sto%s: the definition says %v, the tool %v: want nothing: %t", phase, c.from, c.to, refused, mistakes, may)
			}
		}
	}
}

// kubectl explain and the generated page show only these descriptions.
func TestEveryFieldOfTheDefinitionIsDescribed(t *testing.T) {
	t.Parallel()
	d := define(t)
	for _, path := range undescribed("", d.structural) {
		if path != ".metadata" { // Kubernetes describes it
			t.Errorf("%s has no description: expected what it is, its unit and its default, in a comment of its Go field", path)
		}
	}
	if got := undescribed("", &schema.Structural{Properties: map[string]schema.Structural{"a": {}}}); len(got) != 1 {
		t.Errorf("a field without a description is not found: %v", got)
	}
}

func undescribed(path string, s *schema.Structural) (found []string) {
	for name, field := range s.Properties {
		if field.Description == "" {
			found = append(found, path+"."+name)
		}
		found = append(found, undescribed(path+"."+name, &field)...)
	}
	if s.Items != nil {
		found = append(found, undescribed(path+"[]", s.Items)...)
	}
	return found
}

// A file in Git has a flat spec, with the wishes beside the design.
func TestWishesAndReachAreInlined(t *testing.T) {
	t.Parallel()
	e := rollout.Experiment{Spec: experiment.Spec{Wishes: experiment.Wishes{Start: true, End: experiment.Stopped}}}
	e.Status.Assign.Services = []rollout.ServiceReach{{Name: "tweet", Reach: experiment.Reach{Host: "both.test"}}}
	text, err := json.Marshal(e)
	for _, want := range []string{`"start":true,"end":"Stopped"}`, `{"name":"tweet","host":"both.test","control":{`} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s %v: expected %s", text, err, want)
		}
	}
}

func TestTheExampleExperimentsAreValid(t *testing.T) {
	t.Parallel()
	d := define(t)
	files, err := filepath.Glob("../../knative/experiments/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.admit(t, string(text), nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if e, err := check(string(text)); err != nil || e.Name+".yaml" != filepath.Base(file) {
			t.Errorf("%s: %s %v", file, e.Name, err)
		}
	}
}
