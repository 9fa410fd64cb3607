//go:build e2e

package e2e_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"warble/shared/experiment"
)

// experimenter returns the name of a user who has the ClusterRole warble-experimenter, and no other right, until the test ends.
func experimenter(t *testing.T) string {
	t.Helper()
	name := "e2e-" + strings.ToLower(rand.Text()[:6])
	run(t, "create", "rolebinding", name, "--clusterrole=warble-experimenter", "--user="+name)
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "delete", "rolebinding", name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// A person with the ClusterRole warble-experimenter may make every wish, and may write nothing but experiments and metrics. The API server
// decides, and changes nothing: it checks rights before a dry run. Other tests move experiments as this person.
func TestClusterAnExperimenterWritesOnlyExperiments(t *testing.T) {
	cluster(t)
	e := newExperiment(t, func(s *experiment.Spec) { s.Services = []string{"like"} })
	as := "--as=" + experimenter(t)
	run(t, "create", as, "--filename="+e.file) // a draft, because nobody asks for its start

	for _, wish := range []string{
		`{"start": true}`, `{"startAt": "2126-12-01T09:00:00Z"}`, `{"paused": true}`, `{"step": 0}`, `{"approved": 0}`, `{"rebase": {"number": 1}}`,
		`{"end": "Stopped"}`, `{"end": "RolledBack"}`, `{"end": "Promoted", "anyway": true}`, `{"archive": true}`,
	} {
		run(t, "patch", as, "--dry-run=server", "experiment", e.name, "--type=merge", `--patch={"spec": `+wish+`}`)
	}
	run(t, "get", as, "experiments", e.name, "--output=name")
	run(t, "get", as, "experiments.warble.dev,metrics.warble.dev", "--output=name")
	run(t, "delete", as, "--dry-run=server", "experiment", e.name)

	const experiments, services, core = "/apis/warble.dev/v1alpha1/", "/apis/serving.knative.dev/v1/", "/api/v1/"
	const here = "namespaces/" + namespace + "/"
	for _, r := range []struct{ verb, path string }{
		{"replace", experiments + here + "experiments/" + e.name + "/status"},
		{"get", experiments + "experiments"}, // of all namespaces
		{"create", services + here + "services"},
		{"replace", services + here + "services/like"},
		{"delete", services + here + "services/like"},
		{"create", services + here + "configurations"},
		{"delete", services + here + "routes/like"},
		{"get", core + here + "secrets"},
		{"get", core + here + "secrets/warble-edge"},
		{"create", core + here + "secrets"},
		{"replace", core + here + "secrets/warble-edge"},
		{"create", core + here + "configmaps"},
		{"delete", core + here + "pods/like"},
		{"create", "/apis/rbac.authorization.k8s.io/v1/" + here + "rolebindings"},
	} {
		args := []string{r.verb, as, "--raw=" + r.path}
		switch r.verb {
		case "create", "replace":
			args = append(args, "--filename=-")
			fallthrough
		case "delete":
			args[2] += "?dryRun=All"
		}
		if said, err := kubectl(t.Context(), "{}", args...); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("%s %s: %v %s, want Forbidden", r.verb, r.path, err, said)
		}
	}
	if o := e.object(); o.Generation != 1 {
		t.Errorf("a dry run has changed the experiment: generation %d", o.Generation)
	}
}
