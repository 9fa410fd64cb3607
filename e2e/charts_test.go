//go:build e2e

package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// elsewhere are kinds of operators that this cluster may not have. make test-infra checks the charts against the schemas of
// these kinds.
var elsewhere = []string{"KnativeServing", "KnativeEventing", "ClusterIssuer", "ExternalSecret", "ClusterSecretStore"}

// TestClusterTakesTheCharts checks each object of terraform's charts, and the Jobs that people run, with a dry run at the
// API server.
func TestClusterTakesTheCharts(t *testing.T) {
	cluster(t)
	known := make(map[string]bool) // by API version and kind
	for line := range strings.Lines(run(t, "api-resources", "--no-headers")) {
		if fields := strings.Fields(line); len(fields) >= 4 {
			known[fields[len(fields)-3]+" "+fields[len(fields)-1]] = true
		}
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, chart := range []struct{ folder, values string }{
		{"03-application/charts/knative", ""}, {"03-application/charts/knative", "kind-knative.yaml"},
		{"03-application/charts/warble", ""}, {"03-application/charts/warble", "kind-warble.yaml"},
		{"04-observability/charts/secrets", ""},
	} {
		values := "{}"
		if chart.values != "" {
			text, err := os.ReadFile(filepath.Join("cluster", chart.values))
			if err != nil {
				t.Fatal(err)
			}
			values = string(text)
		}
		objects, err := execute(t.Context(), values, "go", "-C", "tools/helm", "run", ".", "-namespace", namespace, filepath.Join(root, "terraform", chart.folder))
		if err != nil {
			t.Fatal(err)
		}
		takes(t, known, chart.folder+" "+chart.values, objects, "apply", "--server-side", "--force-conflicts")
	}
	for _, job := range []string{"community", "migrate", "psql"} {
		text, err := os.ReadFile("../knative/examples/" + job + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		takes(t, known, job, string(text), "create")
	}
}

// takes checks the objects of one text one by one, because the namespace is an argument of the command.
func takes(t *testing.T, known map[string]bool, from, objects string, verb ...string) {
	t.Helper()
	asked := 0
	for text := range strings.SplitSeq("\n"+objects, "\n---") {
		var object struct {
			APIVersion, Kind string
			Metadata         struct{ Name, GenerateName, Namespace string }
		}
		if err := yaml.Unmarshal([]byte(text), &object); err != nil {
			t.Fatalf("%s: %v\n%s", from, err, text)
		}
		what := from + ": " + object.Kind + " " + object.Metadata.Name + object.Metadata.GenerateName
		switch {
		case object.Kind == "":
			continue
		case !known[object.APIVersion+" "+object.Kind]:
			if !slices.Contains(elsewhere, object.Kind) {
				t.Errorf("%s: the cluster has no %s", what, object.APIVersion)
			}
			continue
		}
		asked++
		in := object.Metadata.Namespace
		if in == "" {
			in = namespace
		}
		if _, err := execute(t.Context(), text, "kubectl", append(verb, "--namespace="+in, "--dry-run=server", "--validate=strict", "-f", "-")...); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if asked == 0 && !strings.Contains(from, "04-observability") { // it has only kinds of External Secrets
		t.Errorf("%s: the cluster knows none of its kinds", from)
	}
	t.Logf("%s: asked about %d objects", from, asked)
}
