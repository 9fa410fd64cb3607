package rollout_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
	"warble/shared/store"
)

const metricFile = "../../knative/211-metric-crd.yaml"

const revenue = `
apiVersion: warble.dev/v1alpha1
kind: Metric
metadata: {name: revenue}
spec:
  label: Revenue per person
  unit: EUR
  direction: up
  kind: sum
  event: {type: shop.order.v1, unit: customer.id, value: order.total, lag: 15m}
`

// The API server and the tool refuse the same Metrics.
func TestTheDefinitionAndTheToolRefuseTheSameMetrics(t *testing.T) {
	t.Parallel()
	d := defineBy(t, metricFile)
	for _, tt := range []struct{ from, to, want string }{
		{"", "", ""},
		{"sum", "proportion", ""},
		{"sum", "mean", ""},
		{"up", "down", ""},
		{", lag: 15m", "", ""},
		{"lag: 15m", "lag: 1d", ""},
		{"lag: 15m", "lag: 1h30m", ""},
		{", value: order.total", "", ""},
		{"value: order.total", "value: 1", ""},
		{"unit: customer.id", "subjectIsUnit: true", ""},
		{"unit: customer.id", "unit: customers.0.id", ""},
		{"value: order.total", "value: a.b.c.d.e.f.g.h.i.j", ""},

		{"value: order.total", "value: a.b.c.d.e.f.g.h.i.j.k", "value: "},
		{"unit: customer.id", "subjectIsUnit: true, unit: customer.id", "unit: expected either subjectIsUnit: true or unit"},
		{"unit: customer.id, ", "", "unit: expected either subjectIsUnit: true or unit"},
		{"unit: customer.id", "subjectIsUnit: false", "unit: expected either subjectIsUnit: true or unit"},
		{"unit: customer.id", "unit: $.customer", "unit"},
		{"unit: customer.id", "unit: customer..id", "unit"},
		{"unit: customer.id", "unit: 0.id", "unit"},
		{"unit: customer.id", "unit: 'customer[0]'", "unit"},
		{"value: order.total", "value: 2", "value: "},
		{"value: order.total", "value: 0", "value: "},
		{"value: order.total", "value: order total", "value: "},
		{"value: order.total", "value: ''", "value: "},
		{"value: order.total", "value: 1.5", "value"},
		{"value: order.total", "value: " + strings.Repeat("a", 201), "value: "},
		{"kind: sum", "kind: median", "kind"},
		{"kind: sum", "kind: share", "kind"},
		{"up", "left", "direction"},
		{"Revenue per person", "''", "label"},
		{"Revenue per person", strings.Repeat("é", 61), "label"},
		{"EUR", "''", "unit"},
		{"EUR", "'€'", ""},
		{"EUR", `"\e[31m"`, "unit"},
		{"Revenue per person", `"a\u202eb"`, "label"},
		{"shop.order.v1", "shop order", "type"},
		{"shop.order.v1", "''", "type"},
		{"lag: 15m", "lag: 0s", "lag"},
		{"lag: 15m", "lag: 25h", "lag"},
		{"lag: 15m", "lag: 2d", "lag"},
		{"lag: 15m", "lag: soon", "soon"},
		{"name: revenue", "name: Revenue", "metadata.name"},
		{"name: revenue", "name: likes_per_user", "metadata.name"},
		{"name: revenue", "name: latency", "metadata.name"},
		{"name: revenue", "name: shop.revenue", "metadata.name"},
		{"name: revenue", "name: " + strings.Repeat("a", 61), "metadata.name"},
		{"kind: sum\n  event: {type: shop.order.v1, unit: customer.id, value: order.total,", "kind: mean\n  event: {type: shop.order.v1, unit: customer.id, value: 1,", "event.value: expected the path of a number with kind mean"},
		{"kind: sum\n  event: {type: shop.order.v1, unit: customer.id, value: order.total,", "kind: mean\n  event: {type: shop.order.v1, unit: customer.id,", "event.value: expected the path of a number with kind mean"},
	} {
		text := strings.Replace(revenue, tt.from, tt.to, 1)
		if tt.from != "" && text == revenue {
			t.Fatalf("%q is not there", tt.from)
		}
		object, refused := d.admit(t, text, nil)
		parsed, wrong := rollout.ParseMetric([]byte(text))
		if (refused != nil) != (tt.want != "") || (wrong != nil) != (tt.want != "") {
			t.Errorf("%s -> %s: the definition: %v; the tool: %v", tt.from, tt.to, refused, wrong)
			continue
		}
		if tt.want != "" {
			if !strings.Contains(refused.Error(), tt.want) || !strings.Contains(wrong.Error(), strings.TrimSuffix(tt.want, ": ")) {
				t.Errorf("%s -> %s: the definition: %v; the tool: %v; want %q", tt.from, tt.to, refused, wrong, tt.want)
			}
			continue
		}
		// Both fill in the same.
		written, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		again, err := rollout.ParseMetric(written)
		if diff := cmp.Diff(parsed, again); err != nil || diff != "" {
			t.Errorf("%s -> %s: %v %s", tt.from, tt.to, err, diff)
		}
	}
}

func TestAMetricWithAnUnknownFieldIsRefused(t *testing.T) {
	t.Parallel()
	for from, to := range map[string]string{"label:": "name: x\n  label:", "kind: Metric": "kind: Experiment"} {
		if _, err := rollout.ParseMetric([]byte(strings.Replace(revenue, from, to, 1))); err == nil {
			t.Errorf("%s -> %s: expected an error", from, to)
		}
	}
}

// Names in the cluster have no underscore, so only Warble's metrics without an underscore could clash.
func TestNoMetricMayHaveTheNameOfAMetricOfWarble(t *testing.T) {
	t.Parallel()
	for _, m := range store.Metrics() {
		if err := experiment.CheckMetricName(m.Name); err == nil {
			t.Errorf("a Metric may be called %s", m.Name)
		}
		if refused := strings.Contains(fmt.Sprint(errorOf(defineBy(t, metricFile).admit(t, strings.Replace(revenue, "name: revenue", "name: "+m.Name, 1), nil))), "metadata.name"); !refused {
			t.Errorf("the definition lets a Metric be called %s", m.Name)
		}
	}
}

// errorOf returns the second of two results.
func errorOf(_ map[string]any, err error) error { return err }

func TestEveryFieldOfAMetricIsDescribed(t *testing.T) {
	t.Parallel()
	for _, path := range undescribed("", defineBy(t, metricFile).structural) {
		if path != ".metadata" { // Kubernetes describes it
			t.Errorf("%s has no description", path)
		}
	}
}

func TestTheExampleMetricIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../knative/examples/metric.yaml")
	if err != nil {
		t.Fatal(err)
	}
	own, trigger, found := strings.Cut(string(text), "\n---\n")
	m, err := rollout.ParseMetric([]byte(own))
	if err != nil || !found {
		t.Fatal(err)
	}
	if _, refused := defineBy(t, metricFile).admit(t, own, nil); refused != nil {
		t.Error(refused)
	}
	var brings struct {
		Spec struct {
			Filter     struct{ Attributes struct{ Type string } }
			Subscriber struct {
				Ref struct{ Name string }
				URI string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(trigger), &brings); err != nil {
		t.Fatal(err)
	}
	if s := brings.Spec; s.Filter.Attributes.Type != m.Spec.Event.Type || s.Subscriber.Ref.Name != "steer" || s.Subscriber.URI != "/events" {
		t.Errorf("%+v does not bring events of type %s to steer", s, m.Spec.Event.Type)
	}
	read := experiment.Metric{Name: m.Name, EventMetric: m.Spec}
	if o, err := read.Read("", []byte(`{"customer": {"id": "213604925304832"}, "order": {"total": 19.99}}`)); err != nil || o != (experiment.Occurrence{Unit: "213604925304832", Value: 19.99}) {
		t.Errorf("%+v, %v", o, err)
	}
}

// A start stores copies of the metrics that the experiment names. A Metric that changes or is deleted afterwards does not change them. A
// Metric that is wrong, because an older definition allowed it, does not prevent a start.
func TestAStartStoresCopiesOfTheMetricsThatItNames(t *testing.T) {
	t.Parallel()
	own := func(name, value string) rollout.Metric {
		m, err := rollout.ParseMetric([]byte(strings.NewReplacer("{name: revenue}", "{name: "+name+"}", "order.total", value).Replace(revenue)))
		if err != nil {
			t.Fatal(err)
		}
		return *m
	}
	w := begin(t, "name: tweets_per_user", "name: revenue", "secondary: [active_days]", "secondary: [active_days, orders]")
	wrong := own("wrong", "order.total")
	wrong.Spec.Kind = "median"
	w.metrics = []rollout.Metric{wrong, own("unused", "order.total"), own("revenue", "order.total"), own("orders", "1")}
	w.until("likes", atStep(0))
	w.metrics = []rollout.Metric{own("revenue", "order.net")}
	w.turn()
	var got []string
	for _, m := range w.started["likes"].Metrics {
		got = append(got, m.Name+" "+string(m.Event.Value))
	}
	if diff := cmp.Diff([]string{"orders ", "revenue order.total"}, got); diff != "" {
		t.Error(diff)
	}
}
