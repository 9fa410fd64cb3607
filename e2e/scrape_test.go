//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// Knative scales a function without requests to zero, and starts it for the next request. Prometheus scrapes every pod on its second
// port, which Knative does not count as traffic: a function that is scraped every second still scales to zero. The
// PodMonitor names a port that Knative's pods have. The test runs on a node, because it needs the pods' addresses.
func scalesToZeroWhileItIsScraped(t *testing.T) {
	t.Parallel()
	const (
		stable = 6 * time.Minute // Knative's defaults are a window of 60 s and a grace of 30 s
		least  = 10              // successful scrapes; fewer would prove nothing
	)
	if a := (&user{t: t}).do("GET", "/.well-known/jwks.json", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	within(t, "a pod", readyLimit, func() bool { return len(podAddresses(t, "validate")) > 0 })
	port := monitored(t)
	if names := run(t, "get", "pods", "--selector=serving.knative.dev/service=validate", "--output=jsonpath={.items[*].spec.containers[*].ports[*].name}"); !strings.Contains(" "+names+" ", " "+port+" ") {
		t.Errorf("the PodMonitor asks for the port %s, and a pod of Knative's has %s", port, names)
	}

	start, answered, text := time.Now(), 0, ""
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		addresses := podAddresses(t, "validate")
		if len(addresses) == 0 {
			break
		}
		if time.Since(start) > stable {
			t.Fatalf("%v are there %s after the last request, scraped %d times", addresses, stable, answered)
		}
		for _, address := range addresses {
			got, err := metricsOf(t.Context(), address)
			if err != nil {
				t.Logf("%s: %v", address, err) // it may be terminating; too few successes fail the test
				continue
			}
			answered, text = answered+1, got
		}
		<-second.C
	}
	if answered < least {
		t.Errorf("%d scrapes were answered, want %d: the pod may have gone because there were too few", answered, least)
	}
	if !strings.Contains(text, `http_server_request_duration_seconds_count{code="200",method="GET",revision="validate-`) || strings.Contains(text, `route="/metrics"`) {
		t.Errorf("the last scrape is not of a function that was asked, or counts itself:\n%s", text)
	}
	down := time.Since(start)
	if a := (&user{t: t}).do("GET", "/.well-known/jwks.json", ""); a.status != http.StatusOK {
		t.Errorf("from zero: %d %s", a.status, a.body)
	} else {
		t.Logf("no pod %s after the last request, though scraped %d times; from zero answered in %s", down.Round(time.Second), answered, a.took.Round(time.Millisecond))
	}
}

// monitored returns the container port by which the PodMonitor finds pods.
func monitored(t *testing.T) string {
	t.Helper()
	file, err := os.ReadFile("../terraform/04-observability/podmonitor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var monitor struct {
		Spec struct {
			PodMetricsEndpoints []struct{ Port string }
		}
	}
	if err := yaml.Unmarshal(file, &monitor); err != nil || len(monitor.Spec.PodMetricsEndpoints) != 1 {
		t.Fatalf("%d endpoints, want 1: %v", len(monitor.Spec.PodMetricsEndpoints), err)
	}
	return monitor.Spec.PodMetricsEndpoints[0].Port
}

// podAddresses returns the addresses of a Service's running pods that are not terminating.
func podAddresses(t *testing.T, name string) []string {
	t.Helper()
	return strings.Fields(run(t, "get", "pods", "--selector=serving.knative.dev/service="+name, "--output=go-template="+
		`{{range .items}}{{if and (not .metadata.deletionTimestamp) .status.podIP}}{{.status.podIP}} {{end}}{{end}}`))
}

func metricsOf(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+":2112/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read to its end
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", answer.Status, text)
	}
	return string(text), err
}
