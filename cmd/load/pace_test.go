package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// every returns intents at a steady pace, beginning at 0.
func every(interval time.Duration) func() intent {
	at := -interval
	return func() intent {
		at += interval
		return intent{at: at}
	}
}

func TestPaceStartsIntentsWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var started, due []time.Duration
		pace(t.Context(), every(time.Second), begin, 5*time.Second, func(i intent, at time.Time) {
			started, due = append(started, time.Since(begin)), append(due, at.Sub(begin))
			if i.at == time.Second {
				time.Sleep(2500 * time.Millisecond) // as on a machine that is busy with something else
			}
		})
		s := time.Second
		if diff := cmp.Diff([]time.Duration{0, s, 3500 * time.Millisecond, 3500 * time.Millisecond, 4 * s}, started); diff != "" {
			t.Error("started:", diff)
		}
		if diff := cmp.Diff([]time.Duration{0, s, 2 * s, 3 * s, 4 * s}, due); diff != "" {
			t.Error("due:", diff)
		}
		if took := time.Since(begin); took != 5*s {
			t.Errorf("it took %s", took)
		}
	})
}

func TestPaceEndsWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		begin, started := time.Now(), 0
		pace(ctx, every(time.Second), begin, time.Minute, func(intent, time.Time) { started++ })
		if took := time.Since(begin); took != 2500*time.Millisecond || started != 3 {
			t.Errorf("%d started in %s", started, took)
		}
	})
}
