package stats

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/combin"
)

// FisherExact is the two-sided exact test of equal shares. Given the margins, the treatment's successes are
// hypergeometric, and P sums the probabilities of all tables that are no likelier than the observed one. It is for one
// look at independent units. Its time grows with the standard deviation of the successes, not with the number of units.
// Source: Fisher, "Statistical Methods for Research Workers", 1934; two-sided as R's fisher.test.
func FisherExact(control, treatment Proportion) (Test, error) {
	if err := checkProportions(control, treatment); err != nil {
		return Test{}, err
	}
	h := hypergeometric{
		successes: control.Successes + treatment.Successes,
		failures:  control.N + treatment.N - control.Successes - treatment.Successes,
		draws:     treatment.N,
	}
	observed := treatment.Successes
	low, high := max(0, h.draws-h.failures), min(h.draws, h.successes)
	mode := h.mode()
	// Probabilities fall on each side of the mode, so the tables no likelier than the observed one are the two tails.
	limit := h.logP(observed) + tieTolerance
	below := low + int64(sort.Search(int(mode-low+1), func(i int) bool { return h.logP(low+int64(i)) > limit })) - 1
	above := mode + int64(sort.Search(int(high-mode+1), func(i int) bool { return h.logP(mode+int64(i)) <= limit }))
	if below >= mode || above <= mode {
		return Test{P: 1}, nil // the observed table is the likeliest
	}
	return Test{P: min(1, h.tail(below, low, -1)+h.tail(above, high, 1))}, nil
}

// tieTolerance is how much likelier than the observed table another may appear, because of rounding, and still count as
// equally likely. It is a logarithm. R's fisher.test uses the same.
const tieTolerance = 1e-7

// hypergeometric counts the successes among draws without replacement.
type hypergeometric struct{ successes, failures, draws int64 }

func (h hypergeometric) mode() int64 {
	m := (float64(h.draws) + 1) * (float64(h.successes) + 1) / (float64(h.successes) + float64(h.failures) + 2)
	return min(max(int64(m), 0, h.draws-h.failures), h.draws, h.successes)
}

func (h hypergeometric) logP(x int64) float64 {
	s, f, d := float64(h.successes), float64(h.failures), float64(h.draws)
	return combin.LogGeneralizedBinomial(s, float64(x)) + combin.LogGeneralizedBinomial(f, d-float64(x)) - combin.LogGeneralizedBinomial(s+f, d)
}

// tail sums the probabilities from x outwards to end, each computed from the one before, until the rest is negligible.
func (h hypergeometric) tail(x, end, step int64) float64 {
	if (end-x)*step < 0 {
		return 0
	}
	first, sum, term := h.logP(x), 1.0, 1.0
	for ; x != end && term > 1e-18*sum; x += step {
		term *= h.neighbourRatio(x, x+step)
		sum += term
	}
	return math.Exp(first) * sum
}

// neighbourRatio is the probability of to, which is next to x, divided by the probability of x.
func (h hypergeometric) neighbourRatio(x, to int64) float64 {
	lower := float64(min(x, to))
	up := (float64(h.successes) - lower) / (lower + 1) * (float64(h.draws) - lower) / (float64(h.failures) - float64(h.draws) + lower + 1)
	if to < x {
		return 1 / up
	}
	return up
}
