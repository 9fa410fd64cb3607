package main

import (
	"encoding/json"
	"fmt"
	"net/http"
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

// sink stores outcomes as steer does: a window that comes again is the same, with the greater counts.
type sink struct {
	url string

	mu      sync.Mutex
	stored  map[string]experiment.Outcomes // by pod and window
	answers []string                       // of the next requests: see ServeHTTP. After them all is well
	sizes   []int                          // windows per request
	tripped []experiment.Suspension
}

func newSink(t testing.TB, answers ...string) *sink {
	t.Helper()
	s := &sink{stored: make(map[string]experiment.Outcomes), answers: answers}
	s.url, _ = behind(t, function.Routes{"POST /outcomes": s})
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var sent counted
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sent); err != nil || sent.Pod == "" || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	if client := function.Client(r.Context()).String(); client != "0.0.0.0" { // which only a good signature makes it
		http.Error(w, "signed by "+client, http.StatusForbidden)
		return
	}
	s.mu.Lock()
	answer := ""
	if len(s.answers) > 0 {
		answer, s.answers = s.answers[0], s.answers[1:]
	}
	if strings.HasSuffix(answer, "stored") || answer == "" {
		s.sizes = append(s.sizes, len(sent.Windows))
		s.tripped = append(s.tripped, sent.Suspensions...)
		for _, o := range sent.Windows {
			key := fmt.Sprint(sent.Pod, o.Experiment, o.Arm, o.Start)
			if before := s.stored[key]; o.Requests < before.Requests || o.Errors < before.Errors {
				o = before
			}
			s.stored[key] = o
		}
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

// suspended is what tripwires have seen, as it was stored.
func (s *sink) suspended() []experiment.Suspension {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tripped
}

// sums are requests and errors by experiment and arm.
func (s *sink) sums() map[string][2]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string][2]int64)
	for _, o := range s.stored {
		key := o.Experiment + " " + string(o.Arm)
		all[key] = [2]int64{all[key][0] + o.Requests, all[key][1] + o.Errors}
	}
	return all
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

// TestOutcomesAreNeitherLostNorDoubled, whatever becomes of a request that carries them, while more are counted and the
// clock goes on, and once back.
func TestOutcomesAreNeitherLostNorDoubled(t *testing.T) {
	t.Parallel()
	s := newSink(t, "cut", "500", "hang", "503", "cut, and stored", "429", "408", "hang, and stored", "500, and stored")
	o, now, _ := newTestOutcomes(t, s.url)
	o.client.Timeout = 200 * time.Millisecond
	const counters, each = 4, 1000
	var counting sync.WaitGroup
	for i := range counters {
		counting.Go(func() {
			for n := range each {
				o.count("likes", []experiment.Arm{experiment.Control, experiment.Treatment}[i%2], n%10 == 0)
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
	now.advance(experiment.Window)
	eventually(t, "the end of the sink's troubles", func() bool {
		o.sendNow(t)
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.answers) == 0
	})
	o.client.Timeout = time.Minute // for what a busy machine has taken too long for
	o.sendNow(t)
	o.Close()
	want := map[string][2]int64{"likes control": {2 * each, 2 * each / 10}, "likes treatment": {2 * each, 2 * each / 10}}
	if diff := cmp.Diff(want, s.sums()); diff != "" {
		t.Error(diff)
	}
	for _, w := range s.stored {
		if w.Start.Location() != time.UTC || !w.Start.Equal(w.Start.Truncate(experiment.Window)) {
			t.Errorf("a window begins at %s", w.Start)
		}
	}
}

// TestAWindowIsSentOnceItHasClosed, and not before.
func TestAWindowIsSentOnceItHasClosed(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	o, now, _ := newTestOutcomes(t, s.url)
	now.at.Store(noon.Truncate(experiment.Window).UnixNano())
	o.count("likes", experiment.Control, false)
	now.advance(experiment.Window - time.Millisecond)
	o.sendNow(t)
	if got := s.sums(); len(got) != 0 {
		t.Errorf("sent before its end: %v", got)
	}
	now.advance(time.Millisecond)
	o.count("likes", experiment.Control, true) // the next window's
	o.sendNow(t)
	o.sendNow(t)
	if diff := cmp.Diff(map[string][2]int64{"likes control": {1, 0}}, s.sums()); diff != "" || len(s.sizes) != 1 {
		t.Errorf("in %d requests: %s", len(s.sizes), diff)
	}
}

// TestWhatNobodyStoresIsKeptForAnHour, said once, and sent in requests that a function can read.
func TestWhatNobodyStoresIsKeptForAnHour(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	o, now, log, m := newMeasuredOutcomes(t, "http://"+refusing(t))
	for range 400 { // past an hour, which has 359 whole windows
		o.count("likes", experiment.Control, false)
		o.count("likes", experiment.Treatment, false)
		now.advance(experiment.Window)
		o.sendNow(t)
	}
	if kept := len(o.pending); kept != 718 {
		t.Errorf("%d windows are kept, want an hour's 718", kept)
	}
	if said := log.count("outcomes are not stored: they are kept"); said != 1 {
		t.Errorf("said %d times", said)
	}
	if !strings.Contains(scrape(t, m), "\nwarble_experiment_outcomes_lost_total 82\n") || log.count("lost from the oldest on") != 1 {
		t.Errorf("82 windows are not said to be lost: %s", log)
	}
	o.url = s.url
	o.sendNow(t)
	if diff := cmp.Diff([]int{200, 200, 200, 118}, s.sizes); diff != "" || log.count("outcomes are stored again") != 1 {
		t.Errorf("%s; %s", diff, log)
	}
}

func TestRefusedOutcomesAreNotSentAgain(t *testing.T) {
	t.Parallel()
	s := newSink(t, "400", "404")
	o, now, log := newTestOutcomes(t, s.url)
	for range 3 {
		o.count("likes", experiment.Control, false)
		now.advance(experiment.Window)
		o.sendNow(t)
	}
	if diff := cmp.Diff(map[string][2]int64{"likes control": {1, 0}}, s.sums()); diff != "" || len(o.pending) != 0 {
		t.Errorf("%d are pending; %s", len(o.pending), diff)
	}
	if log.count("outcomes are refused: these are lost") != 2 || log.count(`400 Bad Request`) != 1 {
		t.Errorf("the log does not say so: %s", log)
	}
}

func TestWithoutAnURLNothingIsCounted(t *testing.T) {
	t.Parallel()
	o, _, log := newTestOutcomes(t, "")
	o.count("likes", experiment.Control, true)
	o.sendNow(t)
	o.Close()
	if len(o.counts) != 0 || log.String() != "" {
		t.Errorf("%v; %s", o.counts, log)
	}
}

func TestSteerURL(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{"": true, "http://steer.warble.svc.cluster.local": true, "http://steer.warble.svc.cluster.local/outcomes": false, "steer": false, "ftp://steer": false, "http://": false, "http://%zz": false} {
		e := env.New(func(name string) (string, bool) { return url, name == "STEER_URL" })
		if got, _ := steerFromEnv(e); got != url || (e.Err() == nil) != good || !good && !strings.Contains(e.Err().Error(), "STEER_URL is") {
			t.Errorf("%q: %q, %v", url, got, e.Err())
		}
	}
}

// TestASuspensionIsSentAtOnce, without a window that has closed, and again where nobody has stored it, as it was last said.
func TestASuspensionIsSentAtOnce(t *testing.T) {
	t.Parallel()
	s := newSink(t, "500")
	o, _, _ := newTestOutcomes(t, s.url)
	seen := experiment.Suspension{Experiment: "likes", Start: noon, Users: 9, Answers: 11, Errors: 10}
	o.suspend(seen)
	o.sendNow(t)
	seen.Untouched, seen.Verdict = 8, experiment.FaultTreatment
	o.suspend(seen)
	o.sendNow(t)
	o.sendNow(t)
	if diff := cmp.Diff([]experiment.Suspension{seen}, s.suspended()); diff != "" {
		t.Error(diff)
	}
}
