package stats

import (
	"errors"
	"fmt"
	"math"
)

// Difference estimates d = YB - YA: Var = seA^2 + seB^2, with Welch-Satterthwaite degrees of freedom
// Var^2/(seA^4/dfA + seB^4/dfB). Arms are independent; their variances need not be equal.
// Source: Welch, "The generalization of Student's problem", Biometrika 34, 1947.
// An effect without variance is an error only when it is judged.
func Difference(control, treatment Estimate) (Estimate, error) {
	if err := checkLevels(control, treatment); err != nil {
		return Estimate{}, err
	}
	return newEstimate(treatment.Value-control.Value, square(control.SE)+square(treatment.SE), welch(control, treatment), control.N+treatment.N)
}

// Lift estimates the relative difference L = (YB - YA)/YA; .1 is 10 % more. By the delta method
// Var = seB^2/YA^2 + seA^2 YB^2/YA^4, with Welch's degrees of freedom on the absolute scale. It is for one look, with a
// control mean that is positive and has a small standard error; otherwise LogRatio has better coverage.
// Source: Deng, Knoblich, Lu, KDD 2018. Errors: ErrUnstable if YA is not above 0.
func Lift(control, treatment Estimate) (Estimate, error) {
	if err := checkLevels(control, treatment); err != nil {
		return Estimate{}, err
	}
	a, b := control.Value, treatment.Value
	if a <= 0 {
		return Estimate{}, fmt.Errorf("control mean %v: %w", a, ErrUnstable)
	}
	return newEstimate((b-a)/a, square(treatment.SE/a)+square(control.SE/a*(b/a)), welch(control, treatment), control.N+treatment.N)
}

// stableSE is how many of its standard errors the control mean must be above 0. Below that, the log of the mean is not
// nearly normal.
const stableSE = 5

// LogRatio estimates ln(YB/YA): by the delta method Var = seA^2/YA^2 + seB^2/YB^2, with Welch's degrees of freedom on
// the absolute scale. Interval.Expm1 turns its interval into an interval of the relative lift.
// Source: Deng, Knoblich, Lu, KDD 2018.
// Errors: ErrUnstable if YA is less than 5 of its standard errors, or a mean is not above 0.
func LogRatio(control, treatment Estimate) (Estimate, error) {
	if err := checkLevels(control, treatment); err != nil {
		return Estimate{}, err
	}
	a, b := control.Value, treatment.Value
	if a <= 0 || b <= 0 || a < stableSE*control.SE {
		return Estimate{}, fmt.Errorf("means %v (standard error %v) and %v, expected above 0 and the control's at %d standard errors or more: %w", a, control.SE, b, stableSE, ErrUnstable)
	}
	return newEstimate(math.Log(b)-math.Log(a), square(control.SE/a)+square(treatment.SE/b), welch(control, treatment), control.N+treatment.N)
}

func checkLevels(control, treatment Estimate) error {
	return errors.Join(control.checkLevel("control"), treatment.checkLevel("treatment"))
}

// welch computes with the arms' shares of the variance, whose fourth powers neither overflow nor underflow. Without
// variance the formula is undefined, and welch returns its limit for equal arms, the sum of the arms' degrees of freedom.
func welch(a, b Estimate) float64 {
	scale := math.Hypot(a.SE, b.SE)
	if scale == 0 {
		return a.DF + b.DF
	}
	return 1 / (square(square(a.SE/scale))/a.DF + square(square(b.SE/scale))/b.DF)
}

func square(x float64) float64 { return x * x }
