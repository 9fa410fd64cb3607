package readout

import (
	"math"
	"math/rand/v2"
	"slices"

	"warble/shared/stats"
)

const (
	// simulatedPlans is the number of experiments that a plan simulates. With it, a power of .8 has a standard error of
	// .02.
	simulatedPlans = 400
	// simulatedDraws is the number of arrangements per experiment. A readout draws more.
	simulatedDraws = 499
)

// simulatedPower draws experiments without an effect from the existing units, and finds which effect each would have shown.
type simulatedPower struct {
	method       string
	alpha, power float64
	units        []stats.Unit
	perStep      []int // units per arm that enter at each step
}

func (s *simulatedPower) strata() (perStep [][2]int) {
	for _, n := range s.perStep {
		perStep = append(perStep, [2]int{n, n})
	}
	return perStep
}

// detectable returns the relative effect that the method finds with the wanted power; infinite if it finds no effect with
// that power. An effect multiplies what each treated unit does, and therefore multiplies 1 plus the lower bound of the lift
// by the same factor. So the interval of a simulated experiment without an effect shows how large an effect must be for this
// experiment to win.
func (s *simulatedPower) detectable() (float64, error) {
	found := make([]float64, 0, simulatedPlans)
	for i := range simulatedPlans {
		random := rand.New(rand.NewPCG(uint64(i), 1))    //nolint:gosec // never negative
		lower, err := s.lower(s.draw(random), uint64(i)) //nolint:gosec // never negative
		if err != nil && !tooLittleData(err) {
			return 0, err
		}
		effect := math.Inf(1)
		if err == nil && lower > -1 {
			effect = 1/(1+lower) - 1
		}
		found = append(found, effect)
	}
	slices.Sort(found)
	return found[int(math.Ceil(s.power*float64(len(found))))-1], nil
}

// draw assigns units to arms at random. If there are too few units, some are drawn twice.
func (s *simulatedPower) draw(random *rand.Rand) (units []stats.Unit) {
	order := random.Perm(len(s.units))
	next := 0
	for step, n := range s.perStep {
		for i := range 2 * n {
			u := s.units[order[next%len(order)]]
			if next++; next%len(order) == 0 {
				random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
			u.Stratum, u.Treatment = step, i%2 == 1
			units = append(units, u)
		}
	}
	return units
}

// lower returns the lower bound of the lift.
func (s *simulatedPower) lower(units []stats.Unit, seed uint64) (float64, error) {
	if s.method == Permutation {
		test, err := stats.PermuteLiftDraws(units, s.alpha, seed, simulatedDraws)
		return test.Interval.Lower, err
	}
	var arms [2][]stats.Cluster
	for _, u := range units {
		arm := 0
		if u.Treatment {
			arm = 1
		}
		arms[arm] = append(arms[arm], stats.Cluster{Sum: u.Sum, Size: u.Size})
	}
	ratio, err := stats.JackknifeLogRatio(arms[0], arms[1])
	if err != nil {
		return 0, err
	}
	i, err := stats.Sequence{Planned: int64(len(units)), Alpha: s.alpha}.Interval(ratio)
	return i.Expm1().Lower, err
}
