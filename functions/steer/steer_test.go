package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/cloudevents/sdk-go/v2/event"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/rollout"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type rig struct {
	*testing.T
	telemetry *telemetry.Telemetry
	database  pgtest.Database
	db        *store.DB
	url       string
}

func serve(t *testing.T, cluster rollout.Cluster) rig {
	t.Helper()
	f, d := function.NewTest(t.Output()), pgtest.New(t)
	db := d.Open(t, pgtest.Ops)
	server := httptest.NewServer(f.Handler(New(db, cluster, 0, f.Telemetry), db))
	t.Cleanup(server.Close)
	return rig{t, f.Telemetry, d, db, server.URL}
}

// lastTurn returns the metric that the alert SteerMissing watches.
func (r rig) lastTurn() (at int64) {
	r.Helper()
	answer := httptest.NewRecorder()
	r.telemetry.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	for line := range strings.Lines(answer.Body.String()) {
		if text, ok := strings.CutPrefix(line, "steer_last_turn_timestamp_seconds "); ok {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				r.Fatal(err)
			}
			return int64(seconds)
		}
	}
	r.Fatal("there is no steer_last_turn_timestamp_seconds")
	return 0
}

// post sends a body as the edge does, signed with key unless key is nil.
func (r rig) post(path string, key []byte, body any) (status int, answer string) {
	r.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.url+path, bytes.NewReader(text))
	if err != nil {
		r.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if key != nil {
		request.Header.Set(function.HeaderClient, netip.IPv4Unspecified().String())
		function.Sign(request, key, time.Now())
	}
	return r.do(request)
}

func (r rig) do(request *http.Request) (status int, answer string) {
	r.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close()
	var read bytes.Buffer
	if _, err := read.ReadFrom(response.Body); err != nil {
		r.Fatal(err)
	}
	return response.StatusCode, read.String()
}

// ping sends what a PingSource sends.
func (r rig) ping() (status int, answer string) {
	r.Helper()
	e := event.New()
	e.SetID("1")
	e.SetSource("/apis/v1/namespaces/warble/pingsources/steer")
	e.SetType("dev.knative.sources.ping")
	if err := e.SetData(event.ApplicationJSON, map[string]any{}); err != nil {
		r.Fatal(err)
	}
	request, err := cehttp.NewHTTPRequestFromEvent(r.Context(), r.url, e)
	if err != nil {
		r.Fatal(err)
	}
	return r.do(request)
}

func (r rig) exec(sql string, args ...any) {
	r.Helper()
	if err := pgtest.Exec(r.Context(), r.database.URL(pgtest.Owner), sql, args...); err != nil {
		r.Fatal(err)
	}
}

// likeCounts returns an edge's counts of the Service like in an arm of likes. All requests and errors are in the first bucket. For
// one bound, as many answers as errors are slow.
func likeCounts(arm experiment.Arm, start time.Time, requests, errors int64) experiment.Outcomes {
	list := func(first int64) []int64 { return append([]int64{first}, make([]int64, experiment.Buckets-1)...) }
	return experiment.Outcomes{
		Experiment: "likes", Service: "like", Arm: arm, Start: start, Requests: list(requests), Errors: list(errors), Slow: [][]int64{list(errors)},
	}
}

func TestOutcomesAreStoredOnceAndOnlyFromTheEdge(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	start := time.Date(2026, 11, 24, 12, 0, 10, 0, time.UTC)
	batch := func() outcomesReport {
		return outcomesReport{Pod: "edge-1", Periods: []experiment.Outcomes{likeCounts(experiment.Treatment, start, 10, 1), likeCounts(experiment.Control, start, 8, 0)}}
	}
	for range 2 {
		if status, answer := r.post("/outcomes", function.TestKey, batch()); status != http.StatusNoContent {
			t.Fatal(status, answer)
		}
		r.exec(`do $$ begin
			assert (select array_agg(row(experiment, step, service, arm, requests, errors, slow)::text order by arm) from windows)
				= array['(likes,0,like,control,8,0,{0})', '(likes,0,like,treatment,10,1,{1})'];
			assert (select sum(requests) from buckets) = 18;
		end $$`)
	}
	before := likeCounts(experiment.Control, start, 5, 0)
	before.Before = true
	if status, answer := r.post("/outcomes", function.TestKey, outcomesReport{Pod: "edge-2", Periods: []experiment.Outcomes{likeCounts(experiment.Control, start, 1, 0), before}}); status != http.StatusNoContent {
		t.Fatal(status, answer)
	}
	r.exec(`do $$ begin
		assert (select sum(requests) from buckets) = 19 and (select sum(requests) from baselines) = 5;
	end $$`)
	for _, key := range [][]byte{nil, []byte("another key, which no edge has ever had")} {
		if status, answer := r.post("/outcomes", key, batch()); status != http.StatusForbidden || !strings.Contains(answer, "only the edge") {
			t.Errorf("with the key %q: %d %s", key, status, answer)
		}
	}
	for name, tt := range map[string]struct {
		field  string
		change func(*outcomesReport)
	}{
		"no pod":                     {"pod", func(c *outcomesReport) { c.Pod = "" }},
		"no experiment":              {"windows[0].experiment", func(c *outcomesReport) { c.Periods[0].Experiment = "" }},
		"a step past the last":       {"windows[0].step", func(c *outcomesReport) { c.Periods[0].Step = 20 }},
		"no Service":                 {"windows[1].service", func(c *outcomesReport) { c.Periods[1].Service = "" }},
		"no arm":                     {"windows[0].arm", func(c *outcomesReport) { c.Periods[0].Arm = "both" }},
		"a moment within a period":   {"windows[0].start", func(c *outcomesReport) { c.Periods[0].Start = start.Add(time.Second) }},
		"two periods":                {"windows[1].start", func(c *outcomesReport) { c.Periods[1].Start = start.Add(experiment.CountPeriod) }},
		"the same once more":         {"windows[1]", func(c *outcomesReport) { c.Periods[1] = c.Periods[0] }},
		"31 buckets":                 {"windows[0].requests", func(c *outcomesReport) { c.Periods[0].Requests = c.Periods[0].Requests[1:] }},
		"no buckets":                 {"windows[0].requests", func(c *outcomesReport) { c.Periods[0].Requests = nil }},
		"more than an edge can do":   {"windows[0].requests", func(c *outcomesReport) { c.Periods[0].Requests[31] = 1_000_001 }},
		"fewer than none":            {"windows[0].errors", func(c *outcomesReport) { c.Periods[0].Requests[3] = -1 }},
		"more errors than requests":  {"windows[0].errors", func(c *outcomesReport) { c.Periods[0].Errors[0] = 11 }},
		"no errors":                  {"windows[0].errors", func(c *outcomesReport) { c.Periods[0].Errors = nil }},
		"more slow than requests":    {"windows[0].slow[1]", func(c *outcomesReport) { c.Periods[0].Slow = append(c.Periods[0].Slow, c.Periods[1].Requests[:31]) }},
		"33 buckets":                 {"windows[0].slow[0]", func(c *outcomesReport) { c.Periods[0].Slow[0] = make([]int64, 33) }},
		"more bounds than there are": {"windows[0].slow", func(c *outcomesReport) { c.Periods[0].Slow = make([][]int64, 21) }},
	} {
		wrong := batch()
		tt.change(&wrong)
		if status, answer := r.post("/outcomes", function.TestKey, wrong); status != http.StatusUnprocessableEntity || !strings.Contains(answer, `"`+tt.field+" ") {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

// Exposures to guests are stored once, and anything that no edge would send is refused.
func TestExposuresToGuestsAreStoredOnce(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	start := time.Date(2026, 11, 24, 12, 0, 10, 0, time.UTC)
	batch := func() outcomesReport {
		period := likeCounts(experiment.Control, start, 8, 0)
		period.Latency = make([]int64, len(experiment.LatencyBounds)+1)
		period.Latency[3] = 8
		return outcomesReport{Pod: "edge-1", Periods: []experiment.Outcomes{period}, Exposures: []experiment.Exposure{
			{Experiment: "likes", Unit: "a", Assigned: "control", Served: "control", Revision: "shop-1", Generation: 1, At: start},
			{Experiment: "likes", Unit: "b", Assigned: "treatment", Served: "none", Generation: 1, At: start},
		}}
	}
	for range 2 {
		if status, answer := r.post("/outcomes", function.TestKey, batch()); status != http.StatusNoContent {
			t.Fatal(status, answer)
		}
		r.exec(`do $$ begin
			assert (select array_agg(row(experiment, unit, assigned, served, revision, generation)::text order by unit) from guest_exposures)
				= array['(likes,a,control,control,shop-1,1)', '(likes,b,treatment,none,"",1)'];
			assert (select array_agg(row(service, pod, buckets[4])::text) from latencies) = array['(like,edge/edge-1,8)'];
		end $$`)
	}
	for name, tt := range map[string]struct {
		field  string
		change func(*outcomesReport)
	}{
		"no experiment":     {"exposures[0].experiment", func(c *outcomesReport) { c.Exposures[0].Experiment = "" }},
		"no unit":           {"exposures[1].unit", func(c *outcomesReport) { c.Exposures[1].Unit = "" }},
		"a unit of lines":   {"exposures[0].unit", func(c *outcomesReport) { c.Exposures[0].Unit = "a\nb" }},
		"a long unit":       {"exposures[0].unit", func(c *outcomesReport) { c.Exposures[0].Unit = strings.Repeat("a", 129) }},
		"nobody":            {"exposures[0].userId", func(c *outcomesReport) { c.Exposures[0].UserID = -1 }},
		"no arm":            {"exposures[0].assigned", func(c *outcomesReport) { c.Exposures[0].Assigned = "none" }},
		"served by both":    {"exposures[0].served", func(c *outcomesReport) { c.Exposures[0].Served = "both" }},
		"a long revision":   {"exposures[0].revision", func(c *outcomesReport) { c.Exposures[0].Revision = strings.Repeat("a", 254) }},
		"at no time":        {"exposures[0].at", func(c *outcomesReport) { c.Exposures[0].At = time.Time{} }},
		"a latency missing": {"windows[0].latency", func(c *outcomesReport) { c.Periods[0].Latency = c.Periods[0].Latency[1:] }},
		"a latency below 0": {"windows[0].latency", func(c *outcomesReport) { c.Periods[0].Latency[0] = -1 }},
	} {
		wrong := batch()
		tt.change(&wrong)
		if status, answer := r.post("/outcomes", function.TestKey, wrong); status != http.StatusUnprocessableEntity || !strings.Contains(answer, `"`+tt.field+" must") {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

func TestOnlyACloudEventMovesExperiments(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	if status, answer := r.post("/", nil, map[string]any{}); status != http.StatusBadRequest || !strings.Contains(answer, "expected a CloudEvent") {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer := r.ping(); status != http.StatusAccepted || answer != "" {
		t.Errorf("outside of a cluster %d %q", status, answer)
	}
	away := &cluster{err: fmt.Errorf("the API server is away")}
	r = serve(t, away)
	if status, answer := r.ping(); status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", status, answer)
	}
}

// A turn without an answer from the cluster does not count, so that SteerMissing can fire.
func TestATurnCountsOnlyIfEveryExperimentWasChecked(t *testing.T) {
	t.Parallel()
	r := serve(t, &cluster{err: errors.New("the API server is away")})
	r.ping()
	if at := r.lastTurn(); at != 0 {
		t.Errorf("the API server is away, and yet there was a turn at %d", at)
	}
	before := time.Now().Unix()
	r = serve(t, emptyCluster{})
	if status, answer := r.ping(); status != http.StatusAccepted {
		t.Fatal(status, answer)
	}
	if at := r.lastTurn(); at < before || at > time.Now().Unix() {
		t.Errorf("the turn was at %d, want from %d on", at, before)
	}
}

// Five percent of the treatment's requests fail, and steer ends the experiment without a person.
func TestABreachedGuardrailIsRolledBack(t *testing.T) {
	t.Parallel()
	spec := experiment.Spec{
		Services: []string{"like"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FEATURES": "likes"}}, Unit: experiment.User,
		Ramp:    experiment.Ramp{Steps: []int{50}},
		Metrics: experiment.Metrics{Window: experiment.Duration(time.Hour), Primary: experiment.Primary{Name: "tweets_per_user", MinimumEffect: .05}, Guardrails: []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}},
		Wishes:  experiment.Wishes{Start: true, By: "ada"},
	}
	spec.Default()
	began := time.Now().Add(-15 * time.Minute).Truncate(experiment.CountPeriod)
	at := experiment.Reach{Control: experiment.Side{Host: "c", Revision: "likes-like-control-00001"}, Treatment: experiment.Side{Host: "t", Revision: "likes-like-treatment-00001"}}
	c := &cluster{experiment: rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: "likes", UID: "1", Generation: 1}, Spec: spec, Status: rollout.Status{
		Phase: experiment.Running, StepAt: metav1.NewTime(began),
		Assign: rollout.Assign{Salt: "s", Open: experiment.Open{Control: 5000, Treatment: 5000}, Services: []rollout.ServiceReach{{Name: "like", Reach: at}}, ArmedAt: metav1.NewMicroTime(began)},
		Bases:  []rollout.Base{{Name: "like", UID: "2", Revision: "like-00001", Image: "registry.test/like"}},
	}}}
	arm := func(side experiment.Side) *rollout.ArmState {
		return &rollout.ArmState{Source: "like-00001/0", Revision: side.Revision, Ready: true}
	}
	c.arms = &rollout.Arms{Control: arm(at.Control), Treatment: arm(at.Treatment), Route: &rollout.RouteState{
		Control: at.Control.Revision, Treatment: at.Treatment.Revision, Percent: 50, InForce: true, Reach: at,
	}}
	r := serve(t, c)
	if err := r.db.StartExperiment(t.Context(), experiment.Start{Name: "likes", Spec: spec, Salt: "s", UID: "1", Namespace: "3", PlannedUnits: 1000, At: began}); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Transition(t.Context(), "likes", experiment.Transition{ID: "running-0", Phase: experiment.Running, Percent: 50, At: began, Actor: "ada", Reason: "every arm answers"}); err != nil {
		t.Fatal(err)
	}
	if status, answer := r.ping(); status != http.StatusAccepted || c.experiment.Status.Phase != experiment.Running {
		t.Fatalf("before anything has happened %d %s %+v", status, answer, c.experiment.Status)
	}
	r.exec(`insert into windows (experiment, step, service, arm, start, requests, errors, active, slow)
		select 'likes', 0, 'like', arm, $1::timestamptz + make_interval(secs => 10 * n), 320, case when arm = 'treatment' then 32 else 0 end, 4294967295, '{}'
		from generate_series(0, 59) n, unnest(array['control', 'treatment']) arm`, began)
	r.exec(`insert into buckets (experiment, step, service, arm, bucket, requests, errors, slow)
		select 'likes', 0, 'like', arm, bucket, 600, case when arm = 'treatment' then 60 else 0 end, '{}'
		from generate_series(0, 31) bucket, unnest(array['control', 'treatment']) arm`)
	if status, answer := r.ping(); status != http.StatusAccepted {
		t.Fatal(status, answer)
	}
	if s := c.experiment.Status; s.Conclusion != experiment.WasRolledBack || s.Assign.Open != (experiment.Open{}) || !strings.Contains(s.Because, "Failed requests") {
		t.Errorf("%+v", s)
	}
	r.exec(`do $$ begin assert (select actor = 'steer' and reason ~ 'Failed requests' from experiment_transitions where id = 'concluded'); end $$`)
}

// An edge's tripwire has found that the treatment fails. Steer rolls back before it answers the edge.
func TestATreatmentThatTripsIsRolledBackImmediately(t *testing.T) {
	t.Parallel()
	spec := experiment.Spec{
		Services: []string{"like"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FEATURES": "likes"}}, Unit: experiment.User,
		Ramp:    experiment.Ramp{Steps: []int{50}},
		Metrics: experiment.Metrics{Window: experiment.Duration(time.Hour), Primary: experiment.Primary{Name: "tweets_per_user", MinimumEffect: .05}},
		Wishes:  experiment.Wishes{Start: true, By: "ada"},
	}
	spec.Default()
	began := time.Now().Add(-time.Minute)
	c := &cluster{experiment: rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: "likes", UID: "1", Generation: 1}, Spec: spec, Status: rollout.Status{
		Phase: experiment.Running, StepAt: metav1.NewTime(began),
		Assign: rollout.Assign{Salt: "s", Open: experiment.Open{Control: 5000, Treatment: 5000}, ArmedAt: metav1.NewMicroTime(began)},
	}}}
	r := serve(t, c)
	if err := r.db.StartExperiment(t.Context(), experiment.Start{Name: "likes", Spec: spec, Salt: "s", UID: "1", Namespace: "3", PlannedUnits: 1000, At: began}); err != nil {
		t.Fatal(err)
	}
	suspension := experiment.Suspension{Experiment: "likes", Start: began.Truncate(time.Microsecond), Users: 9, Answers: 11, Errors: 10, Untouched: 8}
	post := func() {
		t.Helper()
		if status, answer := r.post("/outcomes", function.TestKey, outcomesReport{Pod: "edge-1", Suspensions: []experiment.Suspension{suspension}}); status != http.StatusNoContent {
			t.Fatal(status, answer)
		}
	}
	post()
	if phase := c.experiment.Status.Phase; phase != experiment.Running {
		t.Errorf("whose fault it is is not known yet, and it is %s", phase)
	}
	suspension.Untouched, suspension.Fault = 20, experiment.FaultTreatment
	suspension.Start = suspension.Start.Add(-time.Second)
	post()
	if phase := c.experiment.Status.Phase; phase != experiment.Running {
		t.Errorf("that was of arms that were there before, and it is %s", phase)
	}
	suspension.Start = suspension.Start.Add(time.Second)
	post()
	if s := c.experiment.Status; s.Conclusion != experiment.WasRolledBack || !strings.Contains(s.Because, "10 of its 11 answers to 9 users were errors; after that, ") {
		t.Errorf("%+v", s)
	}
	if status, answer := r.post("/turn", []byte("another key, which no edge has ever had"), struct{}{}); status != http.StatusForbidden {
		t.Errorf("a turn for a stranger: %d %s", status, answer)
	}
	if status, answer := r.post("/turn", function.TestKey, struct{}{}); status != http.StatusNoContent {
		t.Errorf("a turn for an edge: %d %s", status, answer)
	}
}

// cluster has one experiment and one Service. Methods that no test needs are missing.
type cluster struct {
	rollout.Cluster
	err        error
	experiment rollout.Experiment
	arms       *rollout.Arms
	metrics    []rollout.Metric
	asked      atomic.Int64 // for metrics
}

// emptyCluster is a cluster without experiments.
type emptyCluster struct{ rollout.Cluster }

func (emptyCluster) Namespace(context.Context) (rollout.Namespace, error) {
	return rollout.Namespace{UID: "3"}, nil
}

func (emptyCluster) Metrics(context.Context) ([]rollout.Metric, error) { return nil, nil }

func (emptyCluster) Experiments(context.Context) ([]rollout.Experiment, error) { return nil, nil }

func (c *cluster) Namespace(context.Context) (rollout.Namespace, error) {
	return rollout.Namespace{UID: "3"}, c.err
}

func (c *cluster) Experiments(context.Context) ([]rollout.Experiment, error) {
	return []rollout.Experiment{*c.experiment.DeepCopy()}, c.err
}

func (c *cluster) Experiment(context.Context, string) (*rollout.Experiment, error) {
	return c.experiment.DeepCopy(), nil
}

func (c *cluster) Metrics(context.Context) ([]rollout.Metric, error) {
	c.asked.Add(1)
	return c.metrics, c.err
}

func (c *cluster) UpdateStatus(_ context.Context, e *rollout.Experiment) error {
	c.experiment = *e.DeepCopy()
	return nil
}

func (c *cluster) Services(context.Context, []string) ([]*rollout.Service, error) {
	return []*rollout.Service{{Name: "like", UID: "2", Created: "like-00001", Ready: "like-00001", Settled: true, Latest: true, Env: map[string]string{"FEATURES": ""}}}, nil
}

func (c *cluster) Arms(context.Context, *rollout.Experiment) (map[string]*rollout.Arms, error) {
	if c.arms == nil {
		return nil, nil
	}
	return map[string]*rollout.Arms{"like": c.arms}, nil
}

func (c *cluster) RecordEvent(context.Context, *rollout.Experiment, rollout.Event) error { return nil }
