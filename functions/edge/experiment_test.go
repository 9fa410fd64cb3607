package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
)

// serveArms serves the mirror three times, as the untouched function and as each arm, and sets the arms' addresses in rules.
func serveArms(t testing.TB, rules *experiment.Rules) functionEntry {
	t.Helper()
	serving := func(revision string) string {
		mirror, _ := mirror(t)
		return serve(t, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(headerRevision, revision)
			w.Header().Set(headerVariant, "what the function says of it")
			proxyTo(t, w, r, mirror)
		}))
	}
	rules.Reach["mirror"] = experiment.Reach{Host: "nobody.example", Control: sideAt(serving("control"), "control"), Treatment: sideAt(serving("treatment"), "treatment")}
	return functionEntry{Name: "mirror", URL: serving("untouched"), Routes: []string{"/m/"}}
}

// sideAt returns an arm at a URL.
func sideAt(url, revision string) experiment.Side {
	return experiment.Side{Host: strings.TrimPrefix(url, "http://"), Revision: revision}
}

// proxyTo passes a request on unchanged.
func proxyTo(t testing.TB, w http.ResponseWriter, r *http.Request, url string) {
	t.Helper()
	again, err := http.NewRequestWithContext(r.Context(), r.Method, url+r.RequestURI, r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	again.Header = r.Header
	answer, err := transport.RoundTrip(again)
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

// armOf returns a user's arm under rules, without an edge.
func armOf(rules experiment.Rules, userID int64, community string) experiment.Arm {
	arm, _ := rules.Assign(userID, community)
	return arm
}

// TestAUserIsSentToTheirArm also checks where the arm is stated: to the function in a signed header and in the baggage, to the client
// in headers, and in the log in fields.
func TestAUserIsSentToTheirArm(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	rules := openTo("likes", experiment.Community, "mirror")
	rules.Open = experiment.Open{Control: 3000, Treatment: 3000}
	service := serveArms(t, &rules)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	seen := make(map[experiment.Arm]bool)
	for i := range int64(20) {
		community := fmt.Sprint("community-", i)
		arm := armOf(rules, i+1, community)
		seen[arm] = true
		a := send(t, http.MethodGet, edge.url+"/m/x", "", "Authorization", bearerOf(t, edge.issuer, i+1, community), "Baggage", "session=1")
		wantHeaders, wantRevision, wantAssignment, wantBaggage := []string(nil), "untouched", []string(nil), []string{"session=1"}
		if arm != "" {
			wantHeaders, wantRevision = []string{string(arm)}, string(arm)
			wantAssignment = []string{fmt.Sprintf("likes=%s;community=%s;generation=3;exposes", arm, community)}
			wantBaggage = append(wantBaggage, "experiment=likes,arm="+string(arm))
		}
		if diff := cmp.Diff(wantHeaders, a.Header[headerVariant]); diff != "" || a.Header.Get(headerRevision) != wantRevision || (a.Header.Get(headerExperiment) == "likes") != (arm != "") {
			t.Errorf("%s is in %q: %v", community, arm, a.Header)
		}
		if diff := cmp.Diff(wantAssignment, a.seen(t).Header[experiment.Header]); diff != "" {
			t.Errorf("%s: %s", community, diff)
		}
		if diff := cmp.Diff(wantBaggage, a.seen(t).Header["Baggage"]); diff != "" {
			t.Errorf("%s: %s", community, diff)
		}
		line := edge.log.line(t, a.Header.Get("X-Request-Id"))
		if variant, _ := line["variant"].(string); variant != string(arm) || (line["experiment"] == "likes") != (arm != "") {
			t.Errorf("%s is in %q: log line %v", community, arm, line)
		}
		if line["answered_by"] != wantRevision {
			t.Errorf("%s is answered by %q: log line %v", community, wantRevision, line)
		}
	}
	if len(seen) != 3 {
		t.Fatalf("the communities are in no other arms than %v", seen)
	}
}

// TestHeadersOfAClientDoNotChangeItsArm sends every header that names an arm.
func TestHeadersOfAClientDoNotChangeItsArm(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	rules := openTo("likes", experiment.User, "mirror")
	service := serveArms(t, &rules)
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	forged := []string{
		"Knative-Serving-Tag", "likes-treatment", "knative-serving-tag", "likes-control", experiment.Header, "likes=treatment;user=1;generation=3;exposes",
		experiment.Header, "likes=control;user=1;generation=3", headerVariant, "treatment", headerExperiment, "other", headerRevision, "treatment",
		function.HeaderSignature, "0", "Connection", "Warble-Assignment, X-Variant",
	}
	for id := int64(1); id <= 10; id++ {
		arm := armOf(rules, id, "")
		a := send(t, http.MethodGet, edge.url+"/m/x", "", append(forged, "Authorization", edge.bearer(t, id))...)
		got := a.seen(t).Header
		want := []string{fmt.Sprintf("likes=%s;user=%d;generation=3;exposes", arm, id)}
		if diff := cmp.Diff(want, got[experiment.Header]); diff != "" || got.Get("Knative-Serving-Tag") != "" || a.Header.Get(headerRevision) != string(arm) {
			t.Errorf("user %d, of %s: answered by %s; %s", id, arm, a.Header.Get(headerRevision), diff)
		}
		if diff := cmp.Diff([]string{string(arm)}, a.Header[headerVariant]); diff != "" || a.Header.Get(headerExperiment) != "likes" {
			t.Errorf("user %d: %s", id, diff)
		}
	}
	for name, authorization := range map[string]string{"nobody": "", "a token that is none": "Bearer x"} {
		a := send(t, http.MethodGet, edge.url+"/m/x", "", append(forged, "Authorization", authorization)...)
		if a.Header.Get(headerRevision) != "untouched" || a.Header[headerExperiment] != nil || a.seen(t).Header[experiment.Header] != nil {
			t.Errorf("%s is sent to an arm: %v", name, a.Header)
		}
	}
}

// outcomes returns the requests and errors that the edge has counted and not sent, by experiment and arm.
func (g *rig) outcomes() map[string][2]int64 {
	return sumsOf(slices.Values(g.unsentOutcomes()))
}

func (g *rig) unsentOutcomes() (all []experiment.Outcomes) {
	g.edge.outcomes.mu.Lock()
	defer g.edge.outcomes.mu.Unlock()
	for _, w := range g.edge.outcomes.counts {
		all = append(all, *w)
	}
	return all
}

// TestWhichAnswersAreErrorsOfAnArm: errors are answers of 5xx, answers that break off, and an arm that refuses the connection, so
// that the untouched function answers. A client's own mistake, and a client that leaves, are no errors.
func TestWhichAnswersAreErrorsOfAnArm(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	url := serve(t, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/x/404":
			problem.Write(w, problem.NotFound.Detail("no such tweet"), "1")
		case "/x/500":
			problem.Write(w, problem.Internal.Detail("oh"), "1")
		case "/x/503":
			http.Error(w, "the activator's words", http.StatusServiceUnavailable)
		case "/x/half":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/x/left":
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	}))
	untouched := serve(t, handlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	edge := start(t, config{steerURL: "http://nobody.example"})
	rules := openTo("likes", experiment.User, "x")
	rules.Reach["x"] = experiment.Reach{Control: sideAt(url, "control"), Treatment: sideAt("http://"+refusingAddress(t), "treatment")}
	service := functionEntry{Name: "x", URL: untouched, Routes: []string{"/x/"}}
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	member := func(arm experiment.Arm) (bearer string) {
		for id := int64(1); ; id++ {
			if armOf(rules, id, "") == arm {
				return edge.bearer(t, id)
			}
		}
	}
	control, treatment := member(experiment.Control), member(experiment.Treatment)
	for i, tt := range []struct {
		path   string
		status int
		want   [2]int64 // requests and errors of the control
	}{
		{"/x/200", 200, [2]int64{1, 0}}, {"/x/404", 404, [2]int64{2, 0}}, {"/x/500", 500, [2]int64{3, 1}}, {"/x/503", 503, [2]int64{4, 2}}, {"/x/half", 0, [2]int64{5, 3}},
	} {
		id := fmt.Sprint("one-", i)
		a, err := try(t.Context(), http.MethodPost, edge.url+tt.path, "", "Authorization", control, "X-Request-Id", id)
		if (err != nil) != (tt.status == 0) || err == nil && (a.StatusCode != tt.status || a.Header.Get(headerVariant) != "control") {
			t.Errorf("%s: %v %+v", tt.path, err, a)
		}
		edge.log.line(t, id)
		if diff := cmp.Diff(map[string][2]int64{"likes control": tt.want}, edge.outcomes()); diff != "" {
			t.Errorf("%s: %s", tt.path, diff)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() { <-arrived; leave() }()
	if _, err := try(ctx, http.MethodGet, edge.url+"/x/left", "", "Authorization", control, "X-Request-Id", "left"); err == nil {
		t.Error("a client that left is answered")
	}
	edge.log.line(t, "left")
	a := send(t, http.MethodPost, edge.url+"/x/refused", "", "Authorization", treatment)
	if a.StatusCode != http.StatusTeapot || a.Header.Get(headerVariant) != "treatment" {
		t.Errorf("%d, of the arm %v, want what the untouched function answers", a.StatusCode, a.Header[headerVariant])
	}
	edge.log.line(t, a.Header.Get("X-Request-Id"))
	if diff := cmp.Diff(map[string][2]int64{"likes control": {5, 3}, "likes treatment": {1, 1}}, edge.outcomes()); diff != "" {
		t.Error(diff)
	}
	metrics := scrape(t, edge.telemetry)
	for _, want := range []string{
		`warble_experiment_requests_total{arm="control",code="500",experiment="likes"} 1`, `warble_experiment_requests_total{arm="treatment",code="418",experiment="likes"} 1`,
		`warble_experiment_request_duration_seconds_count{arm="control",experiment="likes"} 5`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no metric %s", want)
		}
	}
}

// TestABaselineCountsAnswersOfTheUntouched checks that answers count for the arm that each caller will have and the step that will
// open their slot. During a baseline nobody is treated, and no header names the experiment.
func TestABaselineCountsAnswersOfTheUntouched(t *testing.T) {
	t.Parallel()
	url := serve(t, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if told := r.Header.Get(experiment.Header); told != "" {
			t.Errorf("a function is told %q", told)
		}
		time.Sleep(2 * time.Millisecond)
		w.Header().Set(headerRevision, "x-00001")
		if r.URL.Path == "/x/500" {
			problem.Write(w, problem.Internal.Detail("oh"), "1")
		}
	}))
	edge := start(t, config{steerURL: "http://nobody.example"})
	rules := openTo("likes", experiment.User, "x")
	rules.Open, rules.Reach, rules.Phase = experiment.Open{}, nil, experiment.Warming
	rules.Baseline, rules.Bounds = []int{1000, 3000}, []experiment.Duration{experiment.Duration(time.Millisecond), experiment.Duration(time.Hour)}
	edge.writeExperiments(t, []experiment.Rules{rules}, functionEntry{Name: "x", URL: url, Routes: []string{"/x/"}})
	type key struct {
		step int
		arm  experiment.Arm
	}
	type sums struct{ requests, errors, slow, never int64 }
	want := make(map[key]sums)
	for id := int64(1); id <= 40; id++ {
		path := []string{"200", "500"}[id%2]
		a := send(t, http.MethodGet, edge.url+"/x/"+path, "", "Authorization", edge.bearer(t, id))
		if a.Header[headerExperiment] != nil || a.Header[headerVariant] != nil || a.Header.Get(headerRevision) != "x-00001" {
			t.Errorf("user %d: %v", id, a.Header)
		}
		edge.log.line(t, a.Header.Get("X-Request-Id"))
		slot := experiment.Slot("likes", fmt.Sprint(id))
		k := key{0, experiment.Control}
		if slot >= experiment.Slots-3000 {
			k.arm = experiment.Treatment
		}
		if slot >= 1000 && slot < experiment.Slots-1000 {
			k.step = 1
		}
		if slot < 3000 || slot >= experiment.Slots-3000 {
			n := want[k]
			want[k] = sums{n.requests + 1, n.errors + id%2, n.slow + 1, 0}
		}
	}
	got := make(map[key]sums)
	for _, one := range edge.unsentOutcomes() {
		if !one.Before || one.Experiment != "likes" || one.Service != "x" {
			t.Errorf("%+v", one)
		}
		n := got[key{one.Step, one.Arm}]
		got[key{one.Step, one.Arm}] = sums{n.requests + sum(one.Requests), n.errors + sum(one.Errors), n.slow + sum(one.Slow[0]), n.never + sum(one.Slow[1])}
	}
	if !maps.Equal(want, got) || len(want) != 4 {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestACanaryIsCountedByTheRevisionThatAnswered checks a canary that all requests take part in. No header names the experiment to a
// function or a client.
func TestACanaryIsCountedByTheRevisionThatAnswered(t *testing.T) {
	t.Parallel()
	revision := make(chan string, 1)
	url := serve(t, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if told := r.Header.Get(experiment.Header); told != "" {
			t.Errorf("a function is told %q", told)
		}
		name := <-revision
		if name == "" {
			http.Error(w, "the queue proxy's words", http.StatusBadGateway)
			return
		}
		w.Header().Set(headerRevision, name)
	}))
	edge := start(t, config{steerURL: "http://nobody.example"})
	rules := openTo("canary", experiment.Request, "x") // all requests go to the arms
	at := rules.Reach["x"]
	at.Host = strings.TrimPrefix(url, "http://")
	rules.Reach["x"] = at
	untouched := serve(t, handlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(headerRevision, "x-00001") }))
	edge.writeExperiments(t, []experiment.Rules{rules}, functionEntry{Name: "x", URL: untouched, Routes: []string{"/x"}})
	buckets := make(map[experiment.Arm][]int)
	for i, name := range []string{"x-control", "x-treatment", "x-treatment", "x-00001", ""} {
		revision <- name
		a := send(t, http.MethodGet, edge.url+"/x", "", "Authorization", edge.bearer(t, int64(i+1)))
		if a.Header[headerExperiment] != nil || a.Header[headerVariant] != nil {
			t.Errorf("%q: %v", name, a.Header)
		}
		edge.log.line(t, a.Header.Get("X-Request-Id"))
		if arm := map[string]experiment.Arm{"x-control": experiment.Control, "x-treatment": experiment.Treatment}[name]; arm != "" {
			buckets[arm] = append(buckets[arm], experiment.Slot("canary", a.Header.Get("X-Request-Id"))%experiment.Buckets)
		}
	}
	if diff := cmp.Diff(map[string][2]int64{"canary control": {1, 0}, "canary treatment": {2, 0}}, edge.outcomes()); diff != "" {
		t.Error(diff)
	}
	for _, one := range edge.unsentOutcomes() {
		for _, bucket := range buckets[one.Arm] {
			if one.Requests[bucket] == 0 {
				t.Errorf("%s: no request is in bucket %d, that of its id: %v", one.Arm, bucket, one.Requests)
			}
		}
	}
}

// TestAnAnswerCountsForTheStepAtWhichItsRequestArrived, even if another step begins before the answer. During a promotion no answer
// counts. An answer is slow by each bound that it exceeds.
func TestAnAnswerCountsForTheStepAtWhichItsRequestArrived(t *testing.T) {
	t.Parallel()
	arrived, stepped := make(chan struct{}), make(chan struct{})
	url := serve(t, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		time.Sleep(2 * time.Millisecond)
		if r.URL.Path == "/x/step" {
			close(arrived)
			<-stepped
		}
	}))
	edge := start(t, config{steerURL: "http://nobody.example"})
	rules := openTo("likes", experiment.User, "x")
	rules.Bounds = []experiment.Duration{experiment.Duration(time.Millisecond), experiment.Duration(time.Hour)}
	rules.Reach["x"] = experiment.Reach{Control: sideAt(url, "control"), Treatment: sideAt(url, "treatment")}
	service := functionEntry{Name: "x", URL: url, Routes: []string{"/x/"}}
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	get := func(path string) {
		a := send(t, http.MethodGet, edge.url+"/x/"+path, "", "Authorization", edge.bearer(t, 1))
		edge.log.line(t, a.Header.Get("X-Request-Id"))
	}
	get("first")
	under := make(chan struct{})
	go func() { defer close(under); get("step") }()
	<-arrived
	rules.Step = 1
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	get("next")
	close(stepped)
	<-under
	rules.Phase = experiment.Promoting
	edge.writeExperiments(t, []experiment.Rules{rules}, service)
	get("promoting")
	type sums struct{ requests, errors, slow, never int64 }
	got := make(map[int]sums)
	for _, one := range edge.unsentOutcomes() {
		if arm := armOf(rules, 1, ""); one.Service != "x" || one.Arm != arm || one.Requests[rules.Bucket("1")] != sum(one.Requests) {
			t.Errorf("%+v", one)
		}
		n := got[one.Step] // a count period may have ended, so there may be several
		got[one.Step] = sums{n.requests + sum(one.Requests), n.errors + sum(one.Errors), n.slow + sum(one.Slow[0]), n.never + sum(one.Slow[1])}
	}
	if want := map[int]sums{0: {2, 0, 2, 0}, 1: {1, 0, 1, 0}}; !maps.Equal(want, got) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
