package stats

import (
	"errors"
	"fmt"
	"math"
)

// History has the values of an arm's units in the window, y, and before the unit's entry, x. Both are the same metric. The
// arm cannot have changed x. Units without history have only y.
type History struct {
	With    Pairs
	Without Moments
}

// Adjusted has the levels of two arms after CUPED. Their difference has the same expectation as without CUPED.
type Adjusted struct {
	Control, Treatment Estimate
	Theta              float64 // how much of the past is subtracted; 0 if there is no past
	Reduction          float64 // the share by which the variance of the difference became smaller, 0 to 1
}

// CUPED subtracts from each unit's y what its past x predicts: y - theta (x - xbar). xbar is the mean of x over both arms,
// and replaces missing history. theta = Sxy/Sxx is computed within arms and pooled over them, so that the effect itself
// does not bias it. The variance per arm is (s2y - 2 theta sxy + theta^2 s2x)/n with n - 1 degrees of freedom. CUPED
// assumes that x is final before entry, and that whether it is missing does not depend on the arm.
// Source: Deng, Xu, Kohavi, Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing
// Pre-Experiment Data", WSDM 2013. Errors: ErrTooFew under 2 units in an arm.
func CUPED(control, treatment History) (Adjusted, error) {
	var past float64
	if known := float64(control.With.N) + float64(treatment.With.N); known > 0 {
		past = (control.With.SumX + treatment.With.SumX) / known
	}
	a, errA := control.centre(past)
	b, errB := treatment.centre(past)
	if err := errors.Join(withName("control", errA), withName("treatment", errB)); err != nil {
		return Adjusted{}, err
	}
	return adjust(a, b)
}

// centredArm has the statistics of an arm about its means.
type centredArm struct {
	n          int64
	y, x       float64 // means: of y, and of x minus the mean of x over both arms
	yy, xx, xy float64 // sums of squares and products about them
}

func (h History) centre(past float64) (centredArm, error) {
	if h.With.N < 0 || h.Without.N < 0 || h.With.N+h.Without.N < 2 {
		return centredArm{}, fmt.Errorf("%d units with history and %d without, expected 2 or more: %w", h.With.N, h.Without.N, ErrTooFew)
	}
	p, missing := h.With, float64(h.Without.N)
	p.N += h.Without.N
	p.SumY, p.SumYY = p.SumY+h.Without.Sum, p.SumYY+h.Without.SumSq
	p.SumX, p.SumXX = p.SumX+missing*past, p.SumXX+missing*past*past
	p.SumXY += past * h.Without.Sum
	yy, errY := centredSquares(p.N, p.SumY, p.SumYY)
	xx, errX := centredSquares(p.N, p.SumX, p.SumXX)
	n := float64(p.N)
	xy := p.SumXY - p.SumX*(p.SumY/n)
	if err := errors.Join(withName("y", errY), withName("x", errX)); err != nil {
		return centredArm{}, err
	}
	return centredArm{n: p.N, y: p.SumY / n, x: p.SumX/n - past, yy: yy, xx: xx, xy: xy}, nil
}

func adjust(a, b centredArm) (Adjusted, error) {
	var theta float64
	if xx := a.xx + b.xx; xx > 0 {
		theta = (a.xy + b.xy) / xx
	}
	if !finite(theta, a.x, b.x) {
		return Adjusted{}, fmt.Errorf("theta %v: figures too large to compute with", theta)
	}
	control, errA := a.adjustedLevel(theta)
	treatment, errB := b.adjustedLevel(theta)
	if err := errors.Join(withName("control", errA), withName("treatment", errB)); err != nil {
		return Adjusted{}, err
	}
	result := Adjusted{Control: control, Treatment: treatment, Theta: theta}
	if before := a.variance(a.yy) + b.variance(b.yy); before > 0 && !math.IsInf(before, 0) {
		result.Reduction = min(1, max(0, 1-(square(control.SE)+square(treatment.SE))/before))
	}
	return result, nil
}

func (c centredArm) adjustedLevel(theta float64) (Estimate, error) {
	squares, err := checkedSquares(c.yy-2*theta*c.xy+theta*theta*c.xx, c.yy+theta*theta*c.xx)
	if err != nil {
		return Estimate{}, err
	}
	return newEstimate(c.y-theta*c.x, c.variance(squares), float64(c.n-1), c.n)
}

func (c centredArm) variance(squares float64) float64 {
	n := float64(c.n)
	return squares / (n - 1) / n
}
