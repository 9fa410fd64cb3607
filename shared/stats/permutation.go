package stats

import (
	"math"
	"slices"
)

// Unit is a randomised unit in a permutation test.
type Unit struct {
	Stratum   int     // labels were drawn within strata: the ramp's step at the unit's entry
	Treatment bool    // its label
	Sum       float64 // sum of its members' values, in the unit of the metric
	Size      float64 // number of members who have a value, 1 to a billion; 1 if the unit is a user
}

// Permutation is the result of a permutation test of the difference.
type Permutation struct {
	Difference   float64  // sum/size of the treatment minus sum/size of the control
	P            float64  // two-sided, of "no unit's value depends on its label"
	Interval     Interval // 1 - alpha, of an effect that is added to each member's value
	Arrangements int      // number of arrangements of labels that were compared, including the real one
	Exact        bool     // whether all arrangements were compared; otherwise they were drawn at random
}

// Permute is a permutation test for small numbers of users. It exchanges labels within strata, because they were drawn within
// strata, and compares the difference d of the arms' ratios sum/size with the difference of every other arrangement. If there
// are at most PermutationExact arrangements, all are compared. If there are more, the real one is compared with
// PermutationDraws that are drawn from seed, or fewer if more than 500 units are treated. The same units and seed give the
// same result, for any order of units.
// P = 2 min(share with a difference >= d, share <= d), at most 1.
//
// The interval inverts the test: it has the effects delta that are not rejected at alpha if delta is subtracted from each
// treated member. This changes an arrangement's difference a to a - b delta, where b is the share of really treated members
// in its treatment minus that in its control. a - b delta >= d - delta holds from delta = (d - a)/(1 - b) on, so the bounds
// are order statistics of these values. A side is infinite if there are too few arrangements to reject anything. The only
// assumption is that labels were drawn at random within strata. For units that differ in size, such as communities, use
// PermuteLift.
// Source: Fisher, "The Design of Experiments", 1935; Ernst, "Permutation Methods", Statistical Science 19, 2004;
// Phipson, Smyth, "Permutation P-values Should Never Be Zero", 2010.
// Errors: ErrTooFew if an arm has no unit; ErrNoVariance if units do not differ.
func Permute(units []Unit, alpha float64, seed uint64) (Permutation, error) {
	if err := checkAlpha(alpha); err != nil {
		return Permutation{}, err
	}
	labelled, err := labelUnits(units, func(u Unit) float64 { return u.Size })
	if err != nil {
		return Permutation{}, err
	}
	test := newInversion(units, labelled)
	labelled.arrange(drawsFor(labelled.treated), seed, test.add)
	if err := test.check(len(units)); err != nil {
		return Permutation{}, err
	}
	return Permutation{
		Difference: test.difference, P: test.p(), Interval: test.interval(alpha), Arrangements: test.n, Exact: labelled.exact(),
	}, nil
}

// inversion compares arrangements with the real one, for all added effects together.
type inversion struct {
	tally
	total      sums
	difference float64 // of the real arrangement
	tolerance  float64 // a billionth of the mean absolute value of a member
	thresholds []float64
}

func newInversion(units []Unit, l labelled) *inversion {
	var absolute float64
	for _, u := range units {
		absolute += math.Abs(u.Sum)
	}
	v := &inversion{total: l.total, tolerance: 1e-9 * absolute / l.total.size}
	v.difference, _ = v.compare(l.real)
	return v
}

// compare returns the difference of the arms if these units are the treatment. labels is the share of really treated
// members in the treatment minus their share in the control: an added effect changes the difference by labels times it.
func (v *inversion) compare(treatment sums) (difference, labels float64) {
	control := v.total.minus(treatment)
	return treatment.sum/treatment.size - control.sum/control.size, treatment.treated/treatment.size - control.treated/control.size
}

func (v *inversion) add(treatment sums) {
	difference, labels := v.compare(treatment)
	excess := difference - v.difference
	v.count(excess, v.tolerance)
	if 1-labels < 1e-12 {
		v.same++
		return
	}
	if math.Abs(excess) <= v.tolerance {
		excess = 0 // exactly, so that a bound of no effect is not mistaken for an effect
	}
	v.thresholds = append(v.thresholds, -excess/(1-labels))
}

// interval returns the effects at which p exceeds alpha. The lower bound is the smallest of them: more than alpha/2 of the
// arrangements have a threshold up to it. The upper bound is found in the same way from above.
func (v *inversion) interval(alpha float64) Interval {
	needed := v.needed(alpha) - v.same
	if needed < 1 {
		return Interval{math.Inf(-1), math.Inf(1)}
	}
	slices.Sort(v.thresholds)
	return Interval{v.thresholds[needed-1], v.thresholds[len(v.thresholds)-needed]}
}
