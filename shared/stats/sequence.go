package stats

import (
	"errors"
	"fmt"
	"math"
)

// Sequence is an asymptotic confidence sequence: its interval holds at every look at once with probability 1 - Alpha,
// so an experiment may be looked at, and stopped, at any time. It is tightest when Planned units have completed, and
// Planned is frozen before the first look.
//
// With N units and sigma^2 = SE^2 N:
//
//	rho        = sqrt((-2 ln alpha + ln(-2 ln alpha + 1))/Planned)
//	half-width = sigma sqrt(2 (N rho^2 + 1)/(N^2 rho^2) ln(sqrt(N rho^2 + 1)/alpha))
//
// It assumes units that count once, with a final value, and as many of them as a normal approximation needs (100 per
// arm here, and Spread.Sequence; simulated in the tests).
//
// Callers store the smallest P of the looks so far as they look, and report that. Nothing is recomputed later: past
// looks cannot be repeated once windows have closed since, and another grid of looks would give another figure.
// The interval is the current look's.
// Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
// sequences", arXiv 2103.06476, theorem 2.2; its appendix has the one-sided one.
type Sequence struct {
	Planned int64
	Alpha   float64
}

// Interval is the two-sided confidence sequence at this look. Errors: ErrNoVariance where SE is 0.
func (s Sequence) Interval(e Estimate) (Interval, error) { return s.IntervalAt(e, s.Alpha) }

// IntervalAt is Interval at another alpha, tuned by the Alpha that P is tuned by: it excludes 0 exactly where P is at
// most alpha. Errors: those of Interval.
func (s Sequence) IntervalAt(e Estimate, alpha float64) (Interval, error) {
	if err := errors.Join(s.check(e), checkAlpha(alpha)); err != nil {
		return Interval{}, err
	}
	half := e.SE * s.multipleAt(e.N, alpha)
	return Interval{e.Value - half, e.Value + half}, nil
}

// Lower is the one-sided confidence sequence from below: the figure is above it at every look with probability
// 1 - Alpha. Its distance from Value is sqrt(2 sigma^2 (N rho^2 + 1)/(N rho)^2 ln(1 + sqrt(N rho^2 + 1)/(2 alpha))).
// Errors: ErrNoVariance where SE is 0.
func (s Sequence) Lower(e Estimate) (float64, error) {
	if err := s.check(e); err != nil {
		return 0, err
	}
	return e.Value - e.SE*s.oneSided(e.N), nil
}

// Upper is Lower's mirror image.
func (s Sequence) Upper(e Estimate) (float64, error) {
	if err := s.check(e); err != nil {
		return 0, err
	}
	return e.Value + e.SE*s.oneSided(e.N), nil
}

// P is the always-valid p-value of "the figure is 0" at this look: min(1, sqrt(N rho^2 + 1) exp(-rho^2 S/(2 (N rho^2 +
// 1)))), S = Value^2 N/SE^2, at most Alpha exactly where Interval excludes 0. The smallest over the looks so far is
// valid too: callers store it, and a report shows it. Alpha only tunes rho. Errors: ErrNoVariance where SE is 0.
func (s Sequence) P(e Estimate) (float64, error) {
	if err := s.check(e); err != nil {
		return 0, err
	}
	k := float64(e.N) * s.rho2() // N rho^2
	return min(1, math.Exp(math.Log1p(k)/2-square(e.Value/e.SE)*(k/(k+1))/2)), nil
}

// Multiple is how many standard errors wide each side of Interval is at the planned end: 3.04 at alpha .05. It is the
// price of looking at any time, against the 1.96 of looking once.
func (s Sequence) Multiple() (float64, error) {
	if err := s.valid(); err != nil {
		return 0, err
	}
	return s.multiple(s.Planned), nil
}

func (s Sequence) rho2() float64 {
	l := -2 * math.Log(s.Alpha)
	return (l + math.Log1p(l)) / float64(s.Planned)
}

// multiple is half-width/SE: sigma/SE is sqrt(N), which cancels.
func (s Sequence) multiple(n int64) float64 { return s.multipleAt(n, s.Alpha) }

func (s Sequence) multipleAt(n int64, alpha float64) float64 {
	k := float64(n) * s.rho2()
	return math.Sqrt(2 * (k + 1) / k * (math.Log1p(k)/2 - math.Log(alpha)))
}

func (s Sequence) oneSided(n int64) float64 {
	k := float64(n) * s.rho2()
	return math.Sqrt(2 * (k + 1) / k * math.Log1p(math.Sqrt(k+1)/(2*s.Alpha)))
}

func (s Sequence) valid() error {
	err := checkAlpha(s.Alpha)
	if s.Planned < 1 {
		err = errors.Join(err, fmt.Errorf("%d units planned: expected 1 or more", s.Planned))
	}
	return err
}

func (s Sequence) check(e Estimate) error { return errors.Join(s.valid(), e.check()) }

// NormalMixture is the two-sided boundary of a sum of independent, sub-Gaussian (or, asymptotically, any) deviations
// with intrinsic time v, the sum of their variances: |sum| stays below Bound(v) at every v with probability 1 - Alpha.
//
//	rho   = Planned/(2 ln(1/alpha) + ln(1 + 2 ln(1/alpha)))
//	bound = sqrt((v + rho)(ln(1 + v/rho) + 2 ln(1/alpha)))
//
// Planned, the v at which it is tightest, has the unit of v: the metric's, squared.
// Source: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals
// of Statistics 49, 2021 (arXiv 1810.08240), equation 14.
type NormalMixture struct{ Planned, Alpha float64 }

// Rho is the tuning parameter.
func (m NormalMixture) Rho() (float64, error) {
	err := checkAlpha(m.Alpha)
	if !finite(m.Planned) || m.Planned <= 0 {
		err = errors.Join(err, fmt.Errorf("planned intrinsic time %v: expected more than 0", m.Planned))
	}
	if err != nil {
		return 0, err
	}
	l := -2 * math.Log(m.Alpha)
	if rho := m.Planned / (l + math.Log1p(l)); finite(rho) && rho > 0 {
		return rho, nil
	}
	return 0, fmt.Errorf("planned intrinsic time %v at alpha %v: figures too large or too small to compute with", m.Planned, m.Alpha)
}

// Bound is the boundary at intrinsic time v, in the unit of the sum.
func (m NormalMixture) Bound(v float64) (float64, error) {
	rho, err := m.Rho()
	if err != nil {
		return 0, err
	}
	if !finite(v) || v < 0 {
		return 0, fmt.Errorf("intrinsic time %v: expected 0 or more", v)
	}
	bound := math.Sqrt(v+rho) * math.Sqrt(math.Log1p(v/rho)-2*math.Log(m.Alpha))
	if !finite(bound) {
		return 0, fmt.Errorf("intrinsic time %v, planned %v: figures too large to compute with", v, m.Planned)
	}
	return bound, nil
}
