package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// RecentHarm is the harm since the moment of the step that shows it most clearly. It can lead to a breach, but never to a pass.
type RecentHarm struct {
	Harm  Estimate // zero while Lower is infinite
	Lower float64  // lower bound; negative infinity if there is no moment since which the treatment is worse by more than the margin
}

// onset is a moment at which a harm may have begun.
type onset struct {
	before int // number of periods of the step before the onset
	gap    int // number of periods between the onset and the onset before it
}

// onsets returns the onsets that a look judges: every sixth period of those 6 to 47 periods ago, every twelfth of those 48 to
// 95 periods ago, and so on by doubling. That makes about 7 onsets, and 4 more for each doubling of the step. Onsets are
// multiples of their gap, so that all looks judge the same ones.
func onsets(periods int) (all []onset) {
	youngest := earliestPeriods
	for gap := earliestPeriods; periods-youngest >= gap; gap *= 2 {
		latest := (periods - youngest) / gap * gap
		for before := latest; before > 0 && periods-before < 8*gap; before -= gap {
			all = append(all, onset{before, gap})
		}
		youngest = 8 * gap
	}
	return all
}

// recentHarm judges the periods since each onset as a separate step, and returns the harm with the highest lower bound. The onset
// at the j-th minute has alpha/(j(j+1)). These add up to at most alpha, and each bound holds at all looks.
func (g HarmTest) recentHarm(parts []part, alpha float64) RecentHarm {
	clearest := RecentHarm{Lower: math.Inf(-1)}
	if len(parts) == 0 {
		return clearest
	}
	for _, o := range onsets(parts[0].to) {
		since := partsSince(parts, o)
		m := newMix(since, g.Margin)
		cannotBreach := m.rates[0]+g.Margin >= 1 || m.harm() <= g.Margin
		if cannotBreach || m.harm() <= clearest.Lower { // the bound is less than the harm, so it cannot be the highest
			continue
		}
		if m.answered = answeredPeriods(since); m.answered < earliestPeriods {
			continue
		}
		j := float64(o.before / earliestPeriods)
		if lower := m.harm() - m.lateHalfWidth(o, alpha/j/(j+1), alpha); lower > clearest.Lower {
			clearest = RecentHarm{m.estimate(), lower}
		}
	}
	return clearest
}

// partsSince returns the periods since an onset, of the Services that can be compared in these periods.
func partsSince(parts []part, o onset) (since []part) {
	for _, p := range parts {
		if late := p.restrict(o.before, p.to); late.canBeCompared() {
			since = append(since, late)
		}
	}
	return since
}

// lateHalfWidth returns the half-width of the harm since an onset, the largest of three.
//
//   - By independent requests, as for the whole step.
//   - By units, doubled, because buckets are known only for the whole step, and other units may have been active lately.
//   - By batches, from the standard deviation of a single batch instead of the standard error of their mean: if errors wander
//     more slowly than a batch takes, averaging batches does not reduce the error. Multiplied by lateWidth, because errors that
//     wander are skewed.
func (m *mix) lateHalfWidth(o onset, alpha, unitAlpha float64) float64 {
	size := m.periods() / earliestPeriods
	variance, df := m.singleBatchVariance(o, size)
	if m.unitDF < 1 || df < 1 {
		return math.Inf(1)
	}
	if m.baselineVariance > 0 {
		batches := float64(m.periods() / size)
		variance += m.baselineVariance * m.burstFactor(variance/batches)
	}
	multiple := m.multiple(alpha)
	byRequests := multiple * m.requestSE()
	byUnits := studentHalf(unitAlpha/2, m.unitDF, m.unitSE)
	byBatches := studentHalf(distuv.UnitNormal.Survival(multiple), df, math.Sqrt(variance))
	return max(byRequests, 2*byUnits, lateWidth*byBatches)
}

// singleBatchVariance returns the variance of the harm in a single batch of this many periods, and its degrees of freedom. It
// is pooled over the batches since the onset and the batches before the onset. Each of the two has its own mean, so a harm that began
// at the onset is not part of the variance. A harm that began within the gap before the onset would be, so the periods of
// the gap are not used.
func (m *mix) singleBatchVariance(o onset, size int) (variance, df float64) {
	// In batchSquares, a batch has 1/n of its own deviation, because the harm is a mean of n batches. Hence the factors n^2.
	squares, n := m.batchSquares(size)
	squares, df = squares*n*n, n-1
	if before := m.mixBefore(o); before.periods() >= 2*size {
		s, n := before.batchSquares(size)
		squares, df = squares+s*n*n, df+n-1
	}
	return squares / df, df
}

// mixBefore returns the same Services in the periods before an onset and its gap. It is empty if one of them had too few requests
// in these periods.
func (m *mix) mixBefore(o onset) *mix {
	before := &mix{}
	for _, p := range m.parts {
		p = p.restrict(0, o.before-o.gap)
		if !haveEnough(p.totals) {
			return &mix{}
		}
		before.parts = append(before.parts, p)
	}
	return before
}
