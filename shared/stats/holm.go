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
	order := make([]int, len(p))
	for i, v := range p {
		if !(v >= 0 && v <= 1) {
			return nil, fmt.Errorf("p-value %v at %d: expected 0 to 1", v, i)
		}
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	adjusted := make([]float64, len(p))
	var floor float64
	for rank, i := range order {
		floor = max(floor, min(1, float64(len(p)-rank)*p[i]))
		adjusted[i] = floor
	}
	return adjusted, nil
}
