package stats

import (
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// RecentHarm is the harm since some moment of the step: the one that shows it most clearly. It never passes a step.
type RecentHarm struct {
	Harm  Estimate // zero while Lower is infinite
	Lower float64  // infinite where the treatment is worse by more than the margin since none of the moments
}

// onset is a moment at which a harm may have begun: after so many windows, of which the last are between it and the onset
// before it.
type onset struct{ window, between int }

// onsets are those that a look asks about: every sixth window that was 6 to 47 windows ago, every twelfth that was 48 to
// 95, and so on by doubling. They are about 7 and 4 for each doubling of the step, and every look asks about the same ones.
func onsets(windows int) (all []onset) {
	latest := earliestWindows
	for between := earliestWindows; windows-latest >= between; between *= 2 {
		for from := (windows - latest) / between * between; from > 0 && windows-from < 8*between; from -= between {
			all = append(all, onset{from, between})
		}
		latest = 8 * between
	}
	return all
}

// recent judges the windows since each onset as those of a step of their own. The onset at the j-th minute has
// a/(j(j+1)), which adds up to at most a, and its bound holds at every look.
func (g HarmTest) recent(parts []part, a float64) RecentHarm {
	clearest := RecentHarm{Lower: math.Inf(-1)}
	if len(parts) == 0 {
		return clearest
	}
	windows := parts[0].to
	for _, o := range onsets(windows) {
		var late []part
		for _, p := range parts {
			if l := p.within(o.window, windows); l.comparable() {
				late = append(late, l)
			}
		}
		m := newMix(late, g.Margin)
		if m.rates[0]+g.Margin >= 1 || m.harm() <= max(g.Margin, clearest.Lower) {
			continue
		}
		if m.answered = answered(late); m.answered < earliestWindows {
			continue
		}
		j := float64(o.window / earliestWindows)
		if lower := m.harm() - m.lateHalf(o, a/j/(j+1), a); lower > clearest.Lower {
			clearest = RecentHarm{m.estimate(), lower}
		}
	}
	return clearest
}

// lateHalf is the half-width of the harm since an onset. Its batches are a sixth as long as the time since then, and those
// of the time before the onset tell as well how much batches differ. Their standard deviation stands for the mean's
// standard error: where errors wander more slowly than a batch takes, averaging batches makes them no surer. It is taken
// half as wide again, because errors that wander are skewed.
//
// Each side of the onset has its own mean, so that the harm is no part of what batches differ by. A harm that began between
// this onset and the one before it would be; so the windows between the two tell nothing.
//
// Buckets are known for the whole step only, and who was active lately may differ from that, so the jackknife's part is
// doubled.
func (m *mix) lateHalf(o onset, alpha, jackknifeAlpha float64) float64 {
	size := m.windows() / earliestWindows
	squares, effective := m.squares(size)
	squares, df := squares*effective*effective, effective-1
	if before := m.before(o); before.windows() >= 2*size {
		s, effective := before.squares(size)
		squares, df = squares+s*effective*effective, df+effective-1
	}
	if m.df < 1 || df < 1 {
		return math.Inf(1)
	}
	multiple := m.multiple(alpha)
	batch := squares / df
	if m.baselineVariance > 0 {
		batch += m.baselineVariance * max(1, batch/float64(m.windows()/size)/(m.independent[0]+m.independent[1]))
	}
	return max(
		multiple*m.binomial(),
		2*studentHalf(jackknifeAlpha/2, m.df, m.jackknife),
		lateWidth*studentHalf(distuv.UnitNormal.Survival(multiple), df, math.Sqrt(batch)),
	)
}

// before is the same mix of Services before an onset; empty where one of them had too few requests.
func (m *mix) before(o onset) *mix {
	before := &mix{}
	for _, p := range m.parts {
		p = p.within(0, o.window-o.between)
		if !enough(p.totals) {
			return &mix{}
		}
		before.parts = append(before.parts, p)
	}
	return before
}
