package readout

import (
	"context"

	"warble/shared/stats"
)

// Reports returns the report of each look at an experiment that is drawn from a world.
func Reports(ctx context.Context, w World, seed uint64) (all []Report, err error) {
	s := w.simulate(seed)
	for _, at := range s.looks() {
		r, err := w.look(ctx, s, at, false)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Detectable is the effect that a plan expects a sequence of users to find.
var Detectable = detectable

// Found is the relative effect that a plan expects a permutation test to find with a power. It assumes perArm units in each
// arm that are like those of the past.
func Found(past []stats.Unit, perArm int, alpha, power float64) (float64, error) {
	s := simulatedPower{method: Permutation, alpha: alpha, power: power, units: past, perStep: []int{perArm}}
	return s.detectable()
}
