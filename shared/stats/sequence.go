package stats

import (
	"errors"
	"fmt"
	"math"
)

// Sequence is an asymptotic confidence sequence: with probability 1 - Alpha, its intervals contain the true value at all
// looks together. So an experiment may be looked at, and stopped, at any time. The interval is tightest when Planned units
// have completed. Planned must be fixed before the first look.
//
// With N units and sigma^2 = SE^2 N:
//
//	rho        = sqrt((-2 ln alpha + ln(-2 ln alpha + 1))/Planned)
//	half-width = sigma sqrt(2 (N rho^2 + 1)/(N^2 rho^2) ln(sqrt(N rho^2 + 1)/alpha))
//
// It assumes units that count once, with a final value, and enough of them for a normal approximation (100 per arm, and
// Spread.Sequence; the tests simulate this).
//
// Callers report the smallest P of the looks so far, and the interval of the present look. The smallest P depends on the
// looks, so these must be on a grid that is fixed before the first.
// Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
// sequences", arXiv 2103.06476, theorem 2.2; its appendix has the one-sided sequence.
type Sequence struct {
	Planned int64
	Alpha   float64
}

// Interval is the two-sided confidence sequence at this look. Errors: ErrNoVariance if SE is 0.
func (s Sequence) Interval(e Estimate) (Interval, error) { return s.IntervalAt(e, s.Alpha) }

// IntervalAt is Interval at another alpha. rho still comes from s.Alpha, as in P, so the interval excludes 0 exactly if P
// is at most alpha. Errors: those of Interval.
func (s Sequence) IntervalAt(e Estimate, alpha float64) (Interval, error) {
	if err := errors.Join(s.check(e), checkAlpha(alpha)); err != nil {
		return Interval{}, err
	}
	half := e.SE * s.multipleAt(e.N, alpha)
	return Interval{e.Value - half, e.Value + half}, nil
}

// Lower is the one-sided confidence sequence from below: with probability 1 - Alpha, the true value is above it at all
// looks. Its distance from Value is sqrt(2 sigma^2 (N rho^2 + 1)/(N rho)^2 ln(1 + sqrt(N rho^2 + 1)/(2 alpha))).
// Errors: ErrNoVariance if SE is 0.
func (s Sequence) Lower(e Estimate) (float64, error) {
	if err := s.check(e); err != nil {
		return 0, err
	}
	return e.Value - e.SE*s.oneSidedMultiple(e.N), nil
}

// Upper is the one-sided confidence sequence from above, like Lower.
func (s Sequence) Upper(e Estimate) (float64, error) {
	if err := s.check(e); err != nil {
		return 0, err
	}
	return e.Value + e.SE*s.oneSidedMultiple(e.N), nil
}

// P is the always-valid p-value of "the true value is 0" at this look: min(1, sqrt(N rho^2 + 1) exp(-rho^2 S/(2 (N rho^2 +
// 1)))), S = Value^2 N/SE^2. It is at most Alpha exactly if Interval excludes 0. The smallest P of the looks so far is also
// valid. Alpha is used only for rho. Errors: ErrNoVariance if SE is 0.
func (s Sequence) P(e Estimate) (float64, error) {
	if err := s.check(e); err != nil {
		return 0, err
	}
	k := float64(e.N) * s.rho2() // N rho^2
	return min(1, math.Exp(math.Log1p(k)/2-square(e.Value/e.SE)*(k/(k+1))/2)), nil
}

// Multiple is the width of each side of Interval at the planned end, in standard errors: 3.04 at alpha .05. A single look
// needs only 1.96; the rest is the price of looking at any time.
func (s Sequence) Multiple() (float64, error) {
	if err := s.checkPlan(); err != nil {
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

// oneSidedMultiple is the distance of Lower and of Upper from Value, over SE.
func (s Sequence) oneSidedMultiple(n int64) float64 {
	k := float64(n) * s.rho2()
	return math.Sqrt(2 * (k + 1) / k * math.Log1p(math.Sqrt(k+1)/(2*s.Alpha)))
}

func (s Sequence) checkPlan() error {
	err := checkAlpha(s.Alpha)
	if s.Planned < 1 {
		err = errors.Join(err, fmt.Errorf("%d units planned: expected 1 or more", s.Planned))
	}
	return err
}

func (s Sequence) check(e Estimate) error { return errors.Join(s.checkPlan(), e.check()) }

// NormalMixture is the two-sided boundary of a sum of independent deviations that are sub-Gaussian (or, asymptotically, have
// any distribution). Intrinsic time v is the sum of their variances. With probability 1 - Alpha, |sum| stays below Bound(v)
// at every v.
//
//	rho   = Planned/(2 ln(1/alpha) + ln(1 + 2 ln(1/alpha)))
//	bound = sqrt((v + rho)(ln(1 + v/rho) + 2 ln(1/alpha)))
//
// Planned is the v at which the boundary is tightest. Its unit is the metric's, squared.
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
