package stats

import (
	"cmp"
	"fmt"
	"slices"
)

// Holm adjusts the p-values of several hypotheses that are tested together. The i-th smallest of m becomes (m - i + 1) p,
// at least the adjusted one before it and at most 1. The result has the order of the argument. The chance that any true
// null hypothesis has an adjusted p of at most alpha is at most alpha, for any dependence between them. Always-valid
// p-values stay always valid.
// Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
func Holm(p []float64) ([]float64, error) {
	raised, _, err := holm(p)
	for i := range raised {
		raised[i] = min(1, raised[i])
	}
	return raised, err
}

// HolmAlphas returns for each hypothesis the alpha of an interval that agrees with Holm: it excludes 0 exactly if the
// adjusted p is at most alpha. Each is between alpha/m and alpha, so each interval alone contains the true value at least
// as often as an interval at alpha. Errors: those of Holm, and an invalid alpha.
func HolmAlphas(p []float64, alpha float64) ([]float64, error) {
	if err := checkAlpha(alpha); err != nil {
		return nil, err
	}
	raised, factors, err := holm(p)
	for i, v := range raised {
		share := 1 / factors[i]
		if v > 0 {
			share = p[i] / v
		}
		raised[i] = alpha * share * (1 + 1e-12) // so that rounding does not put a p of exactly alpha above it
	}
	return raised, err
}

// holm is Holm without the bound of 1. factors has the factor m - i + 1 of each p.
func holm(p []float64) (raised, factors []float64, err error) {
	order := make([]int, len(p))
	for i, v := range p {
		if !(v >= 0 && v <= 1) {
			return nil, nil, fmt.Errorf("p-value %v at %d: expected 0 to 1", v, i)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	raised, factors = make([]float64, len(p)), make([]float64, len(p))
	var floor float64
	for rank, i := range order {
		factors[i] = float64(len(p) - rank)
		floor = max(floor, factors[i]*p[i])
		raised[i] = floor
	}
	return raised, factors, nil
}
