package stats

import (
	"errors"
	"fmt"
	"math"
)

// Window is what both arms answered in one short span of time (10 s): requests, and those of them that were bad.
type Window struct{ Control, Treatment Proportion }

// Traffic is what both arms of one Service were asked in one step of the ramp.
type Traffic struct {
	Service string
	// Windows are all windows of the step by time, also those in which one arm or both answered nothing.
	Windows []Window
	// Buckets are requests and bad ones by bucket of units, control and treatment, over the whole step. A bucket has the
	// same index in every Service, because it has the same units. nil: not known, and then nothing is ever shown.
	Buckets [2][]Proportion
	// Baseline is what the same units did by bucket before anybody was treated. Optional.
	Baseline [2][]Proportion
}

// Verdict is what a guardrail says.
type Verdict string

const (
	Pass         Verdict = "pass"         // the harm is shown to be under the margin
	Breach       Verdict = "breach"       // the harm is shown to be over the margin
	Inconclusive Verdict = "inconclusive" // neither is shown: it holds, and never counts as a pass
)

const (
	// GuardrailWindows and GuardrailRequests (per arm) are when a guardrail may first pass.
	GuardrailWindows  = 30
	GuardrailRequests = 200
	// GuardrailPlanned is the number of windows at which the bounds are tightest.
	GuardrailPlanned = 100
	earliestWindows  = 6  // from which a breach may be shown
	batchWindows     = 10 // of the shortest batches of a step that is not early

	// Longer batches count while there are so many of them. Batches of 10 windows alone understate errors that wander for
	// minutes, by a factor of about 3 where the correlation from window to window is .95. But a breach must be quick: 3
	// batches, with 2 degrees of freedom, would miss a harm of 1 point at 100 requests/s after 20 minutes. A pass may wait.
	breachBatches = 8
	passBatches   = 3

	// recentShare is the part of the lower bound's alpha that looks for a harm that began within the step spend. It makes
	// the cumulative bound 2 % wider.
	recentShare = .2
	lateWidth   = 1.5 // of the half-width by batches since an onset
)

// HarmTest is a non-inferiority test of a share of bad requests that may be asked after every window: the treatment may
// make the share worse by less than Margin.
type HarmTest struct {
	Margin float64 // a difference of shares, more than 0: .005 is half a percentage point
	Alpha  float64 // the chance of a pass while the harm is the margin or more
	Of     int     // how many tests may roll the experiment back, guardrails times steps: they share Alpha/2 for that
}

// Comparison is how much worse the treatment answers the requests that the control was asked.
type Comparison struct {
	Verdict Verdict
	Early   bool // under 30 windows or 200 requests per arm: it can only breach
	// Harm is the difference of Rates, less the Baseline; N counts windows in which both arms answered. Zero while nothing
	// can be compared.
	Harm Estimate
	// Bounds of the harm are one-sided and hold at any look: Lower at Alpha/2/Of with Recent.Lower, Upper at Alpha.
	// Infinite while not known.
	Bounds Interval
	// Rates are the shares of bad requests in the control and the treatment, both standardised to the control's mix.
	Rates [2]float64
	// Baseline is the difference of the arms before anybody was treated, standardised alike; 0 without one. Based tells whether
	// one is taken off, of one Service at least: it takes 200 requests in each arm of it.
	Baseline float64
	Based    bool
	Recent   RecentHarm
}

// ServiceHarm is one Service judged alone. Where it is the only one, it has the figures of the whole.
type ServiceHarm struct {
	Service string
	Comparison
}

// LeftOut is a Service that is not judged: an arm had under 200 requests, or all of them from one bucket of units.
type LeftOut struct {
	Service string
	Share   float64 // of all requests of the control
}

// HarmResult is the comparison over all Services that can be compared, and of each of them. Its Verdict is a breach
// where the whole or any Service shows one.
type HarmResult struct {
	Comparison
	Control, Treatment Proportion // all requests of the step, also of the Services left out
	Harmed             []string   // the Services whose own result is a breach
	Services           []ServiceHarm
	LeftOut            []LeftOut
}

// Judge compares the arms in what one step of the ramp was asked so far. The harm is stratified by Service and
// standardised to the control's mix,
//
//	h = sum_s w_s (pT_s - pC_s), w_s the Service's share of the control's requests,
//
// so that a treatment that changes what is asked does not pass for harm. A baseline's h, of the same weights, is taken
// off. The half-width of a bound is the largest of three, because requests depend on each other in two ways:
//
//   - m SE_binomial, for independent requests; m is the one-sided Sequence's multiple over windows, planned for 100;
//   - t(K-1; 1-Phi(m)) SE_batch, from K batches of windows, for errors that come in bursts;
//   - t(df; alpha/2) SE_jackknife, from the buckets of units, for units that differ and stay as they are. They were drawn
//     once, so looking again does not add to the chance of an error.
//
// Without two buckets of units in each arm, or with df < 1, nothing is shown. Lower > Margin is a breach, Upper < Margin
// a pass. Batches are of 10, 20, 30, 45, 67 windows and so on, and the widest counts: for Lower while there are 8 of
// them, for Upper, from 30 windows on, while there are 3. From 6 to 39 windows Lower takes batches of a sixth of the
// step, and twice the half-width.
//
// A harm that began within the step widens these batches itself. So the windows since each minute are judged as a step of
// their own as well, as long as that is 6 windows or more, with the batches before that minute telling how much batches
// differ. They share a fifth of Alpha/2/Of: the j-th minute has 1/(j(j+1)) of it. Every Service is also judged alone, at
// alpha divided by their number.
// Sources: Cochran, "Sampling Techniques" (standardisation); Law, Kelton, "Simulation Modeling and Analysis" (batch
// means); Efron, Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
func (g HarmTest) Judge(traffic []Traffic) (HarmResult, error) {
	if err := errors.Join(g.valid(), checkTraffic(traffic)); err != nil {
		return HarmResult{}, err
	}
	var result HarmResult
	var parts []part
	for i := range traffic {
		p, err := newPart(&traffic[i])
		if err != nil {
			return HarmResult{}, err
		}
		result.Control, result.Treatment = plus(result.Control, p.totals[0]), plus(result.Treatment, p.totals[1])
		if err := errors.Join(of("control", result.Control.requests()), of("treatment", result.Treatment.requests())); err != nil {
			return HarmResult{}, fmt.Errorf("all Services: %w", err)
		}
		if p.comparable() {
			parts = append(parts, p)
		} else {
			result.LeftOut = append(result.LeftOut, LeftOut{p.Service, float64(p.totals[0].N)})
		}
	}
	for i := range result.LeftOut {
		result.LeftOut[i].Share /= max(1, float64(result.Control.N))
	}
	result.Comparison = g.compare(parts, 1)
	for i, p := range parts {
		own := ServiceHarm{p.Service, result.Comparison}
		if len(parts) > 1 {
			own.Comparison = g.compare(parts[i:i+1], len(parts))
		}
		result.Services = append(result.Services, own)
	}
	for _, s := range result.Services {
		if s.Verdict == Breach {
			result.Verdict, result.Harmed = Breach, append(result.Harmed, s.Service)
		}
	}
	return result, nil
}

func (g HarmTest) valid() error {
	err := checkAlpha(g.Alpha)
	if !(g.Margin > 0 && g.Margin < 1) {
		err = errors.Join(err, fmt.Errorf("margin %v: expected a difference of shares of more than 0 and less than 1", g.Margin))
	}
	if g.Of < 1 || g.Of > maxTests {
		err = errors.Join(err, fmt.Errorf("one of %d guardrails and steps: expected 1 to %d", g.Of, maxTests))
	}
	return err
}

const maxTests = 1_000_000 // a demand past any experiment

// compare judges some Services together, as one of so many comparisons that share alpha.
func (g HarmTest) compare(parts []part, among int) Comparison {
	m := newMix(parts, g.Margin)
	m.answered = answered(parts)
	a := g.Alpha / 2 / float64(g.Of*among)
	c := Comparison{
		Verdict: Inconclusive, Early: m.answered < GuardrailWindows, Rates: m.rates, Baseline: m.baseline, Based: m.based,
		Harm: m.estimate(), Bounds: Interval{math.Inf(-1), math.Inf(1)}, Recent: g.recent(parts, a*recentShare),
	}
	if m.rates[0]+g.Margin >= 1 { // so much of the control fails that no harm can be over the margin
		return c
	}
	c.Bounds.Lower = m.lower(a * (1 - recentShare))
	if !c.Early {
		c.Bounds.Upper = m.upper(g.Alpha / float64(among))
	}
	switch {
	case max(c.Bounds.Lower, c.Recent.Lower) > g.Margin:
		c.Verdict = Breach
	case c.Bounds.Upper < g.Margin:
		c.Verdict = Pass
	}
	return c
}
