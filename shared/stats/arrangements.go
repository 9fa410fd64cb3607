package stats

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/combin"
)

const (
	// PermutationExact is the largest number of arrangements that are all compared. 10 units against 10 have 184,756
	// arrangements.
	PermutationExact = 200_000
	// PermutationDraws is how many arrangements are drawn if there are more. Then a P of .05 is within .002 of the exact P
	// with probability 95 %, because P is twice a share of .025 with a standard error of .0005.
	PermutationDraws = 100_000
	// PermutationFewest is how many are drawn if there are very many units. Then a P of .05 is within .006 of the exact P.
	PermutationFewest = 10_000

	// maxMoves limits the total number of units that all draws move. This number determines how long the draws take: about 5
	// ns per unit. Above 500 treated units maxMoves lowers the number of draws, down to PermutationFewest for 5000.
	maxMoves = 50_000_000
)

// drawsFor returns how many arrangements are drawn with this number of treated units.
func drawsFor(treated int) int {
	return max(PermutationFewest, min(PermutationDraws, maxMoves/max(1, treated)))
}

// SmallestP is the smallest two-sided P that a permutation test can give, 2/arrangements and at most 1. perStratum has the
// numbers of control and treated units of each stratum. If SmallestP is over alpha, the design can never give a verdict. For
// example, three strata with 2 + 2, 1 + 1 and 1 + 1 units have 24 arrangements, so SmallestP is .083.
func SmallestP(perStratum [][2]int) float64 {
	logN, treated := 0.0, 0
	for _, n := range perStratum {
		control, treatment := max(0, n[0]), max(0, n[1])
		logN += logArrangements(control+treatment, treatment)
		treated += treatment
	}
	n := math.Round(math.Exp(min(logN, 100)))
	if n > PermutationExact {
		n = float64(drawsFor(treated) + 1)
	}
	return min(1, 2/n)
}

// logArrangements is the logarithm of the number of ways to treat some of n units.
func logArrangements(n, treated int) float64 {
	return combin.LogGeneralizedBinomial(float64(n), float64(treated))
}

// sums has the sums of an arm or a unit, for both ratios.
type sums struct {
	sum, size float64
	treated   float64 // the part of size (of sum, in PermuteLift) that belongs to units whose real label is treatment
}

func (s sums) plus(t sums) sums { return sums{s.sum + t.sum, s.size + t.size, s.treated + t.treated} }

func (s sums) minus(t sums) sums { return sums{s.sum - t.sum, s.size - t.size, s.treated - t.treated} }

// maxSum keeps products and differences of sums within a float64.
const maxSum = 1e100

// labelled has units by stratum, and their sums.
type labelled struct {
	strata      []stratum
	total, real sums // of all units, and of those whose real label is treatment
	n, treated  int
}

// stratum has its treated units first.
type stratum struct {
	units   []sums
	treated int
}

// labelUnits sorts units into strata. For a unit whose label is treatment, sums.treated is treatedPart of the unit.
func labelUnits(units []Unit, treatedPart func(Unit) float64) (labelled, error) {
	units = slices.Clone(units)
	slices.SortFunc(units, func(a, b Unit) int {
		return cmp.Or(cmp.Compare(a.Stratum, b.Stratum), oneIf(b.Treatment)-oneIf(a.Treatment),
			cmp.Compare(a.Sum, b.Sum), cmp.Compare(a.Size, b.Size))
	})
	l := labelled{n: len(units)}
	for i, u := range units {
		if !(math.Abs(u.Sum) <= maxSum && u.Size >= 1 && u.Size <= 1e9) {
			return labelled{}, fmt.Errorf("unit %+v: expected a size of 1 to 1e9 and a sum of at most %g", u, maxSum)
		}
		if i == 0 || units[i-1].Stratum != u.Stratum {
			l.strata = append(l.strata, stratum{})
		}
		s := &l.strata[len(l.strata)-1]
		added := sums{sum: u.Sum, size: u.Size}
		if u.Treatment {
			added.treated = treatedPart(u)
			s.treated++
			l.treated++
			l.real = l.real.plus(added)
		}
		s.units, l.total = append(s.units, added), l.total.plus(added)
	}
	if l.treated == 0 || l.treated == l.n {
		return labelled{}, fmt.Errorf("%d units of which %d are treated, expected some in each arm: %w", l.n, l.treated, ErrTooFew)
	}
	return l, nil
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// exact reports whether all arrangements are compared. Above e^100 their exact number does not matter.
func (l labelled) exact() bool {
	logN := 0.0
	for _, s := range l.strata {
		logN += logArrangements(len(s.units), s.treated)
	}
	return math.Round(math.Exp(min(logN, 100))) <= PermutationExact
}

// arrange calls add with the treatment's sums in every arrangement of the labels. If there are too many, it calls add for
// the real arrangement and for random draws.
func (l labelled) arrange(draws int, seed uint64, add func(treatment sums)) {
	if l.exact() {
		enumerate(l.strata, sums{}, add)
		return
	}
	add(l.real)
	random := rand.New(rand.NewPCG(seed, 0))
	for range draws {
		var treatment sums
		for _, s := range l.strata {
			for i := range s.treated { // the first steps of a Fisher-Yates shuffle
				j := i + random.IntN(len(s.units)-i)
				s.units[i], s.units[j] = s.units[j], s.units[i]
				treatment = treatment.plus(s.units[i])
			}
		}
		add(treatment)
	}
}

// enumerate calls add for every arrangement of the strata. earlier has the treatment's sums in the strata before these.
func enumerate(strata []stratum, earlier sums, add func(treatment sums)) {
	if len(strata) == 0 {
		add(earlier)
		return
	}
	s := strata[0]
	chosen := make([]int, s.treated)
	for g := combin.NewCombinationGenerator(len(s.units), s.treated); g.Next(); {
		treatment := earlier
		for _, i := range g.Combination(chosen) {
			treatment = treatment.plus(s.units[i])
		}
		enumerate(strata[1:], treatment, add)
	}
}

// tally counts arrangements by how their difference compares with the real one.
type tally struct {
	n, atLeast, atMost int // all arrangements; those with at least, and with at most, the real difference
	ties               int // those with the same difference
	same               int // those that no effect can tell apart from the real arrangement
}

// count adds an arrangement whose difference is the real one plus excess. If excess is within tolerance, the two count as
// equal, because of rounding.
func (t *tally) count(excess, tolerance float64) {
	t.n++
	switch {
	case math.Abs(excess) <= tolerance:
		t.ties++
		t.atLeast++
		t.atMost++
	case excess > 0:
		t.atLeast++
	default:
		t.atMost++
	}
}

func (t *tally) p() float64 { return min(1, 2*float64(min(t.atLeast, t.atMost))/float64(t.n)) }

// needed is how many arrangements must lie on each side of an effect so that its p is over alpha.
func (t *tally) needed(alpha float64) int { return int(float64(t.n)*alpha/2+1e-9) + 1 }

// check refuses units whose values do not differ: then all arrangements tie. A single arrangement always ties with itself, so
// check does not refuse it.
func (t *tally) check(units int) error {
	if t.ties == t.n && t.same < t.n {
		return fmt.Errorf("%d units whose values do not differ within strata: %w", units, ErrNoVariance)
	}
	return nil
}
