package stats

import (
	"errors"
	"fmt"
)

// part is one Service's traffic in some windows of a step.
type part struct {
	*Traffic
	sums     [2][]Proportion // of the step's windows up to each one
	from, to int             // the windows of this part
	totals   [2]Proportion   // of these windows
	buckets  [2]Proportion   // of Buckets
	baseline [2]Proportion   // of Baseline; zero where it has too little to be taken off
	weight   float64         // its share of the control's requests in the mix
}

// newPart has all windows of the step.
func newPart(t *Traffic) (part, error) {
	p := part{Traffic: t, to: len(t.Windows)}
	for arm := range p.sums {
		p.sums[arm] = make([]Proportion, len(t.Windows)+1)
	}
	for i, w := range t.Windows {
		p.totals[0], p.totals[1] = plus(p.totals[0], w.Control), plus(p.totals[1], w.Treatment)
		p.sums[0][i+1], p.sums[1][i+1] = p.totals[0], p.totals[1]
		if !w.Control.counts() || !w.Treatment.counts() || !p.totals[0].counts() || !p.totals[1].counts() {
			err := errors.Join(of("control", w.Control.requests()), of("treatment", w.Treatment.requests()))
			if err == nil {
				err = errors.New("more than 2^53 requests up to there")
			}
			return part{}, fmt.Errorf("%s: window %d: %w", t.Service, i, err)
		}
	}
	for arm, name := range [2]string{"control", "treatment"} {
		var err error
		if p.buckets[arm], err = total(t.Buckets[arm]); err != nil {
			return part{}, fmt.Errorf("%s: %s: %w", t.Service, name, err)
		}
		if p.baseline[arm], err = total(t.Baseline[arm]); err != nil {
			return part{}, fmt.Errorf("%s: baseline: %s: %w", t.Service, name, err)
		}
	}
	if !enough(p.baseline) || crowded(t.Baseline) {
		p.baseline = [2]Proportion{}
	}
	return p, nil
}

// within is the same Service in some windows of the step.
func (p part) within(from, to int) part {
	p.from, p.to = from, to
	p.totals = [2]Proportion{p.between(0, from, to), p.between(1, from, to)}
	return p
}

// between is what an arm answered in some windows of the step.
func (p *part) between(arm, from, to int) Proportion { return less(p.sums[arm][to], p.sums[arm][from]) }

// answered counts the windows in which both arms answered something, of any Service.
func answered(parts []part) (windows int64) {
	if len(parts) == 0 {
		return 0
	}
	for i := parts[0].from; i < parts[0].to; i++ {
		var n [2]int64
		for k := range parts {
			w := parts[k].Windows[i]
			n[0], n[1] = n[0]+w.Control.N, n[1]+w.Treatment.N
		}
		if n[0] > 0 && n[1] > 0 {
			windows++
		}
	}
	return windows
}

// comparable tells whether an arm's rate means something. Where buckets are not known, the Service stays in the mix and
// keeps it from being decided.
func (p part) comparable() bool { return enough(p.totals) && (!p.known() || !crowded(p.Buckets)) }

func (p part) known() bool { return p.buckets[0].N > 0 && p.buckets[1].N > 0 }

func enough(arms [2]Proportion) bool { return min(arms[0].N, arms[1].N) >= GuardrailRequests }

// crowded tells whether an arm's requests all came from one bucket of units: nothing is known of how units differ.
func crowded(arms [2][]Proportion) bool {
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

func less(a, b Proportion) Proportion { return Proportion{a.Successes - b.Successes, a.N - b.N} }

func total(buckets []Proportion) (sum Proportion, err error) {
	for i, b := range buckets {
		sum = plus(sum, b)
		if err := errors.Join(b.requests(), sum.requests()); err != nil {
			return Proportion{}, fmt.Errorf("bucket %d: %w", i, err)
		}
	}
	return sum, nil
}

// requests is check where having had none is no mistake.
func (p Proportion) requests() error {
	if err := p.check(); !errors.Is(err, ErrTooFew) {
		return err
	}
	return nil
}

func (p Proportion) counts() bool { return 0 <= p.Successes && p.Successes <= p.N && p.N <= maxCount }

// checkTraffic wants Services that can be laid side by side: by window and by bucket.
func checkTraffic(traffic []Traffic) (err error) {
	named := map[string]bool{}
	for _, t := range traffic {
		if named[t.Service] {
			err = errors.Join(err, fmt.Errorf("%q: given twice", t.Service))
		}
		named[t.Service] = true
		if n, m := len(traffic[0].Windows), len(t.Windows); n != m {
			err = errors.Join(err, fmt.Errorf("%s: %d windows: expected %d, as %s has", t.Service, m, n, traffic[0].Service))
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
