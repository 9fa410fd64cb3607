package stats

import (
	"math"
	"slices"
)

// Unit is a randomised unit as a permutation test sees it.
type Unit struct {
	Stratum   int     // within which labels were drawn: the ramp's step at its entry
	Treatment bool    // its label
	Sum       float64 // what its members did, in the unit of the metric
	Size      float64 // its members who have a value, 1 to a billion; 1 if the unit is a single one
}

// Permutation is the outcome of a permutation test of the difference.
type Permutation struct {
	Difference   float64  // sum/size of the treatment minus that of the control
	P            float64  // two-sided, of "no unit's value depends on its label"
	Interval     Interval // 1 - alpha, of an effect added to each member
	Arrangements int      // of labels that were compared, the real one included
	Exact        bool     // they are all there are; else they were drawn
}

// Permute tests the labels of few single units by what else they might have been: labels are exchanged within strata,
// as they were drawn, and the difference d of the arms' ratios sum/size is compared with that of every other
// arrangement (all of them up to PermutationExact, else PermutationDraws from seed, fewer from 500 treated units on; the
// same units and seed give the same answer, in any order). P = 2 min(share with a difference >= d, share <= d), at most
// 1; of drawn arrangements the real one is one.
//
// The interval inverts the test: the effects delta that are not refused at alpha when delta is taken from each treated
// member. For an arrangement with difference a, and b of it due to the labels alone, a - b delta >= d - delta from
// delta = (d - a)/(1 - b) on, so the bounds are order statistics of these. A side is infinite if too few arrangements
// exist to refuse anything. It assumes no more than that labels were drawn at random within strata.
// Units that differ in size, such as communities, are judged by PermuteLift.
// Source: Fisher, "The Design of Experiments", 1935; Ernst, "Permutation Methods", Statistical Science 19, 2004;
// Phipson, Smyth, "Permutation P-values Should Never Be Zero", 2010.
// Errors: ErrTooFew if an arm has no unit; ErrNoVariance if units do not differ.
func Permute(units []Unit, alpha float64, seed uint64) (Permutation, error) {
	if err := checkAlpha(alpha); err != nil {
		return Permutation{}, err
	}
	labelled, err := label(units, func(u Unit) float64 { return u.Size })
	if err != nil {
		return Permutation{}, err
	}
	test := newInversion(units, labelled)
	labelled.arrange(draws(labelled.treated), seed, test.add)
	if err := test.check(len(units)); err != nil {
		return Permutation{}, err
	}
	return Permutation{
		Difference: test.difference, P: test.p(), Interval: test.interval(alpha), Arrangements: test.n, Exact: labelled.exact(),
	}, nil
}

// inversion compares arrangements with the real one, for every added effect at once.
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

// compare returns the difference of the arms if part of all units is the treatment, and how much of it is the labels'
// own: the share of really treated members in one arm minus that in the other.
func (v *inversion) compare(part sums) (difference, labels float64) {
	rest := v.total.minus(part)
	return part.sum/part.size - rest.sum/rest.size, part.treated/part.size - rest.treated/rest.size
}

func (v *inversion) add(part sums) {
	difference, labels := v.compare(part)
	excess := difference - v.difference
	v.count(excess, v.tolerance)
	if 1-labels < 1e-12 {
		v.same++
		return
	}
	if math.Abs(excess) <= v.tolerance {
		excess = 0 // to the last bit, or a bound that is no effect would pass for one
	}
	v.thresholds = append(v.thresholds, -excess/(1-labels))
}

// interval has as its lower bound the smallest effect that more than alpha/2 of the arrangements support, which is
// where p comes to exceed alpha; and likewise from above.
func (v *inversion) interval(alpha float64) Interval {
	needed := v.needed(alpha) - v.same
	if needed < 1 {
		return Interval{math.Inf(-1), math.Inf(1)}
	}
	slices.Sort(v.thresholds)
	return Interval{v.thresholds[needed-1], v.thresholds[len(v.thresholds)-needed]}
}
