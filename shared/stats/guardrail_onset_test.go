package stats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"warble/shared/stats"
	"warble/shared/stats/statsworld"
)

// TestALateHarmIsToldSoon: a harm that begins within a step is told within so many windows in 9 of 10 runs. -v prints how
// soon, and in how many runs before the end of a step of 5, 10, 20, 30 minutes.
func TestALateHarmIsToldSoon(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		points, requests float64 // requests of both arms, in a window
		tests            int
		onsets           []int
		within           int
	}{
		{30, 340, 1, []int{0}, 15},
		{30, 340, 1, []int{6, 9}, 42},
		{30, 340, 1, []int{30, 33, 60, 180, 360}, 15},
		{30, 340, 15, []int{9}, 75},
		{30, 340, 15, []int{33, 60, 360}, 18},
		{99, 340, 15, []int{6, 9, 33, 60, 360}, 15},
		{5, 2000, 1, []int{33, 60, 360}, 45},
	} {
		for _, onset := range c.onsets {
			t.Run(fmt.Sprintf("%v points of %v requests, one of %d tests, after %d windows", c.points, c.requests, c.tests, onset), func(t *testing.T) {
				w := statsworld.Independent(c.requests).Late(c.points/100, onset)
				test := stats.HarmTest{Margin: margin, Alpha: .05, Of: c.tests}
				var delays []int
				for run := range *judged {
					delays = append(delays, delay(t, w, test, rand.New(rand.NewPCG(uint64(1000*i+onset), uint64(run)))))
				}
				slices.Sort(delays)
				t.Logf("told after %d windows (median), %d (90 %%); before the end of a step of 5, 10, 20, 30 min: %.0f, %.0f, %.0f, %.0f %%",
					delays[len(delays)/2], delays[len(delays)*9/10], before(delays, 30-onset), before(delays, 60-onset), before(delays, 120-onset), before(delays, 180-onset))
				g := guarded{runs: len(delays)}
				for _, d := range delays {
					if d > c.within {
						g.passed++
					}
				}
				g.atMost(t, fmt.Sprintf("not told within %d windows", c.within), g.passed, .1)
			})
		}
	}
}

// before is how many of a hundred delays are of so many windows at most.
func before(delays []int, windows int) float64 {
	n, _ := slices.BinarySearch(delays, windows+1)
	return 100 * float64(n) / float64(len(delays))
}

// delay is after how many windows a harm is told, at a look after each; 180 for later or never.
func delay(t *testing.T, w statsworld.World, test stats.HarmTest, random *rand.Rand) int {
	t.Helper()
	s := w.Start(random)
	for range w.From {
		s.Next()
	}
	for n := 1; n < 180; n++ {
		s.Next()
		r, err := test.Judge(s.Traffic())
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict == stats.Breach {
			return n
		}
	}
	return 180
}
