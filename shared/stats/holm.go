package stats

import (
	"cmp"
	"fmt"
	"slices"
)

// Holm adjusts the p-values of several questions asked at once, in their order: the i-th smallest of m becomes
// (m - i + 1) p, at least the one before it and at most 1. The chance that any true null has an adjusted p at or under
// alpha is at most alpha, whatever the dependence between them; always-valid p-values stay always valid.
// Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
func Holm(p []float64) ([]float64, error) {
	raised, _, err := holm(p)
	for i := range raised {
		raised[i] = min(1, raised[i])
	}
	return raised, err
}

// HolmAlphas is for each question the alpha whose interval leaves out 0 exactly where the p that Holm adjusts is at most
// alpha: the alpha that Holm compares that question's own p with. Each is alpha/m to alpha, so that each interval alone
// holds the truth at least as often as one at alpha. Errors: those of Holm, and of an alpha that is none.
func HolmAlphas(p []float64, alpha float64) ([]float64, error) {
	if err := checkAlpha(alpha); err != nil {
		return nil, err
	}
	raised, of, err := holm(p)
	for i, v := range raised {
		share := 1 / of[i]
		if v > 0 {
			share = p[i] / v
		}
		raised[i] = alpha * share * (1 + 1e-12) // a p that is alpha to the last bit stays at most alpha
	}
	return raised, err
}

// holm is Holm without the bound of 1, and how many questions each p is one of.
func holm(p []float64) (raised, of []float64, err error) {
	order := make([]int, len(p))
	for i, v := range p {
		if !(v >= 0 && v <= 1) {
			return nil, nil, fmt.Errorf("p-value %v at %d: expected 0 to 1", v, i)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	raised, of = make([]float64, len(p)), make([]float64, len(p))
	var floor float64
	for rank, i := range order {
		of[i] = float64(len(p) - rank)
		floor = max(floor, of[i]*p[i])
		raised[i] = floor
	}
	return raised, of, nil
}
