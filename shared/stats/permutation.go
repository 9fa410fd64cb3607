package stats

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/combin"
)

// Unit is a randomised unit as a permutation test sees it.
type Unit struct {
	Stratum   int     // within which labels were drawn: the ramp's step at its entry
	Treatment bool    // its label
	Sum       float64 // what its members did, in the unit of the metric
	Size      float64 // its members, 1 to a billion; 1 where the unit is a single one
}

// Permutation is the outcome of a permutation test.
type Permutation struct {
	Difference   float64  // sum/size of the treatment minus that of the control
	P            float64  // two-sided, of "no unit's value depends on its label"
	Interval     Interval // 1 - alpha, of an effect added to each member
	Arrangements int      // of labels that were compared, the real one included
	Exact        bool     // they are all there are; else they were drawn
}

const (
	// PermutationExact is the number of arrangements up to which all are compared: 10 units against 10 are 184,756.
	PermutationExact = 200_000
	// PermutationDraws is how many are drawn where there are more. A P of .05 is then within .002 of the exact one with
	// probability 95 %: it is twice a share of .025, whose standard error is .0005.
	PermutationDraws = 100_000
)

// Permute tests the labels of few units by what else they might have been: labels are exchanged within strata, as they
// were drawn, and the difference d of the arms' ratios sum/size is compared with that of every other arrangement (all
// of them up to PermutationExact, else PermutationDraws from seed; the same units and seed give the same answer, in any
// order). P = 2 min(share with a difference >= d, share <= d), at most 1; of drawn arrangements the real one is one.
// The interval inverts the test: the effects delta that are not refused at alpha when delta is taken from each treated
// member. For an arrangement with difference a, and b of it due to the labels alone, a - b delta >= d - delta from
// delta = (d - a)/(1 - b) on, so the bounds are order statistics of these. A side is infinite where too few
// arrangements exist to refuse anything. It assumes no more than that labels were drawn at random within strata.
// Source: Fisher, "The Design of Experiments", 1935; Ernst, "Permutation Methods", Statistical Science 19, 2004;
// Phipson, Smyth, "Permutation P-values Should Never Be Zero", 2010.
// Errors: ErrTooFew where an arm has no unit; ErrNoVariance where units do not differ.
func Permute(units []Unit, alpha float64, seed uint64) (Permutation, error) {
	if err := checkAlpha(alpha); err != nil {
		return Permutation{}, err
	}
	strata, total, err := stratify(units)
	if err != nil {
		return Permutation{}, err
	}
	test := inversion{total: total, tolerance: tolerance(units, total)}
	var real sums
	for _, s := range strata {
		for _, u := range s.units[:s.treated] {
			real = real.plus(u)
		}
	}
	test.difference, _ = test.compare(real)
	exact := arrangements(strata) <= PermutationExact
	if exact {
		test.enumerate(strata, sums{})
	} else {
		test.draw(strata, real, seed)
	}
	if test.ties == test.n && test.same < test.n {
		return Permutation{}, fmt.Errorf("%d units whose values do not differ within strata: %w", len(units), ErrNoVariance)
	}
	return Permutation{Difference: test.difference, P: test.p(), Interval: test.interval(alpha), Arrangements: test.n, Exact: exact}, nil
}

// sums are what an arm, or a unit, adds to both ratios.
type sums struct{ sum, size, treated float64 } // treated: the members whose real label is treatment

func (s sums) plus(t sums) sums { return sums{s.sum + t.sum, s.size + t.size, s.treated + t.treated} }

// maxSum keeps products and differences of sums within a float64.
const maxSum = 1e100

// stratum holds its treated units first.
type stratum struct {
	units   []sums
	treated int
}

func stratify(units []Unit) (strata []stratum, total sums, err error) {
	units = slices.Clone(units)
	slices.SortFunc(units, func(a, b Unit) int {
		return cmp.Or(cmp.Compare(a.Stratum, b.Stratum), -cmp.Compare(label(a), label(b)), cmp.Compare(a.Sum, b.Sum), cmp.Compare(a.Size, b.Size))
	})
	treated := 0
	for i, u := range units {
		if !(math.Abs(u.Sum) <= maxSum && u.Size >= 1 && u.Size <= 1e9) {
			return nil, sums{}, fmt.Errorf("unit %+v: expected a size of 1 to 1e9 and a sum of at most %g", u, maxSum)
		}
		if i == 0 || units[i-1].Stratum != u.Stratum {
			strata = append(strata, stratum{})
		}
		s := &strata[len(strata)-1]
		added := sums{u.Sum, u.Size, label(u) * u.Size}
		if u.Treatment {
			s.treated++
			treated++
		}
		s.units, total = append(s.units, added), total.plus(added)
	}
	if treated == 0 || treated == len(units) {
		return nil, sums{}, fmt.Errorf("%d units of which %d are treated, expected some in each arm: %w", len(units), treated, ErrTooFew)
	}
	return strata, total, nil
}

func label(u Unit) float64 {
	if u.Treatment {
		return 1
	}
	return 0
}

// arrangements is the number of ways to label the strata; past e^100 it no longer matters.
func arrangements(strata []stratum) float64 {
	logN := 0.0
	for _, s := range strata {
		logN += combin.LogGeneralizedBinomial(float64(len(s.units)), float64(s.treated))
	}
	return math.Round(math.Exp(min(logN, 100)))
}
