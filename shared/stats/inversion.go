package stats

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/combin"
)

// inversion compares arrangements with the real one, for every effect at once.
type inversion struct {
	total      sums
	difference float64 // of the real arrangement
	tolerance  float64 // within which two differences are equal but for rounding

	n, atLeast, atMost int // arrangements; with a difference at least, at most the real one
	ties               int // of the same difference, whatever their labels
	same               int // with the real labels, which no effect tells apart
	thresholds         []float64
}

// tolerance is a billionth of the mean absolute value of a member.
func tolerance(units []Unit, total sums) float64 {
	var absolute float64
	for _, u := range units {
		absolute += math.Abs(u.Sum)
	}
	return 1e-9 * absolute / total.size
}

// compare returns the difference of the arms if part of all units is the treatment, and how much of it is the labels'
// own: the share of really treated members in one arm minus that in the other.
func (v *inversion) compare(part sums) (difference, labels float64) {
	rest := sums{v.total.sum - part.sum, v.total.size - part.size, v.total.treated - part.treated}
	return part.sum/part.size - rest.sum/rest.size, part.treated/part.size - rest.treated/rest.size
}

func (v *inversion) add(part sums) {
	difference, labels := v.compare(part)
	v.n++
	switch gap := v.difference - difference; {
	case math.Abs(gap) <= v.tolerance:
		v.ties++
		v.atLeast++
		v.atMost++
	case gap < 0:
		v.atLeast++
	default:
		v.atMost++
	}
	if 1-labels < 1e-12 {
		v.same++
		return
	}
	v.thresholds = append(v.thresholds, (v.difference-difference)/(1-labels))
}

// enumerate adds every arrangement of the strata, on top of what earlier strata put into the treatment.
func (v *inversion) enumerate(strata []stratum, part sums) {
	if len(strata) == 0 {
		v.add(part)
		return
	}
	s := strata[0]
	chosen := make([]int, s.treated)
	for g := combin.NewCombinationGenerator(len(s.units), s.treated); g.Next(); {
		with := part
		for _, i := range g.Combination(chosen) {
			with = with.plus(s.units[i])
		}
		v.enumerate(strata[1:], with)
	}
}

// draw adds the real arrangement and PermutationDraws random ones.
func (v *inversion) draw(strata []stratum, real sums, seed uint64) {
	v.add(real)
	random := rand.New(rand.NewPCG(seed, 0))
	for range PermutationDraws {
		var part sums
		for _, s := range strata {
			for i := range s.treated { // the first steps of a Fisher-Yates shuffle
				j := i + random.IntN(len(s.units)-i)
				s.units[i], s.units[j] = s.units[j], s.units[i]
				part = part.plus(s.units[i])
			}
		}
		v.add(part)
	}
}

func (v *inversion) p() float64 {
	return min(1, 2*float64(min(v.atLeast, v.atMost))/float64(v.n))
}

// interval has as its lower bound the smallest effect that more than alpha/2 of the arrangements support, which is
// where p comes to exceed alpha; and likewise from above.
func (v *inversion) interval(alpha float64) Interval {
	needed := int(float64(v.n)*alpha/2+1e-9) + 1 - v.same
	if needed < 1 {
		return Interval{math.Inf(-1), math.Inf(1)}
	}
	slices.Sort(v.thresholds)
	return Interval{v.thresholds[needed-1], v.thresholds[len(v.thresholds)-needed]}
}
