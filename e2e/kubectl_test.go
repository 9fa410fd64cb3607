//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// namespace is the manifests' namespace.
const namespace = "warble"

// kubectl runs kubectl with KUBECONFIG, and returns its output.
func kubectl(ctx context.Context, input string, args ...string) (string, error) {
	return execute(ctx, input, "kubectl", append([]string{"--namespace=" + namespace, "--request-timeout=60s"}, args...)...)
}

func execute(ctx context.Context, input, name string, args ...string) (string, error) {
	return executeIn(ctx, "..", input, name, args...) // the repository
}

func executeIn(ctx context.Context, folder, input, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "KO_CONFIG_PATH=ko.yaml")
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(text)), nil
}

// run runs kubectl, and fails the test if it fails.
func run(t testing.TB, args ...string) string {
	t.Helper()
	text, err := kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// service is the part of a Knative Service that the tests read.
type service struct {
	Metadata struct {
		Generation  int64
		Annotations map[string]string
	}
	Spec   json.RawMessage
	Status struct {
		ObservedGeneration        int64
		URL                       string
		LatestCreatedRevisionName string
		LatestReadyRevisionName   string
		Conditions                []struct{ Type, Status string }
		Traffic                   []traffic
	}
}

type traffic struct {
	RevisionName string `json:"revisionName,omitempty"`
	Latest       bool   `json:"latestRevision"`
	Percent      int    `json:"percent"`
	Tag          string `json:"tag,omitempty"`
	URL          string `json:"url,omitempty"`
}

func serviceOf(t testing.TB, name string) (s service) {
	t.Helper()
	if err := json.Unmarshal([]byte(run(t, "get", "ksvc", name, "--output=json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s service) ready() bool {
	return s.Status.ObservedGeneration == s.Metadata.Generation && s.Status.LatestCreatedRevisionName == s.Status.LatestReadyRevisionName &&
		slices.ContainsFunc(s.Status.Conditions, func(c struct{ Type, Status string }) bool { return c.Type == "Ready" && c.Status == "True" })
}

// change is one step of a JSON patch.
type change struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// newRevision changes an annotation that nothing reads, because a changed template makes a new revision.
func newRevision(name string) change {
	return change{"add", "/spec/template/metadata/annotations/warble.dev~1journey", name}
}

// envPath is the path of a container's variables in a Service.
const envPath = "/spec/template/spec/containers/0/env"

// variables returns the variables of a Service's container.
func (s service) variables() ([]map[string]any, error) {
	var spec struct {
		Template struct {
			Spec struct {
				Containers []struct{ Env []map[string]any }
			}
		}
	}
	if err := json.Unmarshal(s.Spec, &spec); err != nil {
		return nil, err
	}
	return spec.Template.Spec.Containers[0].Env, nil
}

// set returns env with a variable added or replaced.
func set(env []map[string]any, name, value string) []map[string]any {
	others := slices.DeleteFunc(slices.Clone(env), func(v map[string]any) bool { return v["name"] == name })
	return append(others, map[string]any{"name": name, "value": value})
}

// withVariable adds a variable to a Service's container.
func withVariable(variable map[string]any) change {
	return change{"add", envPath + "/-", variable}
}

// patch changes a Service, and does not wait. The change is undone when the test ends.
func patch(t testing.TB, name string, changes ...change) (before service) {
	t.Helper()
	before = serviceOf(t, name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
		defer cancel()
		if err := patchNow(ctx, name, change{"replace", "/spec", before.Spec}); err != nil {
			t.Error(err)
			return
		}
		if _, err := kubectl(ctx, "", "wait", "--for=condition=Ready", "--timeout=150s", "ksvc/"+name); err != nil {
			t.Error(err)
		}
	})
	if err := patchNow(t.Context(), name, changes...); err != nil {
		t.Fatal(err)
	}
	return before
}

func patchNow(ctx context.Context, name string, changes ...change) error {
	text, err := json.Marshal(changes)
	if err != nil {
		return err
	}
	_, err = kubectl(ctx, "", "patch", "ksvc", name, "--type=json", "--patch="+string(text))
	return err
}

// readyLimit is the longest time until a revision is ready and has its traffic, on two cores that also run the load.
const readyLimit = 3 * time.Minute

// untilReady waits until the last change is in force, and returns the Service.
func untilReady(t testing.TB, name string) (s service) {
	t.Helper()
	within(t, name+" ready", readyLimit, func() bool {
		s = serviceOf(t, name)
		return s.ready()
	})
	return s
}

// pollEvery is the time between two calls of kubectl. Each call is a process that takes 0.2 s of a core.
const pollEvery = 500 * time.Millisecond

// within is eventually, with the pause of pollEvery.
func within(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(pollEvery) {
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// pods returns a Service's pods that are not terminating.
func pods(t testing.TB, name string) []string {
	t.Helper()
	return strings.Fields(run(t, "get", "pods", "--selector=serving.knative.dev/service="+name, "--output=go-template="+
		`{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}`))
}

// ask sends a GET through the ingress to a host.
func ask(t testing.TB, host, path string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, warble.url+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	start := time.Now()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text), time.Since(start)}
}
