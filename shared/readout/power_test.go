package readout_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"warble/shared/readout"
	"warble/shared/stats"
)

// Experiments have the effect that a plan expects to find with a power of .8. The methods of a report must win .75 to .9 of
// them, within three standard errors. Values are exponential, so their standard deviation equals their mean, and the effect
// multiplies them.
func TestAPlanKeepsItsPower(t *testing.T) {
	t.Parallel()
	const alpha, power, runs = .05, .8, 400
	for _, perArm := range []int{8, 40, 150, 1000, 5000} {
		t.Run(fmt.Sprint(perArm, " units in each arm"), func(t *testing.T) {
			t.Parallel()
			won := winsByPermutation(t, perArm, alpha)
			found := func() (float64, error) {
				return readout.Found(exponential(rand.New(rand.NewPCG(1, 2)), 5000), perArm, alpha, power)
			}
			if perArm >= 100 { // from here on a sequence judges users
				won = winsBySequence(t, perArm, alpha)
				found = func() (float64, error) {
					return readout.Detectable(stats.Design{Alpha: alpha, Power: power, Sequence: true}, 1, int64(perArm))
				}
			}
			effect, err := found()
			if err != nil {
				t.Fatal(err)
			}
			wins := 0
			for run := range runs {
				if won(rand.New(rand.NewPCG(uint64(run), 3)), effect) {
					wins++
				}
			}
			room := 3 * math.Sqrt(power*(1-power)/runs)
			if rate := float64(wins) / runs; rate < .75-room || rate > .9+room {
				t.Errorf("an effect of %+.1f %% is won in %d of %d, want .75 to .9 of them", 100*effect, wins, runs)
			}
		})
	}
}

func exponential(random *rand.Rand, n int) (units []stats.Unit) {
	for range n {
		units = append(units, stats.Unit{Sum: random.ExpFloat64(), Size: 1})
	}
	return units
}

// treated returns units of both arms; the treatment has the effect.
func treated(random *rand.Rand, perArm int, effect float64) []stats.Unit {
	units := exponential(random, 2*perArm)
	for i := range units[:perArm] {
		units[i].Treatment, units[i].Sum = true, (1+effect)*units[i].Sum
	}
	return units
}

// winsByPermutation judges few units by a permutation test.
func winsByPermutation(t *testing.T, perArm int, alpha float64) func(*rand.Rand, float64) bool {
	return func(random *rand.Rand, effect float64) bool {
		test, err := stats.PermuteLiftDraws(treated(random, perArm, effect), alpha, 1, 999)
		if err != nil {
			t.Fatal(err)
		}
		return test.Interval.Lower > 0
	}
}

// winsBySequence judges users by a confidence sequence, at ten looks until the planned end.
func winsBySequence(t *testing.T, perArm int, alpha float64) func(*rand.Rand, float64) bool {
	sequence := stats.Sequence{Planned: int64(2 * perArm), Alpha: alpha}
	return func(random *rand.Rand, effect float64) bool {
		var arms [2]stats.Moments
		for n := range perArm {
			arms[0].Add(random.ExpFloat64())
			arms[1].Add((1 + effect) * random.ExpFloat64())
			if (n+1)%(perArm/10) > 0 || n < 100 {
				continue
			}
			control, errA := arms[0].Mean()
			treatment, errB := arms[1].Mean()
			difference, err := stats.Difference(control, treatment)
			if errA != nil || errB != nil || err != nil {
				t.Fatal(errA, errB, err)
			}
			interval, err := sequence.Interval(difference)
			if err != nil {
				t.Fatal(err)
			}
			if interval.Lower > 0 {
				return true
			}
		}
		return false
	}
}
