package store

import (
	"testing"
	"time"
)

func TestAnIDIsSettledWhenNoEarlierTransactionRuns(t *testing.T) {
	t.Parallel()
	at := time.Unix(0, 0)
	var s settling
	for i, step := range []struct {
		after            time.Duration
		id, xact, oldest int64
		want             int64
	}{
		{0, 10, 100, 100, 10},                      // nothing else runs
		{50 * time.Millisecond, 20, 103, 102, 10},  // 102 runs
		{100 * time.Millisecond, 30, 105, 102, 10}, // still
		{150 * time.Millisecond, 40, 107, 104, 20}, // 102 is over, 104 runs
		{200 * time.Millisecond, 50, 109, 109, 50},
		{250 * time.Millisecond, 60, 111, 110, 50}, // 110 runs on
		{350 * time.Millisecond, 70, 113, 110, 50},
		{2200 * time.Millisecond, 80, 115, 110, 50},
		{2250 * time.Millisecond, 90, 117, 110, 60}, // for 2 s
		{2300 * time.Millisecond, 95, 119, 110, 60},
		{2350 * time.Millisecond, 99, 121, 110, 70},
		{10 * time.Second, 200, 123, 110, 99}, // nobody has read a list for a while
		{13 * time.Second, 210, 9, 9, 210},    // a backup was restored
	} {
		s.add(note{step.id, step.xact, at.Add(step.after)}, step.oldest)
		if s.id != step.want {
			t.Errorf("step %d: %d is settled, want %d", i, s.id, step.want)
		}
	}
	if len(s.notes) != 0 {
		t.Errorf("%d notes are left", len(s.notes))
	}
}
