package stats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"warble/shared/stats"
	"warble/shared/stats/statsworld"
)

// A harm that begins within a step is detected within the given number of periods in 9 of 10 runs. -v prints how soon, and in how
// many runs this is before the end of a step of 5, 10, 20, 30 minutes.
func TestALateHarmIsDetectedSoon(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		points, requests float64 // requests of both arms, in a period
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
			t.Run(fmt.Sprintf("%v points of %v requests, one of %d tests, after %d periods", c.points, c.requests, c.tests, onset), func(t *testing.T) {
				w := statsworld.Independent(c.requests).Late(c.points/100, onset)
				test := stats.HarmTest{Margin: margin, Alpha: .05, Tests: c.tests}
				var delays []int
				for run := range *judged {
					delays = append(delays, periodsUntilBreach(t, w, test, rand.New(rand.NewPCG(uint64(1000*i+onset), uint64(run)))))
				}
				slices.Sort(delays)
				t.Logf("detected after %d periods (median), %d (90 %%); before the end of a step of 5, 10, 20, 30 min: %.0f, %.0f, %.0f, %.0f %%",
					delays[len(delays)/2], delays[len(delays)*9/10], percentWithin(delays, 30-onset), percentWithin(delays, 60-onset), percentWithin(delays, 120-onset), percentWithin(delays, 180-onset))
				late := 0
				for _, d := range delays {
					if d > c.within {
						late++
					}
				}
				outcomes{runs: len(delays)}.atMost(t, fmt.Sprintf("not detected within %d periods", c.within), late, .1)
			})
		}
	}
}

// percentWithin returns how many of a hundred delays are of at most this many periods. delays must be sorted.
func percentWithin(delays []int, periods int) float64 {
	n, _ := slices.BinarySearch(delays, periods+1)
	return 100 * float64(n) / float64(len(delays))
}

// periodsUntilBreach returns how many periods after its onset a harm is detected, with a look after each; 180 if later or never.
func periodsUntilBreach(t *testing.T, w statsworld.World, test stats.HarmTest, random *rand.Rand) int {
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
		if r.Finding == stats.Breach {
			return n
		}
	}
	return 180
}
