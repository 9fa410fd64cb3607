package readout

import (
	"context"

	"warble/shared/stats"
)

// Reports are those of each look at an experiment that is drawn from a world.
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

// Detectable is the effect that a plan says a sequence of users finds.
var Detectable = detectable

// Found is the relative effect that a plan says a permutation test finds with a power, of so many units in each arm that are as
// some of the past.
func Found(past []stats.Unit, perArm int, alpha, power float64) (float64, error) {
	s := simulatedPower{method: Permutation, alpha: alpha, power: power, units: past, perStep: []int{perArm}}
	return s.detectable()
}
