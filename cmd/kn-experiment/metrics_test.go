package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/rollout"
	"warble/shared/store"
)

// orders returns a Metric. A direction other than up or down is a mistake.
func orders(name, direction string) rollout.Metric {
	return rollout.Metric{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "warble"}, Spec: experiment.EventMetric{
		Label: "Orders per visitor", Unit: "orders", Direction: direction, Kind: experiment.KindSum,
		Event: experiment.EventSource{Type: "shop.order.v1", SubjectIsUnit: true},
	}}
}

func TestMetricsListsTheMetricsAndTheirMistakes(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	if stdout, stderr, code := a.run(t, "metrics"); code != 0 || stdout != "there is no Metric in the namespace warble\n" {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
	a.metrics = []rollout.Metric{orders("orders", "up"), orders("sideways", "left")}
	stdout, stderr, code := a.run(t, "metrics")
	want := `the number of events is not known, because DATABASE_URL is not set
NAME      LABEL               EVENT          UNIT    BETTER  EVENTS  LAST  CONDITION
orders    Orders per visitor  shop.order.v1  orders  more    –       –     ready
sideways  Orders per visitor  shop.order.v1  orders          –       –     wrong
sideways: direction: "left": expected up or down
`
	if diff := cmp.Diff(want, stdout); code != 0 || diff != "" {
		t.Errorf("exit code %d, says %q\n%s", code, stderr, diff)
	}
	if stdout, stderr, code := a.run(t, "metrics", "-o", "yaml"); code != 0 || !strings.Contains(stdout, "kind: MetricList") || !strings.Contains(stdout, "name: sideways") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
	var out bytes.Buffer
	stored := []store.Stored{{Events: 1234, Last: time.Date(2026, 5, 3, 12, 0, 0, 0, time.UTC)}, {}}
	if err := listMetrics(&out, a.metrics, stored); err != nil || !strings.Contains(out.String(), "more    1,234   2026-05-03 12:00:00  ready") || !strings.Contains(out.String(), "0       –") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestValidateKnowsTheMetricsOfTheClusterAndOfTheFile(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil)
	a.metrics = []rollout.Metric{orders("orders", "up")}
	path := file(t, "tweets_per_user", "orders")
	if stdout, stderr, code := a.run(t, "validate", "-f", path); code != 0 || !strings.Contains(stdout, "is well-formed") {
		t.Errorf("exit code %d, says %q and %q", code, stdout, stderr)
	}
	path = file(t, "tweets_per_user", "order")
	if _, stderr, code := a.run(t, "validate", "-f", path); code != misused || !strings.Contains(stderr, `metrics.primary.name: metric "order": expected one of active_days`) || !strings.Contains(stderr, ", orders") {
		t.Errorf("exit code %d, says %q", code, stderr)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(t.TempDir(), "both.yaml")
	metric := "apiVersion: warble.dev/v1alpha1\nkind: Metric\nmetadata: {name: order}\nspec: {label: Orders, unit: orders, direction: up, kind: sum, event: {type: shop.order.v1, subjectIsUnit: true}}\n"
	if err := os.WriteFile(both, []byte("---\n"+metric+"---\n"+string(text)+"---\napiVersion: v1\nkind: ConfigMap\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code := a.run(t, "validate", "-f", both); code != 0 {
		t.Errorf("with the Metric in the file: exit code %d, says %q and %q", code, stdout, stderr)
	}
}
