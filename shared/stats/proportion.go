package stats

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Proportion counts the units that have a yes-or-no property.
type Proportion struct{ Successes, N int64 }

const maxCount = 1 << 53 // a float64 is exact for counts up to this

// Mean estimates the share: p = Successes/N, Var = p(1 - p)/N (not N - 1), with N - 1 degrees of freedom. Moments.Mean
// of the same units differs by the factor N/(N - 1). Errors: ErrTooFew under 2 units.
func (p Proportion) Mean() (Estimate, error) {
	if err := p.check(); err != nil {
		return Estimate{}, err
	}
	if p.N < 2 {
		return Estimate{}, fmt.Errorf("%d units, expected 2 or more: %w", p.N, ErrTooFew)
	}
	n := float64(p.N)
	return newEstimate(p.share(), p.variance()/n, n-1, p.N)
}

func (p Proportion) share() float64 { return float64(p.Successes) / float64(p.N) }

func (p Proportion) variance() float64 { return p.share() * (float64(p.N-p.Successes) / float64(p.N)) }

func (p Proportion) check() error {
	switch {
	case !p.valid():
		return fmt.Errorf("%d of %d: expected 0 <= successes <= n <= 2^53", p.Successes, p.N)
	case p.N == 0:
		return fmt.Errorf("0 of 0, expected 1 unit or more: %w", ErrTooFew)
	}
	return nil
}

// checkCounts is check, but it accepts 0 of 0.
func (p Proportion) checkCounts() error {
	if err := p.check(); !errors.Is(err, ErrTooFew) {
		return err
	}
	return nil
}

func (p Proportion) valid() bool { return 0 <= p.Successes && p.Successes <= p.N && p.N <= maxCount }

func checkProportions(control, treatment Proportion) error {
	return errors.Join(withName("control", control.check()), withName("treatment", treatment.check()))
}

// TwoProportions is the two-sided z test of equal shares with the pooled variance:
// z = (pB - pA)/sqrt(p(1 - p)(1/nA + 1/nB)), p the share of both arms together. It is for one look, independent units,
// and about 5 or more successes and failures per arm; for fewer, use FisherExact. If all units of both arms are equal,
// z = 0 and P = 1.
// Source: Fleiss, Levin, Paik, "Statistical Methods for Rates and Proportions", 3rd ed., 2003.
func TwoProportions(control, treatment Proportion) (Test, error) {
	if err := checkProportions(control, treatment); err != nil {
		return Test{}, err
	}
	na, nb := float64(control.N), float64(treatment.N)
	p := (float64(control.Successes) + float64(treatment.Successes)) / (na + nb)
	if p == 0 || p == 1 {
		return Test{P: 1}, nil
	}
	z := (treatment.share() - control.share()) / math.Sqrt(p*(1-p)*(1/na+1/nb))
	return Test{Statistic: z, P: min(1, 2*distuv.UnitNormal.Survival(math.Abs(z)))}, nil
}

// Newcombe is the two-sided 1 - alpha interval of pB - pA from the Wilson intervals (l, u) of the two shares:
// d - sqrt((pB - lB)^2 + (uA - pA)^2) to d + sqrt((uB - pB)^2 + (pA - lA)^2). It is for one look at independent units,
// stays within -1 and 1, and is valid for small numbers of units and shares near 0 and 1.
// Source: Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
// 17, 1998, method 10.
func Newcombe(control, treatment Proportion, alpha float64) (Interval, error) {
	if err := errors.Join(checkProportions(control, treatment), checkAlpha(alpha)); err != nil {
		return Interval{}, err
	}
	a, b := control.wilson(alpha), treatment.wilson(alpha)
	return squareAndAdd(control.share(), a, treatment.share(), b), nil
}

// squareAndAdd is the interval of b - a from an interval of each, which need not be symmetric (Zou and Donner's MOVER).
func squareAndAdd(a float64, ia Interval, b float64, ib Interval) Interval {
	return Interval{
		Lower: b - a - math.Hypot(b-ib.Lower, ia.Upper-a),
		Upper: b - a + math.Hypot(ib.Upper-b, a-ia.Lower),
	}
}

// wilson is the score interval of one share (Wilson 1927).
func (p Proportion) wilson(alpha float64) Interval {
	z, n := normalQuantile(alpha/2), float64(p.N)
	z2 := z * z / n
	if math.IsInf(z2, 1) {
		return Interval{0, 1}
	}
	centre := (p.share() + z2/2) / (1 + z2)
	half := math.Sqrt(z2) * math.Sqrt(p.variance()+z2/4) / (1 + z2)
	// The interval must contain the share in spite of rounding.
	return Interval{min(max(0, centre-half), p.share()), max(min(1, centre+half), p.share())}
}
