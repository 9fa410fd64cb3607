package stats

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Window is what both arms answered in one short span of time (10 s): requests, and those of them that were bad.
type Window struct{ Control, Treatment Proportion }

// Verdict is what a guardrail says.
type Verdict string

const (
	Pass         Verdict = "pass"         // the harm is shown to be under the margin
	Breach       Verdict = "breach"       // the harm is shown to be over the margin
	Inconclusive Verdict = "inconclusive" // neither is shown: it holds, and never counts as a pass
)

// Guardrail watches a share of bad requests, which the treatment may make worse by Margin at most.
type Guardrail struct {
	Margin float64 // a difference of shares, more than 0: .005 is half a percentage point
	Alpha  float64 // the chance of a pass while the harm is the margin or more
	Of     int     // how many guardrails may roll the experiment back; they share Alpha for that
}

// GuardrailResult is a verdict and the figures it rests on.
type GuardrailResult struct {
	Verdict            Verdict
	Early              bool     // too few windows or requests for anything but Inconclusive
	Harm               Estimate // treatment minus control; N counts windows. Zero where nothing could be compared
	Bounds             Interval // Lower at Alpha/Of, Upper at Alpha, each one-sided. Zero while not judged
	Control, Treatment Proportion
}

const (
	// GuardrailWindows and GuardrailRequests (per arm) are when a guardrail first decides.
	GuardrailWindows  = 30
	GuardrailRequests = 200
	// GuardrailPlanned is the number of windows at which its bounds are tightest.
	GuardrailPlanned = 100

	batchWindows = 10
)

// Judge may be asked after every window; windows are in order of time, and those in which an arm answered nothing are
// passed over. The harm is the mean over windows of h = pB - pA, weighted by nA nB/(nA + nB) (Mantel-Haenszel), so that
// a change of traffic or of the background does not pass for a difference of the arms. Its variance is the larger of
//
//   - that of batches of 10 windows (the last has up to 19), as clusters, which sees that errors come in bursts
//     (Pairs.Ratio), and
//   - the binomial one, with max(pB, pA + Margin) for pB, or no errors at all would prove anything.
//
// Bounds are one-sided Sequences over windows, planned for 100. Few batches know their own variance badly (at the first
// look there are three), so theirs is multiplied by the quantile of t, K - 1 degrees of freedom, that has the tail of
// the sequence's multiple. Lower > Margin is a breach, Upper < Margin a pass.
// Source: Greenland, Robins, "Estimation of a common effect parameter from sparse follow-up data", Biometrics 41, 1985;
// Law, Kelton, "Simulation Modeling and Analysis" (batch means).
func (g Guardrail) Judge(windows []Window) (GuardrailResult, error) {
	err := checkAlpha(g.Alpha)
	if !(g.Margin > 0 && g.Margin < 1) {
		err = errors.Join(err, fmt.Errorf("margin %v: expected a difference of shares of more than 0 and less than 1", g.Margin))
	}
	if g.Of < 1 {
		err = errors.Join(err, fmt.Errorf("one of %d guardrails: expected 1 or more", g.Of))
	}
	if err != nil {
		return GuardrailResult{}, err
	}
	sums, err := sumWindows(windows)
	if err != nil {
		return GuardrailResult{}, err
	}
	result := GuardrailResult{Verdict: Inconclusive, Control: sums.control, Treatment: sums.treatment}
	result.Early = sums.n < GuardrailWindows || min(sums.control.N, sums.treatment.N) < GuardrailRequests
	batches, err := sums.batches.Ratio()
	if errors.Is(err, ErrTooFew) {
		return result, nil
	} else if err != nil {
		return GuardrailResult{}, err
	}
	binomial := sums.binomialSE(g.Margin)
	result.Harm = Estimate{Value: batches.Value, SE: max(batches.SE, binomial), DF: batches.DF, N: sums.n}
	if result.Early || sums.control.share()+g.Margin >= 1 { // so much of the control fails that no harm could be over the margin
		return result, nil
	}
	half := func(alpha float64) float64 {
		multiple := Sequence{Planned: GuardrailPlanned, Alpha: alpha}.oneSided(sums.n)
		return max(multiple*binomial, batches.SE*studentQuantile(distuv.UnitNormal.Survival(multiple), batches.DF))
	}
	result.Bounds = Interval{batches.Value - half(g.Alpha/float64(g.Of)), batches.Value + half(g.Alpha)}
	switch {
	case result.Bounds.Lower > g.Margin:
		result.Verdict = Breach
	case result.Bounds.Upper < g.Margin:
		result.Verdict = Pass
	}
	return result, nil
}

// windowSums are what a guardrail needs of its windows.
type windowSums struct {
	n                  int64
	control, treatment Proportion
	batches            Pairs   // y: weighted differences, x: weights
	perA, perB         float64 // sums of weight^2/n, which the binomial variances are multiples of
}

func sumWindows(windows []Window) (windowSums, error) {
	var s windowSums
	var held, batch struct{ y, x float64 } // the last whole batch, and what follows it
	for i, w := range windows {
		if err := errors.Join(of("control", w.Control.requests()), of("treatment", w.Treatment.requests())); err != nil {
			return windowSums{}, fmt.Errorf("window %d: %w", i, err)
		}
		if w.Control.N == 0 || w.Treatment.N == 0 {
			continue
		}
		na, nb := float64(w.Control.N), float64(w.Treatment.N)
		weight := na / (na + nb) * nb
		batch.y, batch.x = batch.y+weight*(w.Treatment.share()-w.Control.share()), batch.x+weight
		s.perA, s.perB = s.perA+weight*(weight/na), s.perB+weight*(weight/nb)
		s.control = Proportion{s.control.Successes + w.Control.Successes, s.control.N + w.Control.N}
		s.treatment = Proportion{s.treatment.Successes + w.Treatment.Successes, s.treatment.N + w.Treatment.N}
		if err := proportions(s.control, s.treatment); err != nil {
			return windowSums{}, fmt.Errorf("all windows to %d: %w", i, err)
		}
		if s.n++; s.n%batchWindows == 0 {
			if held.x > 0 {
				s.batches.Add(held.y, held.x)
			}
			held, batch.y, batch.x = batch, 0, 0
		}
	}
	if x := held.x + batch.x; x > 0 { // a short batch of its own would pass for a degree of freedom
		s.batches.Add(held.y+batch.y, x)
	}
	return s, nil
}

// requests is check where having had none is no mistake.
func (p Proportion) requests() error {
	if err := p.check(); !errors.Is(err, ErrTooFew) {
		return err
	}
	return nil
}

// binomialSE is the standard error of the harm if requests fail independently of each other, and the treatment as much
// as the margin allows.
func (s windowSums) binomialSE(margin float64) float64 {
	pa := s.control.share()
	pb := max(s.treatment.share(), min(1, pa+margin))
	return math.Sqrt(pa*(1-pa)*s.perA+pb*(1-pb)*s.perB) / s.batches.SumX
}
