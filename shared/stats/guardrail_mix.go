package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// mix has Services that are compared together, and the figures from which the bounds of their harm are computed.
type mix struct {
	parts       []part
	rates       [2]float64 // standardised to the control's mix
	baseline    float64    // the difference of the arms' rates before anybody was treated
	hasBaseline bool
	answered    int64 // periods in which both arms answered a request

	requestVariance  [2]float64 // of the arms' rates, if requests fail independently of each other
	baselineVariance float64    // of the baseline, in the same way
	unitSE           float64    // standard error of the harm by the jackknife over buckets of units
	unitDF           float64    // degrees of freedom of unitSE; if under 1, nothing can be shown
}

func newMix(parts []part, margin float64) *mix {
	m := &mix{parts: slices.Clone(parts)}
	var control float64
	for _, p := range m.parts {
		control += float64(p.totals[0].N)
	}
	for i := range m.parts {
		p := &m.parts[i]
		p.weight = float64(p.totals[0].N) / control
		for arm := range m.rates {
			m.rates[arm] += p.weight * p.totals[arm].share()
		}
		if p.baseline[0].N > 0 {
			m.baseline, m.hasBaseline = m.baseline+p.weight*(p.baseline[1].share()-p.baseline[0].share()), true
		}
	}
	m.setRequestVariance(margin)
	m.setUnitVariance()
	return m
}

// setRequestVariance sets the binomial variances. An arm without errors would have the variance 0, and would prove anything.
// So each arm has at least the variance at the rate that it would have if the harm was the margin.
func (m *mix) setRequestVariance(margin float64) {
	for _, p := range m.parts {
		weight2 := p.weight * p.weight
		control, treatment := p.totals[0], p.totals[1]
		controlAtMargin := max(0, treatment.share()-margin)
		treatmentAtMargin := min(1, control.share()+margin)
		m.requestVariance[0] += weight2 * max(control.variance(), controlAtMargin*(1-controlAtMargin)) / float64(control.N)
		m.requestVariance[1] += weight2 * max(treatment.variance(), treatmentAtMargin*(1-treatmentAtMargin)) / float64(treatment.N)
		for _, b := range p.baseline {
			if b.N > 0 {
				m.baselineVariance += weight2 * b.variance() / float64(b.N)
			}
		}
	}
}

// requestSE is the standard error of the harm if requests fail independently of each other.
func (m *mix) requestSE() float64 {
	return math.Sqrt(m.requestVariance[0] + m.requestVariance[1] + m.baselineVariance)
}

// setUnitVariance sets unitSE and unitDF by the jackknife over the buckets of units. For each arm V = (k-1)/k sum (theta(-b)
// - mean)^2 over the k buckets with requests, where theta(-b) is the arm's rate without bucket b of every Service. V is at
// least the binomial variance, so that buckets without errors do not count as equal units. Degrees of freedom are
// Satterthwaite's, with e - 1 for each arm, e = (sum n_b)^2/sum n_b^2 the effective number of its buckets.
func (m *mix) setUnitVariance() {
	if len(m.parts) == 0 || slices.ContainsFunc(m.parts, func(p part) bool { return !p.bucketsKnown() }) {
		return
	}
	var variance, perDF float64 // sums over the arms of V and V^2/(e - 1)
	fewest := math.Inf(1)
	for arm := range m.rates {
		v, effective := m.leaveOneOut(arm)
		v = max(v, m.requestVariance[arm])
		fewest = min(fewest, effective)
		variance += v
		if v > 0 {
			perDF += v * (v / (effective - 1))
		}
	}
	m.unitSE, m.unitDF = math.Sqrt(variance), variance*(variance/perDF)
	if perDF == 0 {
		m.unitDF = fewest - 1
	}
}

// leaveOneOut returns the jackknife variance of an arm's rate, and the effective number of the arm's buckets.
func (m *mix) leaveOneOut(arm int) (variance, effective float64) {
	var rates Moments    // the arm's rate without each bucket, minus the rate itself, which avoids cancellation
	var requests Moments // of the buckets
	for b := range m.parts[0].Buckets[arm] {
		n, rate := 0.0, 0.0
		inBaseline := false
		for i := range m.parts {
			p := &m.parts[i]
			bucket := p.Buckets[arm][b]
			n += float64(bucket.N)
			rate += p.weight * minus(p.buckets[arm], bucket).share()
			if p.baseline[arm].N > 0 {
				rate -= p.weight * minus(p.baseline[arm], p.Baseline[arm][b]).share()
				inBaseline = inBaseline || p.Baseline[arm][b].N > 0
			}
		}
		requests.Add(n)
		if n > 0 || inBaseline {
			rates.Add(rate - m.rates[arm])
		}
	}
	k := float64(rates.N)
	return max(0, (k-1)/k*(rates.SumSq-rates.Sum*(rates.Sum/k))), effectiveNumberFromSums(requests)
}

// effectiveNumberFromSums is EffectiveNumber, from the sums of counts of requests. One of the counts must be more than 0.
func effectiveNumberFromSums(requests Moments) float64 {
	return requests.Sum * (requests.Sum / requests.SumSq)
}

// periods is the number of periods that are compared.
func (m *mix) periods() int {
	if len(m.parts) == 0 {
		return 0
	}
	return m.parts[0].to - m.parts[0].from
}

// batchVariance returns the variance of the harm by batches of this many periods, and its degrees of freedom.
func (m *mix) batchVariance(size int) (variance, df float64) {
	squares, effective := m.batchSquares(size)
	variance = effective / (effective - 1) * squares
	if m.baselineVariance > 0 {
		variance += m.baselineVariance * m.burstFactor(variance)
	}
	return variance, effective - 1
}

// burstFactor is a variance by batches divided by the variance that independent requests would have. It is at least 1. The
// baseline is assumed to have had the same bursts, so its variance is multiplied by this factor.
func (m *mix) burstFactor(variance float64) float64 {
	return max(1, variance/(m.requestVariance[0]+m.requestVariance[1]))
}

// batchSquares divides the periods into batches of this size, or a little longer so that they are equal. Each batch adds a term
// to the deviation of the harm, by linearisation. batchSquares returns the sum of the squares of these terms, and the effective
// number of batches: like buckets, batches count by their requests, so a batch without requests does not count.
func (m *mix) batchSquares(size int) (squares, effective float64) {
	periods := m.periods()
	batches := periods / size
	slopes := m.slopes()
	var requests [2]Moments // of the batches, by arm
	for b := range batches {
		deviation, n := m.deviation(slopes, b*periods/batches, (b+1)*periods/batches)
		squares += deviation * deviation
		for arm := range n {
			requests[arm].Add(n[arm])
		}
	}
	return squares, min(float64(batches), effectiveNumberFromSums(requests[0]), effectiveNumberFromSums(requests[1]))
}

// slope says how the harm depends on the requests of one arm of a Service: n requests, of which some are bad, add
// perRequest (bad - share n) to the deviation of the harm.
type slope struct{ perRequest, share float64 }

// slopes returns the slopes of each Service's control and treatment.
func (m *mix) slopes() [][2]slope {
	slopes := make([][2]slope, len(m.parts))
	for i, p := range m.parts {
		control, treatment := p.totals[0], p.totals[1]
		slopes[i] = [2]slope{
			{-p.weight / float64(control.N), control.share()},
			{p.weight / float64(treatment.N), treatment.share()},
		}
	}
	return slopes
}

// deviation returns what the requests in some periods add to the deviation of the harm, and the number of these requests by arm.
// from and to are counted from the first period of the mix.
func (m *mix) deviation(slopes [][2]slope, from, to int) (deviation float64, n [2]float64) {
	for i := range m.parts {
		p := &m.parts[i]
		for arm := range n {
			r, s := p.requests(arm, p.from+from, p.from+to), slopes[i][arm]
			deviation += s.perRequest * (float64(r.Successes) - s.share*float64(r.N))
			n[arm] += float64(r.N)
		}
	}
	return deviation, n
}

// lowerBound returns the lower bound of the harm.
func (m *mix) lowerBound(alpha float64) float64 {
	periods := m.periods()
	switch {
	case m.answered < earliestPeriods:
		return math.Inf(-1)
	case m.answered < 4*batchPeriods:
		return m.harm() - 2*m.halfWidth(alpha, []int{earlyBatch(periods)})
	}
	return m.harm() - m.halfWidth(alpha, batchSizes(periods, breachBatches))
}

// upperBound returns the upper bound of the harm.
func (m *mix) upperBound(alpha float64) float64 {
	return m.harm() + m.halfWidth(alpha, batchSizes(m.periods(), passBatches))
}

// halfWidth returns the half-width of a bound. It is the largest of the half-widths by independent requests, by units, and by
// batches of each size. The sizes must ascend.
//
// Quantiles of t take most of the time of a look. They become smaller with more degrees of freedom, so the largest batches are
// tried first. If smaller batches would not give a wider bound even with the quantile computed last, their own quantile is
// not computed.
func (m *mix) halfWidth(alpha float64, sizes []int) float64 {
	if m.unitDF < 1 {
		return math.Inf(1)
	}
	multiple := m.multiple(alpha)
	widest := max(multiple*m.requestSE(), studentHalf(alpha/2, m.unitDF, m.unitSE))
	tail := distuv.UnitNormal.Survival(multiple)
	quantile, quantileDF := math.Inf(1), 1.0
	for _, size := range slices.Backward(sizes) {
		variance, df := m.batchVariance(size)
		if df < 1 {
			return math.Inf(1)
		}
		se := math.Sqrt(variance)
		canBeWider := se > 0 && (df < quantileDF || quantile*se > widest)
		if canBeWider {
			quantile, quantileDF = studentQuantile(tail, df), df
			widest = max(widest, quantile*se)
		}
	}
	return widest
}

// studentHalf is 0 if nothing varies, even if the quantile is infinite.
func studentHalf(tail, df, se float64) float64 {
	if se == 0 {
		return 0
	}
	return studentQuantile(tail, df) * se
}

// multiple is how many standard errors of independent requests a one-sided bound is from the harm.
func (m *mix) multiple(alpha float64) float64 {
	return Sequence{Planned: GuardrailPlanned, Alpha: alpha}.oneSidedMultiple(m.answered)
}

// earlyBatch is the number of periods in a batch of an early look: a sixth of the step. With quarters, a large harm at few
// requests would not be found before the 40th period, because the quantile of t with 3 degrees of freedom is three times the
// one with 5.
func earlyBatch(periods int) int { return min(periods/6, batchPeriods) }

// batchSizes returns 10, 20, 30, 45, 67 periods and so on. Each size is greater than the one before by half, and by at least
// 10 periods. Sizes above 10 are left out if the periods make fewer than least batches of them.
func batchSizes(periods, least int) []int {
	sizes := []int{batchPeriods}
	for size := 2 * batchPeriods; periods/size >= least; size += max(batchPeriods, size/2) {
		sizes = append(sizes, size)
	}
	return sizes
}

func (m *mix) harm() float64 { return m.rates[1] - m.rates[0] - m.baseline }

// estimate returns the harm with the largest of its standard errors, and that one's degrees of freedom.
func (m *mix) estimate() Estimate {
	if len(m.parts) == 0 {
		return Estimate{}
	}
	var requests float64
	for _, p := range m.parts {
		requests += float64(p.totals[0].N + p.totals[1].N)
	}
	e := Estimate{Value: m.harm(), SE: m.requestSE(), DF: requests - 2, N: m.answered}
	if m.answered >= earliestPeriods {
		if variance, df := m.batchVariance(earlyBatch(m.periods())); df >= 1 && variance > e.SE*e.SE {
			e.SE, e.DF = math.Sqrt(variance), df
		}
	}
	if m.unitDF >= 1 && m.unitSE > e.SE {
		e.SE, e.DF = m.unitSE, m.unitDF
	}
	return e
}
