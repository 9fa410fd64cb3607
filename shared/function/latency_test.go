package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
)

// recorder receives the latencies.
type recorder struct {
	mu    sync.Mutex
	fails bool
	pods  map[string]struct{}
	kept  map[string][]int64 // by start and service, as the database keeps them
}

func (r *recorder) record(_ context.Context, pod string, periods []experiment.Latencies) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails {
		return errors.New("no database")
	}
	if r.kept == nil {
		r.kept, r.pods = make(map[string][]int64), make(map[string]struct{})
	}
	r.pods[pod] = struct{}{}
	for _, w := range periods {
		r.kept[fmt.Sprintf("%s %s %s %s", w.Experiment, w.Arm, w.Service, w.Start.Format(time.TimeOnly))] = w.Counts
	}
	return nil
}

// counts are the buckets that hold something, by the bound they end at.
func (r *recorder) counts() map[string]string {
	found := make(map[string]string)
	for key, buckets := range r.kept {
		var text []string
		for i, n := range buckets {
			if n > 0 {
				bound := "more"
				if i < len(experiment.LatencyBounds) {
					bound = fmt.Sprint(experiment.LatencyBounds[i])
				}
				text = append(text, fmt.Sprintf("%s:%d", bound, n))
			}
		}
		found[key] = strings.Join(text, " ")
	}
	return found
}

func ofArm(t testing.TB) (*latencies, *recorder) {
	t.Helper()
	var r recorder
	f := NewTest(io.Discard, "WARBLE_EXPERIMENT=likes", "WARBLE_ARM=control")
	f.RecordLatencies(r.record)
	return f.latencies, &r
}

func TestLatenciesAreCountedByPeriod(t *testing.T) {
	t.Parallel()
	l, r := ofArm(t)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	flush := func() {
		t.Helper()
		if err := l.flush(t.Context()); (err != nil) != r.fails {
			t.Error(err)
		}
	}
	flush() // of nothing
	if r.kept != nil {
		t.Error("nothing was recorded")
	}
	l.observe(at, 250*time.Millisecond) // a bucket has its upper end
	l.observe(at.Add(5*time.Second), 250*time.Millisecond+1)
	flush() // in the middle of a period
	l.observe(at.Add(9999*time.Millisecond), 0)
	l.observe(at.Add(10*time.Second), time.Minute)
	l.observe(at.Add(9*time.Second), time.Millisecond) // the clock was set back
	r.fails = true
	flush()
	l.observe(at.Add(20*time.Second), 2*time.Millisecond)
	flush()
	r.fails = false
	flush()
	want := map[string]string{
		"likes control test 12:00:00": "1:1 250:1 300:1",
		"likes control test 12:00:10": "1:1 more:1",
		"likes control test 12:00:20": "2:1",
	}
	if diff := cmp.Diff(want, r.counts()); diff != "" {
		t.Error(diff)
	}
	if len(l.periods) != 1 || len(r.pods) != 1 {
		t.Errorf("%d periods are kept that are over, of %d pods", len(l.periods)-1, len(r.pods))
	}
	clear(r.kept)
	flush()
	if len(r.kept) > 0 {
		t.Errorf("recorded again: %v", r.counts())
	}
	if other, _ := ofArm(t); other.pod == l.pod {
		t.Error("two processes count as one")
	}
}

func TestLatenciesOlderThanAnHourAreDropped(t *testing.T) {
	t.Parallel()
	l, r := ofArm(t)
	r.fails = true
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i := range maxPeriods + 2 {
		l.observe(at.Add(time.Duration(i)*experiment.CountPeriod), time.Millisecond)
	}
	if err := l.flush(t.Context()); err == nil || !strings.Contains(err.Error(), "dropped 2 count periods that are older than an hour") {
		t.Error(err)
	}
	r.fails = false
	if err := l.flush(t.Context()); err != nil || len(r.kept) != maxPeriods {
		t.Errorf("%d periods are left, want %d; %v", len(r.kept), maxPeriods, err)
	}
}

// Requests are counted and flushed at the same time, and nothing is lost or counted twice.
func TestLatenciesUnderLoad(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 5000
	l, r := ofArm(t)
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	done := make(chan struct{})
	go func() {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for i := range each {
					l.observe(at.Add(time.Duration(i)*10*time.Millisecond), time.Millisecond)
				}
			})
		}
		all.Wait()
		close(done)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if err := l.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	total := int64(0)
	for _, buckets := range r.kept {
		total += buckets[0]
	}
	if total != workers*each {
		t.Errorf("%d of %d requests are recorded", total, workers*each)
	}
}

// BenchmarkLatencies measures the cost of counting a request of an arm.
func BenchmarkLatencies(b *testing.B) {
	l, _ := ofArm(b)
	at := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			l.observe(at, 3*time.Millisecond)
		}
	})
}
