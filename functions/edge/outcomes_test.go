package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/telemetry"
)

// sink stores outcomes as steer does: a repetition of the same process, period and experiment adds nothing.
type sink struct {
	url string

	mu          sync.Mutex
	known       map[string]bool // by pod, period and experiment
	stored      []experiment.Outcomes
	answers     []string // to the next requests: see ServeHTTP. Afterwards all requests succeed
	sizes       []int    // counts per request
	bytes       []int64  // of each request
	suspensions []experiment.Suspension
	exposed     []experiment.Exposure
}

func newSink(t testing.TB, answers ...string) *sink {
	t.Helper()
	s := &sink{known: make(map[string]bool), answers: answers}
	s.url, _ = serveFunction(t, function.Routes{"POST /outcomes": s})
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var sent struct {
		Pod         string
		Periods     []experiment.Outcomes `json:"windows"`
		Suspensions []experiment.Suspension
		Exposures   []experiment.Exposure
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sent); err != nil || sent.Pod == "" || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	if client := function.Client(r.Context()).String(); client != "0.0.0.0" { // an address in the header is believed only with a valid signature
		http.Error(w, "signed by "+client, http.StatusForbidden)
		return
	}
	s.mu.Lock()
	answer := ""
	if len(s.answers) > 0 {
		answer, s.answers = s.answers[0], s.answers[1:]
	}
	if strings.HasSuffix(answer, "stored") || answer == "" {
		s.sizes, s.bytes = append(s.sizes, len(sent.Periods)), append(s.bytes, r.ContentLength)
		s.suspensions = append(s.suspensions, sent.Suspensions...)
		s.exposed = append(s.exposed, sent.Exposures...)
		s.store(sent.Pod, sent.Periods)
	}
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(answer, "cut"):
		panic(http.ErrAbortHandler)
	case strings.HasPrefix(answer, "hang"):
		<-r.Context().Done()
	case answer != "" && answer[0] >= '3':
		http.Error(w, "not now", int(answer[0]-'0')*100+int(answer[1]-'0')*10+int(answer[2]-'0'))
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// store adds outcomes that are not stored yet. s.mu must be held.
func (s *sink) store(pod string, counts []experiment.Outcomes) {
	comes := make(map[string]bool)
	for _, o := range counts {
		key := fmt.Sprint(pod, o.Experiment, o.Start)
		comes[key] = true
		if !s.known[key] {
			s.stored = append(s.stored, o)
		}
	}
	maps.Copy(s.known, comes)
}

// suspended returns the suspensions that were stored.
func (s *sink) suspended() []experiment.Suspension {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suspensions
}

// sums returns requests and errors by experiment and arm.
func (s *sink) sums() map[string][2]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sumsOf(slices.Values(s.stored))
}

func sumsOf(counts iter.Seq[experiment.Outcomes]) map[string][2]int64 {
	all := make(map[string][2]int64)
	for o := range counts {
		key := o.Experiment + " " + string(o.Arm)
		all[key] = [2]int64{all[key][0] + sum(o.Requests), all[key][1] + sum(o.Errors)}
	}
	return all
}

func sum(counts []int64) (n int64) {
	for _, one := range counts {
		n += one
	}
	return n
}

// experimentAt returns an experiment at a Service, with changed rules.
func experimentAt(name, service string, change func(*experiment.Rules)) *routedExperiment {
	r := openTo(name, experiment.User, service)
	if change != nil {
		change(&r)
	}
	return &routedExperiment{Rules: &r, service: service}
}

func newTestOutcomes(t testing.TB, url string) (*outcomes, *clock, *journal) {
	t.Helper()
	o, now, log, _ := newMeasuredOutcomes(t, url)
	return o, now, log
}

func newMeasuredOutcomes(t testing.TB, url string) (*outcomes, *clock, *journal, *telemetry.Telemetry) {
	t.Helper()
	log := new(journal)
	m := telemetry.New("edge", "edge-00001", log)
	o := newOutcomes(url, "edge-00001-abc", function.TestKey, m)
	now := newClock(noon)
	o.now = now.now
	return o, now, log, m
}

func (o *outcomes) sendNow(t testing.TB) {
	t.Helper()
	if err := o.send(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOutcomesAreNeitherLostNorCountedTwice, however requests with outcomes fail. Meanwhile more answers are counted, and the clock
// moves forward, and once back.
func TestOutcomesAreNeitherLostNorCountedTwice(t *testing.T) {
	t.Parallel()
	s := newSink(t, "cut", "500", "hang", "503", "cut, and stored", "429", "408", "hang, and stored", "500, and stored")
	o, now, _ := newTestOutcomes(t, s.url)
	o.client.Timeout = 200 * time.Millisecond
	likes := experimentAt("likes", "like", nil)
	const counters, each = 4, 1000
	var counting sync.WaitGroup
	for i := range counters {
		counting.Go(func() {
			for n := range each {
				o.count(likes, outcome{experiment.Arms[i%2], fmt.Sprint(n), n%10 == 0, 0, false})
				if n%50 == 0 {
					now.advance(time.Second)
				}
			}
		})
	}
	for i := range 15 {
		o.sendNow(t)
		now.advance(map[bool]time.Duration{true: -20 * time.Second, false: 3 * time.Second}[i == 10])
	}
	counting.Wait()
	now.advance(experiment.CountPeriod)
	eventually(t, "the end of the sink's troubles", func() bool {
		o.sendNow(t)
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.answers) == 0
	})
	o.client.Timeout = time.Minute // for requests that were too slow on a busy machine
	o.sendNow(t)
	o.Close()
	want := map[string][2]int64{"likes control": {2 * each, 2 * each / 10}, "likes treatment": {2 * each, 2 * each / 10}}
	if diff := cmp.Diff(want, s.sums()); diff != "" {
		t.Error(diff)
	}
	for _, w := range s.stored {
		if w.Start.Location() != time.UTC || !w.Start.Equal(w.Start.Truncate(experiment.CountPeriod)) {
			t.Errorf("a period begins at %s", w.Start)
		}
	}
}

// TestTheBucketsAddUpToThePeriod of each Service, step and arm. All requests, errors and slow answers of a unit are in the unit's
// bucket.
func TestTheBucketsAddUpToThePeriod(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	o, now, _ := newTestOutcomes(t, s.url)
	bounds := func(r *experiment.Rules) {
		r.Bounds = []experiment.Duration{experiment.Duration(100 * time.Millisecond), experiment.Duration(time.Second)}
	}
	next := func(r *experiment.Rules) { bounds(r); r.Step = 1 }
	type key struct {
		step    int
		service string
		arm     experiment.Arm
	}
	want := make(map[key]*experiment.Outcomes)
	for n := range 1000 {
		// The step changes within the period: earlier requests end after later ones of the next step.
		likes := experimentAt("likes", []string{"like", "tweet"}[n%2], map[bool]func(*experiment.Rules){true: next, false: bounds}[n > 500 && n%3 > 0])
		a := outcome{experiment.Arms[n/2%2], fmt.Sprint("user-", n%100), n%7 == 0, []time.Duration{time.Millisecond, 100 * time.Millisecond, 101 * time.Millisecond, time.Minute}[n%4], false}
		o.count(likes, a)
		k := key{likes.Step, likes.service, a.arm}
		if want[k] == nil {
			list := func() []int64 { return make([]int64, 32) }
			want[k] = &experiment.Outcomes{Experiment: "likes", Step: k.step, Service: k.service, Arm: k.arm, Start: now.now().Truncate(experiment.CountPeriod).UTC(),
				Requests: list(), Errors: list(), Slow: [][]int64{list(), list()}}
		}
		bucket := experiment.Slot("likes", a.unit) % 32
		want[k].Requests[bucket]++
		if a.failed {
			want[k].Errors[bucket]++
		}
		if n%4 >= 2 {
			want[k].Slow[0][bucket]++
		}
		if n%4 == 3 {
			want[k].Slow[1][bucket]++
		}
	}
	now.advance(experiment.CountPeriod)
	o.sendNow(t)
	got := make(map[key]*experiment.Outcomes)
	for _, one := range s.stored {
		got[key{one.Step, one.Service, one.Arm}] = &one
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) != 8 || len(s.sizes) != 1 {
		t.Errorf("%d of %d in %d requests: %s", len(got), len(want), len(s.sizes), diff)
	}
}

// TestAPeriodOfManyExperimentsIsSplitBetweenThem: each request is small enough for a function, and has all of an experiment's
// counts or none.
func TestAPeriodOfManyExperimentsIsSplitBetweenThem(t *testing.T) {
	t.Parallel()
	s := newSink(t, "", "cut, and stored")
	o, now, _ := newTestOutcomes(t, s.url)
	largest := func(r *experiment.Rules) { r.Bounds = []experiment.Duration{1} }
	const experiments, services, steps, each = 3, 20, 2, 3200
	for e := range experiments {
		for n := range services * steps * 2 {
			likes := experimentAt(fmt.Sprintf("%s-%d", strings.Repeat("e", 28), e), fmt.Sprintf("%s-%02d", strings.Repeat("s", 20), n%services), largest)
			likes.Step = 10 + n/services%steps
			for unit := range each {
				o.count(likes, outcome{experiment.Arms[n/services/steps], fmt.Sprint(unit), true, time.Minute, false})
			}
		}
	}
	now.advance(experiment.CountPeriod)
	o.sendNow(t)
	o.sendNow(t)
	if diff := cmp.Diff([]int{80, 80, 80, 80}, s.sizes); diff != "" { // the second is sent again
		t.Errorf("counts per request: %s", diff)
	}
	for _, n := range s.bytes {
		if n > 60<<10 {
			t.Errorf("a request of %d bytes", n)
		}
	}
	t.Logf("%v bytes", s.bytes)
	total := int64(0)
	for _, sums := range s.sums() {
		total += sums[0]
	}
	if total != experiments*services*steps*2*each {
		t.Errorf("%d requests are stored", total)
	}
}

// TestCountingAllocatesOnlyForTheFirstAnswerOfAPeriod is important because every request is counted.
func TestCountingAllocatesOnlyForTheFirstAnswerOfAPeriod(t *testing.T) { //nolint:paralleltest // it counts what all allocate
	o, _, _ := newTestOutcomes(t, "http://nobody.example")
	likes := experimentAt("likes", "like", func(r *experiment.Rules) { r.Bounds = []experiment.Duration{1} })
	a := outcome{experiment.Treatment, "gophers", true, time.Second, false}
	o.count(likes, a)
	if n := testing.AllocsPerRun(100, func() { o.count(likes, a) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
}

// BenchmarkCount measures what counting costs each request of an arm, after its answer.
func BenchmarkCount(b *testing.B) {
	o, _, _ := newTestOutcomes(b, "http://nobody.example")
	likes := experimentAt("likes", "like", func(r *experiment.Rules) { r.Bounds = []experiment.Duration{experiment.Duration(time.Second)} })
	b.ReportAllocs()
	for b.Loop() {
		o.count(likes, outcome{experiment.Treatment, "gophers", false, time.Millisecond, false})
	}
}

// BenchmarkPost reports how many bytes an edge posts every 10 s for four experiments on two Services each, at 200 requests/s.
func BenchmarkPost(b *testing.B) {
	s := newSink(b)
	o, now, _ := newTestOutcomes(b, s.url)
	bound := func(r *experiment.Rules) {
		r.Bounds = []experiment.Duration{experiment.Duration(100 * time.Millisecond)}
	}
	for b.Loop() {
		for n := range 2000 {
			at := experimentAt(fmt.Sprint("experiment-", n%4), []string{"timeline", "tweet"}[n/4%2], bound)
			o.count(at, outcome{experiment.Arms[n/8%2], fmt.Sprint("user-", n), n%100 == 0, time.Duration(n%50) * 3 * time.Millisecond, false})
		}
		now.advance(experiment.CountPeriod)
		o.sendNow(b)
	}
	b.ReportMetric(float64(s.bytes[0]), "bytes")
}

// TestAPeriodIsSentOnceItHasClosed and not earlier.
func TestAPeriodIsSentOnceItHasClosed(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	o, now, _ := newTestOutcomes(t, s.url)
	now.at.Store(noon.Truncate(experiment.CountPeriod).UnixNano())
	likes := experimentAt("likes", "like", nil)
	o.count(likes, outcome{arm: experiment.Control, unit: "1"})
	now.advance(experiment.CountPeriod - time.Millisecond)
	o.sendNow(t)
	if got := s.sums(); len(got) != 0 {
		t.Errorf("sent before its end: %v", got)
	}
	now.advance(time.Millisecond)
	o.count(likes, outcome{arm: experiment.Control, unit: "1", failed: true}) // the next period's
	o.sendNow(t)
	o.sendNow(t)
	if diff := cmp.Diff(map[string][2]int64{"likes control": {1, 0}}, s.sums()); diff != "" || len(s.sizes) != 1 {
		t.Errorf("in %d requests: %s", len(s.sizes), diff)
	}
}

// TestOutcomesThatCannotBeStoredAreKeptForAnHour also checks that this is logged once, and that periods are then sent one start at
// a time.
func TestOutcomesThatCannotBeStoredAreKeptForAnHour(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	o, now, log, m := newMeasuredOutcomes(t, "http://"+refusingAddress(t))
	likes := experimentAt("likes", "like", nil)
	for range 400 { // past an hour, which has 359 whole periods
		o.count(likes, outcome{arm: experiment.Control, unit: "1"})
		o.count(likes, outcome{arm: experiment.Treatment, unit: "2"})
		now.advance(experiment.CountPeriod)
		o.sendNow(t)
	}
	if kept := len(o.pending); kept != 718 {
		t.Errorf("%d periods are kept, want an hour's 718", kept)
	}
	if said := log.count("outcomes could not be stored: they are kept"); said != 1 {
		t.Errorf("said %d times", said)
	}
	if !strings.Contains(scrape(t, m), "\nwarble_experiment_outcomes_lost_total 82\n") || log.count("the oldest are lost") != 1 {
		t.Errorf("82 periods are not said to be lost: %s", log)
	}
	o.url = s.url
	o.sendNow(t)
	if diff := cmp.Diff(slices.Repeat([]int{2}, 359), s.sizes); diff != "" || log.count("outcomes are stored again") != 1 {
		t.Errorf("%s; %s", diff, log)
	}
}

func TestRefusedOutcomesAreNotSentAgain(t *testing.T) {
	t.Parallel()
	s := newSink(t, "400", "404")
	o, now, log := newTestOutcomes(t, s.url)
	likes := experimentAt("likes", "like", nil)
	for range 3 {
		o.count(likes, outcome{arm: experiment.Control, unit: "1"})
		now.advance(experiment.CountPeriod)
		o.sendNow(t)
	}
	if diff := cmp.Diff(map[string][2]int64{"likes control": {1, 0}}, s.sums()); diff != "" || len(o.pending) != 0 {
		t.Errorf("%d are pending; %s", len(o.pending), diff)
	}
	if log.count("steer refused outcomes: they are lost") != 2 || log.count(`400 Bad Request`) != 1 {
		t.Errorf("the log does not say so: %s", log)
	}
}

func TestNothingIsCountedWithoutASteerURL(t *testing.T) {
	t.Parallel()
	o, _, log := newTestOutcomes(t, "")
	o.count(experimentAt("likes", "like", nil), outcome{arm: experiment.Control, unit: "1", failed: true})
	o.sendNow(t)
	o.Close()
	if len(o.counts) != 0 || log.String() != "" {
		t.Errorf("%v; %s", o.counts, log)
	}
}

func TestAWrongSteerURLIsRejected(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{"": true, "http://steer.warble.svc.cluster.local": true, "http://steer.warble.svc.cluster.local/outcomes": false, "steer": false, "ftp://steer": false, "http://": false, "http://%zz": false} {
		e := env.New(func(name string) (string, bool) { return url, name == "STEER_URL" })
		if got, _ := steerFromEnv(e); got != url || (e.Err() == nil) != good || !good && !strings.Contains(e.Err().Error(), "STEER_URL is") {
			t.Errorf("%q: %q, %v", url, got, e.Err())
		}
	}
}

// TestASuspensionIsSentImmediately, without a closed period. If it cannot be stored, the latest report is sent again.
func TestASuspensionIsSentImmediately(t *testing.T) {
	t.Parallel()
	s := newSink(t, "500")
	o, _, _ := newTestOutcomes(t, s.url)
	seen := experiment.Suspension{Experiment: "likes", Start: noon, Users: 9, Answers: 11, Errors: 10}
	o.suspend(seen)
	o.sendNow(t)
	seen.Untouched, seen.Fault = 8, experiment.FaultTreatment
	o.suspend(seen)
	o.sendNow(t)
	o.sendNow(t)
	if diff := cmp.Diff([]experiment.Suspension{seen}, s.suspended()); diff != "" {
		t.Error(diff)
	}
}
