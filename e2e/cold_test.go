//go:build e2e

package e2e_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Measures cold starts of functions and of a bare net/http server on the same cluster, in turn: make cold. A request to a function passes
// the ingress and the edge, which is not at zero. A request to hello passes only the ingress.
func BenchmarkColdStart(b *testing.B) {
	cluster(b)
	const target = 1.15 // of the medians
	hello, err := execute(b.Context(), "", "go", "tool", "-modfile=tools/ko/go.mod", "ko", "resolve", "--base-import-paths", "--sbom=none", "-f", "e2e/cluster/hello.yaml")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := kubectl(b.Context(), strings.Replace(hello, "namespace: default", "namespace: "+namespace, 1), "apply", "-f", "-"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "delete", "--wait=false", "ksvc/hello"); err != nil {
			b.Error(err)
		}
	})
	untilReady(b, "hello")
	contestants := []*contestant{
		{service: "hello", host: "hello." + namespace + "." + domain(), path: "/"},
		{service: "validate", host: warble.host, path: "/.well-known/jwks.json"}, // without a database
		{service: "users", host: warble.host, path: "/communities"},              // with one
	}
	for _, c := range contestants {
		patch(b, c.service, change{"add", "/spec/template/metadata", map[string]any{"annotations": map[string]string{"autoscaling.knative.dev/window": "6s"}}})
		untilReady(b, c.service)
	}
	for round := 0; b.Loop(); round++ {
		for i := range contestants {
			c := contestants[(round+i)%len(contestants)] // the order changes, so that the ends of other pods affect each in the same way
			c.untilZero(b)
			a := ask(b, c.host, c.path)
			if a.status != http.StatusOK {
				b.Fatalf("%s: %d %s", c.service, a.status, a.body)
			}
			c.took = append(c.took, a.took.Seconds())
		}
	}
	b.ReportMetric(0, "ns/op") // not useful, because most of the time is waiting
	for _, c := range contestants {
		b.Logf("%-8s p50 %4.0f ms, p90 %4.0f ms, of %d starts", c.service, 1000*quantile(c.took, .5), 1000*quantile(c.took, .9), len(c.took))
		if c.service == "hello" {
			continue
		}
		ratio, low, high := ratioOfMedians(c.took, contestants[0].took)
		verdict := "met"
		if ratio > target {
			verdict = "MISSED"
		}
		b.Logf("%-8s / hello %.3f, 95 %% interval %.3f to %.3f; target at most %g: %s", c.service, ratio, low, high, target, verdict)
		b.ReportMetric(ratio, c.service+"/hello")
	}
}

// Measures the cost of the edge in a cluster: requests to the same function through the edge and through its private host, in turn, from
// inside the cluster, so that the private ingress is the only other difference.
func BenchmarkEdge(b *testing.B) {
	cluster(b)
	w := inside(b)
	const times = "200"
	private := func(service string) func() float64 {
		return func() float64 {
			return quantile(w.fetch(b, "http://"+service+"."+namespace+".svc.cluster.local/communities", times).Seconds, .5)
		}
	}
	var through, direct []float64
	private("edge")() // users may be at zero
	for b.Loop() {
		through, direct = append(through, private("edge")()), append(direct, private("users")())
	}
	b.ReportMetric(0, "ns/op")
	ratio, low, high := ratioOfMedians(through, direct)
	b.Logf("p50 through the edge %.2f ms, by the function's own host %.2f ms, ratio %.2f, 95 %% interval %.2f to %.2f",
		1000*quantile(through, .5), 1000*quantile(direct, .5), ratio, low, high)
	b.ReportMetric(1000*(quantile(through, .5)-quantile(direct, .5)), "ms/edge")
}

type contestant struct {
	service, host, path string
	took                []float64 // seconds
}

// untilZero waits until no pod of the function runs and the activator has its traffic.
func (c *contestant) untilZero(b *testing.B) {
	within(b, c.service+" at zero", readyLimit, func() bool {
		return len(pods(b, c.service)) == 0 &&
			!strings.Contains(run(b, "get", "serverlessservices.networking.internal.knative.dev", "--selector=serving.knative.dev/service="+c.service, "--output=jsonpath={.items[*].spec.mode}"), "Serve")
	})
}

// quantile returns the value of the nearest rank.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// ratioOfMedians returns the ratio and its 95 % percentile bootstrap interval (Efron 1979), which resamples pairs.
func ratioOfMedians(ours, theirs []float64) (ratio, low, high float64) {
	const samples = 10_000
	random := rand.New(rand.NewPCG(1, 2))
	ratios := make([]float64, samples)
	for i := range ratios {
		a, b := make([]float64, len(ours)), make([]float64, len(ours))
		for j := range a {
			pair := random.IntN(len(ours))
			a[j], b[j] = ours[pair], theirs[pair]
		}
		ratios[i] = quantile(a, .5) / quantile(b, .5)
	}
	return quantile(ours, .5) / quantile(theirs, .5), quantile(ratios, .025), quantile(ratios, .975)
}
