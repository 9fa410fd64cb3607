package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// mix is Services compared together, and the standard errors of their harm.
type mix struct {
	parts    []part
	rates    [2]float64 // standardised to the control's mix
	baseline float64
	based    bool
	answered int64 // windows in which both arms answered something

	independent      [2]float64 // variances of the arms' rates if requests fail independently of each other
	baselineVariance float64    // if its requests fail independently as well
	jackknife        float64    // standard error
	df               float64    // of the jackknife's; under 1, nothing can be shown
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
			m.baseline, m.based = m.baseline+p.weight*(p.baseline[1].share()-p.baseline[0].share()), true
		}
	}
	m.requestVariance(margin)
	m.unitVariance()
	return m
}

// requestVariance is the binomial variance. No errors in an arm would prove anything by that; so an arm may also have the
// rate that the other's and the margin leave it, if that varies more.
func (m *mix) requestVariance(margin float64) {
	for _, p := range m.parts {
		w2 := p.weight * p.weight
		least, most := max(0, p.totals[1].share()-margin), min(1, p.totals[0].share()+margin)
		m.independent[0] += w2 * max(p.totals[0].variance(), least*(1-least)) / float64(p.totals[0].N)
		m.independent[1] += w2 * max(p.totals[1].variance(), most*(1-most)) / float64(p.totals[1].N)
		for _, b := range p.baseline {
			if b.N > 0 {
				m.baselineVariance += w2 * b.variance() / float64(b.N)
			}
		}
	}
}

func (m *mix) binomial() float64 {
	return math.Sqrt(m.independent[0] + m.independent[1] + m.baselineVariance)
}

// unitVariance is the jackknife over the buckets of units of each arm: with bucket b left out of every Service, the arm's
// rate is theta(-b), and V = (k-1)/k sum (theta(-b) - mean)^2 over the k buckets that asked anything. It is at least the
// binomial one, so that no errors do not pass for units that are all alike. Degrees of freedom are Satterthwaite's, with
// e - 1 for each arm, e = (sum n_b)^2/sum n_b^2 the effective number of its buckets.
func (m *mix) unitVariance() {
	if len(m.parts) == 0 || slices.ContainsFunc(m.parts, func(p part) bool { return !p.known() }) {
		return
	}
	var sum, spread float64
	fewest := math.Inf(1)
	for arm := range m.rates {
		v, effective := m.deleteOne(arm)
		v = max(v, m.independent[arm])
		fewest = min(fewest, effective)
		sum += v
		if v > 0 {
			spread += v * (v / (effective - 1))
		}
	}
	m.jackknife, m.df = math.Sqrt(sum), sum*(sum/spread)
	if spread == 0 {
		m.df = fewest - 1
	}
}

func (m *mix) deleteOne(arm int) (variance, effective float64) {
	var rates Moments
	var n, squares float64
	for b := range m.parts[0].Buckets[arm] {
		asked, theta := 0.0, 0.0
		used := false
		for i := range m.parts {
			p := &m.parts[i]
			bucket := p.Buckets[arm][b]
			asked += float64(bucket.N)
			theta += p.weight * less(p.buckets[arm], bucket).share()
			if p.baseline[arm].N > 0 {
				theta -= p.weight * less(p.baseline[arm], p.Baseline[arm][b]).share()
				used = used || p.Baseline[arm][b].N > 0
			}
		}
		n, squares = n+asked, squares+asked*asked
		if asked > 0 || used {
			rates.Add(theta - m.rates[arm])
		}
	}
	k := float64(rates.N)
	return max(0, (k-1)/k*(rates.SumSq-rates.Sum*(rates.Sum/k))), n * (n / squares)
}

func (m *mix) windows() int {
	if len(m.parts) == 0 {
		return 0
	}
	return m.parts[0].to - m.parts[0].from
}

// batches is the variance of the harm from batches of so many windows, or a little more so that they are equal, and its
// degrees of freedom.
func (m *mix) batches(size int) (variance, df float64) {
	squares, effective := m.squares(size)
	variance = effective / (effective - 1) * squares
	if m.baselineVariance > 0 { // the baseline had bursts as well
		variance += m.baselineVariance * max(1, variance/(m.independent[0]+m.independent[1]))
	}
	return variance, effective - 1
}

// squares are of the batches' parts of the harm's deviation, by linearisation. Batches count by their requests, as buckets
// do: those without any are none.
func (m *mix) squares(size int) (squares, effective float64) {
	windows := m.windows()
	k := windows / size
	shares, factors := make([][2]float64, len(m.parts)), make([][2]float64, len(m.parts))
	for i, p := range m.parts {
		shares[i] = [2]float64{p.totals[0].share(), p.totals[1].share()}
		factors[i] = [2]float64{-p.weight / float64(p.totals[0].N), p.weight / float64(p.totals[1].N)}
	}
	var sums, requests [2]float64
	for b := range k {
		var n [2]float64
		d := 0.0
		for i := range m.parts {
			p := &m.parts[i]
			from, to := p.from+b*windows/k, p.from+(b+1)*windows/k
			for arm := range n {
				of := less(p.sums[arm][to], p.sums[arm][from])
				asked := float64(of.N)
				d += factors[i][arm] * (float64(of.Successes) - shares[i][arm]*asked)
				n[arm] += asked
			}
		}
		squares += d * d
		for arm := range n {
			sums[arm], requests[arm] = sums[arm]+n[arm], requests[arm]+n[arm]*n[arm]
		}
	}
	effective = float64(k)
	for arm, n := range sums {
		effective = min(effective, n*(n/requests[arm]))
	}
	return squares, effective
}

// half is the half-width: the widest over batches of so many windows, in ascending order. Quantiles of t are what a look
// costs, and fall with the degrees of freedom. So the largest batches come first, and smaller ones that would not be
// wider even by the last quantile need none of their own.
func (m *mix) half(multiple, jackknifeAlpha float64, sizes []int) float64 {
	if m.df < 1 {
		return math.Inf(1)
	}
	half := max(multiple*m.binomial(), studentHalf(jackknifeAlpha/2, m.df, m.jackknife))
	tail := distuv.UnitNormal.Survival(multiple)
	last, lastDF := math.Inf(1), 1.0
	for _, size := range slices.Backward(sizes) {
		variance, df := m.batches(size)
		if df < 1 {
			return math.Inf(1)
		}
		if se := math.Sqrt(variance); se > 0 && (df < lastDF || last*se > half) {
			last, lastDF = studentQuantile(tail, df), df
			half = max(half, last*se)
		}
	}
	return half
}

// studentHalf is 0 where nothing varies, though the quantile may be infinite.
func studentHalf(tail, df, se float64) float64 {
	if se == 0 {
		return 0
	}
	return studentQuantile(tail, df) * se
}

func (m *mix) multiple(alpha float64) float64 {
	return Sequence{Planned: GuardrailPlanned, Alpha: alpha}.oneSided(m.answered)
}

func (m *mix) lower(alpha float64) float64 {
	if m.answered < earliestWindows {
		return math.Inf(-1)
	}
	windows := m.windows()
	if m.answered < 4*batchWindows {
		return m.harm() - 2*m.half(m.multiple(alpha), alpha, []int{quickBatch(windows)})
	}
	return m.harm() - m.half(m.multiple(alpha), alpha, batchSizes(windows, breachBatches))
}

func (m *mix) upper(alpha float64) float64 {
	return m.harm() + m.half(m.multiple(alpha), alpha, batchSizes(m.windows(), passBatches))
}

// quickBatch is how long the batches of an early look are: a sixth of the step. With quarters a large harm at few requests would
// wait for the 40th window, as a quantile of t with 3 degrees of freedom is three times as large as one with 5.
func quickBatch(windows int) int { return min(windows/6, batchWindows) }

// batchSizes are 10, 20, 30, 45, 67 windows and so on, by halves, while there are so many batches; 10 always.
func batchSizes(windows, least int) []int {
	sizes := []int{batchWindows}
	for size := 2 * batchWindows; windows/size >= least; size += max(batchWindows, size/2) {
		sizes = append(sizes, size)
	}
	return sizes
}

func (m *mix) harm() float64 { return m.rates[1] - m.rates[0] - m.baseline }

// estimate has the largest of the standard errors, and its degrees of freedom.
func (m *mix) estimate() Estimate {
	if len(m.parts) == 0 {
		return Estimate{}
	}
	var n float64
	for _, p := range m.parts {
		n += float64(p.totals[0].N + p.totals[1].N)
	}
	e := Estimate{Value: m.harm(), SE: m.binomial(), DF: n - 2, N: m.answered}
	if m.answered >= earliestWindows {
		if variance, df := m.batches(quickBatch(m.windows())); df >= 1 && variance > e.SE*e.SE {
			e.SE, e.DF = math.Sqrt(variance), df
		}
	}
	if m.df >= 1 && m.jackknife > e.SE {
		e.SE, e.DF = m.jackknife, m.df
	}
	return e
}
