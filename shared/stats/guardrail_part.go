package stats

import (
	"errors"
	"fmt"
)

// part has one Service's traffic in some periods of a step.
type part struct {
	*Traffic
	sums     [2][]Proportion // sums[arm][i] has the arm's requests in the step's first i periods
	from, to int             // the periods of this part
	totals   [2]Proportion   // in these periods
	buckets  [2]Proportion   // sums of Buckets
	baseline [2]Proportion   // sums of Baseline; zero if it is too small to be subtracted
	weight   float64         // its share of the control's requests in the mix
}

// newPart returns a part with all periods of the step.
func newPart(t *Traffic) (part, error) {
	p := part{Traffic: t, to: len(t.Periods)}
	if err := p.sumPeriods(); err != nil {
		return part{}, fmt.Errorf("%s: %w", t.Service, err)
	}
	for arm, name := range [2]string{"control", "treatment"} {
		var err error
		if p.buckets[arm], err = sumBuckets(t.Buckets[arm]); err != nil {
			return part{}, fmt.Errorf("%s: %s: %w", t.Service, name, err)
		}
		if p.baseline[arm], err = sumBuckets(t.Baseline[arm]); err != nil {
			return part{}, fmt.Errorf("%s: baseline: %s: %w", t.Service, name, err)
		}
	}
	if !haveEnough(p.baseline) || inOneBucket(t.Baseline) {
		p.baseline = [2]Proportion{}
	}
	return p, nil
}

func (p *part) sumPeriods() error {
	for arm := range p.sums {
		p.sums[arm] = make([]Proportion, len(p.Periods)+1)
	}
	for i, w := range p.Periods {
		p.totals[0], p.totals[1] = plus(p.totals[0], w.Control), plus(p.totals[1], w.Treatment)
		p.sums[0][i+1], p.sums[1][i+1] = p.totals[0], p.totals[1]
		if !w.Control.valid() || !w.Treatment.valid() || !p.totals[0].valid() || !p.totals[1].valid() {
			err := errors.Join(withName("control", w.Control.checkCounts()), withName("treatment", w.Treatment.checkCounts()))
			if err == nil {
				err = errors.New("more than 2^53 requests up to this period")
			}
			return fmt.Errorf("period %d: %w", i, err)
		}
	}
	return nil
}

// restrict returns the same Service in some periods of the step.
func (p part) restrict(from, to int) part {
	p.from, p.to = from, to
	p.totals = [2]Proportion{p.requests(0, from, to), p.requests(1, from, to)}
	return p
}

// requests returns the requests of an arm in some periods of the step.
func (p *part) requests(arm, from, to int) Proportion {
	return minus(p.sums[arm][to], p.sums[arm][from])
}

// answeredPeriods counts the periods in which both arms answered a request, of any Service.
func answeredPeriods(parts []part) (periods int64) {
	if len(parts) == 0 {
		return 0
	}
	for i := parts[0].from; i < parts[0].to; i++ {
		var n [2]int64
		for k := range parts {
			w := parts[k].Periods[i]
			n[0], n[1] = n[0]+w.Control.N, n[1]+w.Treatment.N
		}
		if n[0] > 0 && n[1] > 0 {
			periods++
		}
	}
	return periods
}

// canBeCompared reports whether the arms' rates mean anything. A Service whose buckets are not known stays in the mix, so that
// the mix is inconclusive.
func (p part) canBeCompared() bool {
	return haveEnough(p.totals) && (!p.bucketsKnown() || !inOneBucket(p.Buckets))
}

func (p part) bucketsKnown() bool { return p.buckets[0].N > 0 && p.buckets[1].N > 0 }

func haveEnough(arms [2]Proportion) bool { return min(arms[0].N, arms[1].N) >= GuardrailRequests }

// inOneBucket reports whether an arm's requests all came from one bucket of units. Then nothing shows how much units differ.
func inOneBucket(arms [2][]Proportion) bool {
	for _, buckets := range arms {
		used := 0
		for _, b := range buckets {
			if b.N > 0 {
				used++
			}
		}
		if used < 2 {
			return true
		}
	}
	return false
}

func plus(a, b Proportion) Proportion { return Proportion{a.Successes + b.Successes, a.N + b.N} }

func minus(a, b Proportion) Proportion { return Proportion{a.Successes - b.Successes, a.N - b.N} }

func sumBuckets(buckets []Proportion) (sum Proportion, err error) {
	for i, b := range buckets {
		sum = plus(sum, b)
		if err := errors.Join(b.checkCounts(), sum.checkCounts()); err != nil {
			return Proportion{}, fmt.Errorf("bucket %d: %w", i, err)
		}
	}
	return sum, nil
}

// checkTraffic expects Services with the same periods and the same buckets.
func checkTraffic(traffic []Traffic) (err error) {
	seen := map[string]bool{}
	for _, t := range traffic {
		if seen[t.Service] {
			err = errors.Join(err, fmt.Errorf("%q: listed twice, expected each Service once", t.Service))
		}
		seen[t.Service] = true
		if n, m := len(traffic[0].Periods), len(t.Periods); n != m {
			err = errors.Join(err, fmt.Errorf("%s: %d periods: expected %d, as %s has", t.Service, m, n, traffic[0].Service))
		}
		err = errors.Join(err, checkBuckets(t, traffic[0]))
	}
	return err
}

func checkBuckets(t, first Traffic) (err error) {
	control, treatment := len(t.Buckets[0]), len(t.Buckets[1])
	if control != treatment || control > 0 && len(first.Buckets[0]) > 0 && control != len(first.Buckets[0]) {
		err = fmt.Errorf("%s: %d and %d buckets: expected the same number everywhere", t.Service, control, treatment)
	}
	for arm, buckets := range t.Baseline {
		if len(buckets) > 0 && len(buckets) != len(t.Buckets[arm]) || len(buckets) != len(t.Baseline[0]) {
			err = errors.Join(err, fmt.Errorf("%s: baseline of %d buckets: expected %d", t.Service, len(buckets), len(t.Buckets[arm])))
		}
	}
	return err
}
