package clocktest

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestDelaysOfTheMachineAreNotCounted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sleep func(time.Duration)
		want  time.Duration
	}{
		"in time":          {time.Sleep, 3 * time.Second},
		"three times late": {func(d time.Duration) { time.Sleep(3 * d) }, time.Second},
		"late for good":    {func(time.Duration) { time.Sleep(time.Minute) }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			got := took(func() { time.Sleep(3 * time.Second) }, tt.sleep)
			if got.Round(10*time.Millisecond) != tt.want { // the last tick may go past the end
				t.Errorf("%s: %s, want %s", name, got, tt.want)
			}
		})
	}
}

// TestATestThatEndsItselfEndsTheProbe: synctest would find it running for ever.
func TestATestThatEndsItselfEndsTheProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		go Took(runtime.Goexit) // as t.Fatal does
		synctest.Wait()
	})
}
