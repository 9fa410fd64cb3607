package stats

import (
	"errors"
	"fmt"
	"math"
)

// Period has the requests that each arm answered in one count period, which is 10 s. Successes counts the bad requests, as
// everywhere in Traffic.
type Period struct{ Control, Treatment Proportion }

// Traffic counts the requests of one Service in one step of the ramp.
type Traffic struct {
	Service string
	// Periods has all count periods of the step in order of time, including those in which an arm, or both, answered nothing.
	Periods []Period
	// Buckets counts the requests of the whole step by bucket of units, for control and treatment. A bucket has the same
	// index in every Service, because it has the same units. nil means that buckets are not known. Then there is neither a
	// breach nor a pass.
	Buckets [2][]Proportion
	// Baseline counts the requests of the same units by bucket before anybody was treated. Optional.
	Baseline [2][]Proportion
}

// Finding is what a guardrail has found out about the harm.
type Finding string

const (
	Pass         Finding = "pass"         // the harm is shown to be under the margin
	Breach       Finding = "breach"       // the harm is shown to be over the margin
	Inconclusive Finding = "inconclusive" // neither is shown. The ramp waits; this never counts as a pass
)

const (
	// A guardrail may pass only with GuardrailPeriods periods or more, and with GuardrailRequests requests or more in each
	// arm.
	GuardrailPeriods  = 30
	GuardrailRequests = 200
	// GuardrailPlanned is the number of periods at which the bounds are tightest.
	GuardrailPlanned = 100

	earliestPeriods = 6  // with fewer periods no breach is found
	batchPeriods    = 10 // the number of periods in the shortest batches, except early in a step

	// Longer batches are used while a step has at least this many of them. Batches of 10 periods alone understate errors that
	// wander for minutes: by a factor of about 3 if the correlation from one period to the next is .95. A breach must be
	// found quickly, so its bound uses a length only while there are more batches of it: with 3 batches, which give 2 degrees
	// of freedom, a harm of 1 point at 100 requests/s would still be missed after 20 minutes. A pass may wait.
	breachBatches = 8
	passBatches   = 3

	// recentShare is the share of the lower bound's alpha that is spent on finding a harm that began within the step. It
	// makes the lower bound of the whole step 2 % wider.
	recentShare = .2
	lateWidth   = 1.5 // factor of the half-width by batches since an onset
)

// HarmTest tests whether the treatment makes a share of bad requests worse by less than Margin (a non-inferiority test). Its
// answer may be read after every period.
type HarmTest struct {
	Margin float64 // a difference of shares, more than 0: .005 is half a percentage point
	Alpha  float64 // the probability of a pass if the harm is the margin or more
	Tests  int     // number of tests that may roll the experiment back, guardrails times steps: they share Alpha/2 for this
}

// Comparison says how much worse the treatment is than the control, if both had the control's mix of Services.
type Comparison struct {
	Finding Finding
	Early   bool // under 30 periods or 200 requests per arm: no pass is possible yet
	// Harm is the difference of Rates minus the Baseline. Its N counts the periods in which both arms answered. It is zero
	// while nothing can be compared.
	Harm Estimate
	// Bounds of the harm are one-sided and hold at all looks together. Lower and Recent.Lower share Alpha/2/Tests; Upper has
	// Alpha. A bound is infinite while it is not known.
	Bounds Interval
	// Rates are the shares of bad requests in the control and the treatment, both standardised to the control's mix.
	Rates [2]float64
	// Baseline is the difference of the arms before anybody was treated, standardised in the same way. HasBaseline says
	// whether any Service has a baseline; a baseline needs 200 requests in each arm. Baseline is 0 if no Service has one.
	Baseline    float64
	HasBaseline bool
	Recent      RecentHarm
}

// ServiceHarm is the comparison of one Service alone. If there is no other Service, it equals the comparison of all.
type ServiceHarm struct {
	Service string
	Comparison
}

// LeftOut is a Service that is not judged, because an arm had under 200 requests, or all of them from one bucket of units.
type LeftOut struct {
	Service string
	Share   float64 // of all requests of the control
}

// HarmResult has the comparison over all Services that can be compared, and of each of them. Finding is a breach if all
// Services together show one, or any Service alone.
type HarmResult struct {
	Comparison
	Control, Treatment Proportion // all requests of the step, including those of the Services left out
	Harmed             []string   // the Services that show a breach alone
	Services           []ServiceHarm
	LeftOut            []LeftOut
}

// Judge compares the arms by the requests of one step so far. The harm is computed within each Service and added up with the
// control's mix of Services as weights:
//
//	h = sum_s w_s (pT_s - pC_s), w_s the Service's share of the control's requests
//
// So a treatment that only changes how often each Service is asked does not look harmful. If there is a baseline, its h with
// the same weights is subtracted. The half-width of a bound is the largest of three, because requests depend on each other in
// two ways:
//
//   - m SE_binomial, for independent requests; m is the multiple of a one-sided Sequence over periods, planned for 100;
//   - t(K-1; 1-Phi(m)) SE_batch, from K batches of periods, for errors that come in bursts;
//   - t(df; alpha/2) SE_jackknife, from the buckets of units, for units that differ and do not change. Units were drawn once,
//     so further looks do not add to the probability of an error.
//
// Lower > Margin is a breach, and Upper < Margin is a pass. Neither is possible if an arm has fewer than two buckets of units
// with requests, or if df < 1.
//
// Batches have 10, 20, 30, 45, 67 periods and so on. Each length is tried, and the widest bound counts. Lower uses a length
// while the step has at least 8 batches of it. Upper uses a length while the step has at least 3, and only from 30 periods
// on. From 6 to 39 periods, Lower uses batches of a sixth of the step, and twice the half-width.
//
// A harm that begins within the step makes these batches differ more, and so hides itself. Therefore the periods since each
// minute are also judged as a separate step, if there are 6 or more of them. (Of the minutes long ago, only every second one
// is judged, then every fourth one, and so on.) The batches before the minute also show how much batches differ. All these
// minutes share a fifth of Alpha/2/Tests: the j-th minute of the step has 1/(j(j+1)) of it.
//
// Each Service is also judged alone, at alpha divided by the number of Services.
// Sources: Cochran, "Sampling Techniques" (standardisation); Law, Kelton, "Simulation Modeling and Analysis" (batch
// means); Efron, Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
func (g HarmTest) Judge(traffic []Traffic) (HarmResult, error) {
	if err := errors.Join(g.check(), checkTraffic(traffic)); err != nil {
		return HarmResult{}, err
	}
	var result HarmResult
	parts, err := result.addTraffic(traffic)
	if err != nil {
		return HarmResult{}, err
	}
	result.Comparison = g.compare(parts, 1)
	for i, p := range parts {
		alone := result.Comparison
		if len(parts) > 1 {
			alone = g.compare(parts[i:i+1], len(parts))
		}
		result.Services = append(result.Services, ServiceHarm{p.Service, alone})
	}
	for _, s := range result.Services {
		if s.Finding == Breach {
			result.Finding, result.Harmed = Breach, append(result.Harmed, s.Service)
		}
	}
	return result, nil
}

// addTraffic adds up all requests, and returns the Services that can be compared. It lists the others in LeftOut.
func (r *HarmResult) addTraffic(traffic []Traffic) (parts []part, err error) {
	for i := range traffic {
		p, err := newPart(&traffic[i])
		if err != nil {
			return nil, err
		}
		r.Control, r.Treatment = plus(r.Control, p.totals[0]), plus(r.Treatment, p.totals[1])
		if err := errors.Join(withName("control", r.Control.checkCounts()), withName("treatment", r.Treatment.checkCounts())); err != nil {
			return nil, fmt.Errorf("all Services: %w", err)
		}
		if p.canBeCompared() {
			parts = append(parts, p)
		} else {
			r.LeftOut = append(r.LeftOut, LeftOut{Service: p.Service, Share: float64(p.totals[0].N)}) // divided below
		}
	}
	for i := range r.LeftOut {
		r.LeftOut[i].Share /= max(1, float64(r.Control.N))
	}
	return parts, nil
}

func (g HarmTest) check() error {
	err := checkAlpha(g.Alpha)
	if !(g.Margin > 0 && g.Margin < 1) {
		err = errors.Join(err, fmt.Errorf("margin %v: expected a difference of shares of more than 0 and less than 1", g.Margin))
	}
	if g.Tests < 1 || g.Tests > maxTests {
		err = errors.Join(err, fmt.Errorf("%d tests of guardrails and steps: expected 1 to %d", g.Tests, maxTests))
	}
	return err
}

const maxTests = 1_000_000 // more than any experiment needs

// compare judges some Services together. comparisons is the number of comparisons that share alpha, including this one.
func (g HarmTest) compare(parts []part, comparisons int) Comparison {
	m := newMix(parts, g.Margin)
	m.answered = answeredPeriods(parts)
	breachAlpha := g.Alpha / 2 / float64(g.Tests*comparisons)
	c := Comparison{
		Finding: Inconclusive, Early: m.answered < GuardrailPeriods, Rates: m.rates, Baseline: m.baseline, HasBaseline: m.hasBaseline,
		Harm: m.estimate(), Bounds: Interval{math.Inf(-1), math.Inf(1)}, Recent: g.recentHarm(parts, breachAlpha*recentShare),
	}
	if m.rates[0]+g.Margin >= 1 { // so much of the control fails that no harm can be over the margin
		return c
	}
	c.Bounds.Lower = m.lowerBound(breachAlpha * (1 - recentShare))
	if !c.Early {
		c.Bounds.Upper = m.upperBound(g.Alpha / float64(comparisons))
	}
	switch {
	case max(c.Bounds.Lower, c.Recent.Lower) > g.Margin:
		c.Finding = Breach
	case c.Bounds.Upper < g.Margin:
		c.Finding = Pass
	}
	return c
}
