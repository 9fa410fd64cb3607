package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"knative.dev/pkg/apis"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"warble/shared/experiment"
)

// TestATagOfTheEdgeLeadsToTheSameTagOfTheFunctions also checks that such a request is in no experiment, and that a function without
// the tag serves it as it serves everybody.
func TestATagOfTheEdgeLeadsToTheSameTagOfTheFunctions(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	named := func(revision string) (url string) {
		return serve(t, handlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(headerRevision, revision) }))
	}
	rules := openTo("likes", experiment.User, "mirror")
	tagged, plain := serveArms(t, &rules), functionEntry{Name: "plain", URL: named("untouched"), Routes: []string{"/plain/"}}
	tagged.Tags = map[string]string{"candidate": named("candidate")}
	rules.Open = experiment.Open{Control: experiment.Slots}
	edge.writeExperiments(t, []experiment.Rules{rules}, tagged, plain)
	text, err := os.ReadFile(edge.routes.file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := parseRoutes(text)
	if err != nil {
		t.Fatal(err)
	}
	v.ownTags = map[string]string{"candidate-edge": "candidate", "other-edge": "other"}
	if err := edge.routes.replace(v); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ host, path, revision string }{
		{"candidate-edge.warble.svc.cluster.local", "/m/x", "candidate"},
		{"candidate-edge.warble.example.org:8081", "/m/x", "candidate"},
		{"candidate-edge.warble.example.org", "/plain/x", "untouched"},
		{"other-edge.warble.example.org", "/m/x", "control"},
		{"edge.warble.example.org", "/m/x", "control"},
		{"candidate.edge.warble.example.org", "/m/x", "control"},
		{"", "/m/x", "control"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge.url+tt.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = tt.host
		request.Header.Set("Authorization", bearerOf(t, edge.issuer, 1, ""))
		answer, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get(headerRevision); got != tt.revision {
			t.Errorf("%s%s: %d of %q, want %q", tt.host, tt.path, answer.StatusCode, got, tt.revision)
		}
	}
}

// TestTagsAreReadFromTheEdgesOwnService also checks that no other Service's tags are read.
func TestTagsAreReadFromTheEdgesOwnService(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.start(t)
	p, o := startPod(t, s.config(), ""), newOperator(t, s.config())
	tagOf := func(host string) string {
		if p.Ready(t.Context()) != nil {
			return ""
		}
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.Host = host
		return p.tagFor(request)
	}
	own := knativeService("edge", "none")
	own.Status.Traffic = []servingv1.TrafficTarget{
		{RevisionName: "edge-00001"},
		{RevisionName: "edge-00002", Tag: "candidate", URL: apis.HTTP("candidate-edge.warble.example.org")},
	}
	o.apply(knativeService("tweet", "/2/tweets"))
	o.apply(own)
	inForceSoon(t, "the edge's tag", func() bool { return tagOf("candidate-edge.warble.svc.cluster.local") == "candidate" })
	for _, host := range []string{"edge.warble.example.org", "next-tweet.warble.svc.cluster.local"} {
		if got := tagOf(host); got != "" {
			t.Errorf("%s is of the edge's tag %q", host, got)
		}
	}
	own.Status.Traffic = own.Status.Traffic[:1]
	o.apply(own)
	inForceSoon(t, "the tag is gone", func() bool { return tagOf("candidate-edge.warble.svc.cluster.local") == "" })
}
