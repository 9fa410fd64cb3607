// Package stats has the statistical methods of an experiment's readout. They are pure functions of counts and sums, without
// I/O and without a clock. Control is always the first argument, treatment the second, and an effect is treatment minus
// control.
//
// SQL aggregates the rows, so the functions take sufficient statistics (Moments, Pairs, Proportion). An arm's
// statistics become an Estimate of its level. Two Estimates become an Estimate of the effect (Difference, Lift,
// LogRatio). An effect is judged once, by Estimate.Test and Estimate.Interval, or at any look, by a Sequence. Small
// numbers of units, and communities, are judged from single units: Permute and PermuteLift take units, the jackknife
// takes clusters.
//
// No function returns NaN. If a figure cannot be computed, the error names it and what was expected.
package stats

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Errors that a caller may test for with errors.Is. Any other error is a mistake in the arguments.
var (
	// ErrTooFew means that there are not enough units, count periods or requests yet to estimate a standard error.
	ErrTooFew = errors.New("too few to estimate a standard error")
	// ErrNoVariance means that all units have the same value, so the noise cannot be estimated.
	ErrNoVariance = errors.New("no variance")
	// ErrUnstable means that a ratio's denominator is too near zero to compute the ratio.
	ErrUnstable = errors.New("too near zero for a ratio")
	// ErrBeyondBounds means that a quantile lies above the last bound of its histogram.
	ErrBeyondBounds = errors.New("above the last bound")
)

// Estimate is a figure with its standard error.
type Estimate struct {
	Value float64 // in the unit of the metric
	SE    float64 // its standard error, same unit
	DF    float64 // degrees of freedom of the variance behind SE
	N     int64   // number of randomised units behind it
}

// Interval is a range of values, in the unit of the estimate. An unbounded side is infinite.
type Interval struct{ Lower, Upper float64 }

// Contains reports whether a value lies in the interval, ends included.
func (i Interval) Contains(value float64) bool { return i.Lower <= value && value <= i.Upper }

// Expm1 turns an interval of a log ratio into an interval of the relative lift: exp(x) - 1, so .1 is 10 % more. An
// unbounded lower side becomes -1.
func (i Interval) Expm1() Interval { return Interval{math.Expm1(i.Lower), math.Expm1(i.Upper)} }

// Test is the outcome of a significance test.
type Test struct {
	Statistic float64
	DF        float64 // degrees of freedom of the statistic; 0 if its distribution has none
	P         float64 // probability of a statistic at least as extreme if there is no effect
}

// Interval is the two-sided 1 - alpha interval for a single look: Value +- t(1 - alpha/2, DF) SE (Student 1908). It
// assumes that the mean is nearly normal. Repeated looks need a Sequence. Errors: ErrNoVariance if SE is 0.
func (e Estimate) Interval(alpha float64) (Interval, error) {
	if err := errors.Join(e.check(), checkAlpha(alpha)); err != nil {
		return Interval{}, err
	}
	half := e.SE * studentQuantile(alpha/2, e.DF)
	return Interval{e.Value - half, e.Value + half}, nil
}

// Test is the two-sided t test of "the figure is 0", with the assumptions and errors of Interval. The interval excludes
// 0 exactly if P < alpha.
func (e Estimate) Test() (Test, error) {
	if err := e.check(); err != nil {
		return Test{}, err
	}
	t := e.Value / e.SE
	return Test{Statistic: t, DF: e.DF, P: min(1, 2*studentTail(math.Abs(t), e.DF))}, nil
}

// check refuses an estimate that cannot be judged.
func (e Estimate) check() error {
	switch {
	case !finite(e.Value, e.SE, e.DF) || e.SE < 0 || e.DF < 1 || e.N < 1:
		return fmt.Errorf("estimate %+v: expected finite figures, SE >= 0, DF >= 1 and N >= 1", e)
	case e.SE == 0:
		return fmt.Errorf("estimate %v of %d units: %w", e.Value, e.N, ErrNoVariance)
	}
	return nil
}

// checkLevel refuses an arm from which no effect can be computed. Unlike an effect, an arm may have no variance.
func (e Estimate) checkLevel(arm string) error {
	if err := e.check(); !errors.Is(err, ErrNoVariance) {
		return withName(arm, err)
	}
	return nil
}

// withName puts a name, such as that of the arm, before an error's text. nil stays nil.
func withName(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// newEstimate refuses figures that exceeded the range of a float64 during the computation.
func newEstimate(value, variance, df float64, n int64) (Estimate, error) {
	if !finite(value, variance, df) || variance < 0 || df < 1 {
		return Estimate{}, fmt.Errorf("value %v, variance %v, %v degrees of freedom of %d units: figures too large or too small to compute with", value, variance, df, n)
	}
	return Estimate{Value: value, SE: math.Sqrt(variance), DF: df, N: n}, nil
}

// minAlpha is smaller than any experiment needs. The quantiles of t are tested down to it.
const minAlpha = 1e-9

func checkAlpha(alpha float64) error {
	if alpha > 0 && alpha < minAlpha {
		return fmt.Errorf("alpha %v: expected %v or more", alpha, minAlpha)
	}
	return checkShare("alpha", alpha)
}

// checkShare expects a probability strictly between 0 and 1.
func checkShare(name string, p float64) error {
	if !(p > 0 && p < 1) {
		return fmt.Errorf("%s %v: expected more than 0 and less than 1", name, p)
	}
	return nil
}

func finite(values ...float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// normalQuantile is z with P(Z > z) = tail. It takes the tail, because its complement would round to 1.
func normalQuantile(tail float64) float64 { return -distuv.UnitNormal.Quantile(tail) }

// manyDF is the number of degrees of freedom above which gonum's quantile of t is not used: from 32 768 on it is wrong by
// orders of magnitude for tails under a millionth. The error of the expansion is under a millionth of a standard error.
const manyDF = 1000

// studentQuantile is t with P(T > t) = tail. For many degrees of freedom it uses Fisher and Cornish's expansion about the
// normal quantile (Abramowitz, Stegun, "Handbook of Mathematical Functions", 26.7.5).
func studentQuantile(tail, df float64) float64 {
	if df <= manyDF {
		return -distuv.StudentsT{Sigma: 1, Nu: df}.Quantile(tail)
	}
	z := normalQuantile(tail)
	z2 := z * z
	return z + z*(z2+1)/4/df + z*((5*z2+16)*z2+3)/96/df/df + z*(((3*z2+19)*z2+17)*z2-15)/384/df/df/df
}

// normalDF is the number of degrees of freedom above which t equals the normal in all digits that the incomplete beta
// function still computes correctly.
const normalDF = 1e7

func studentTail(t, df float64) float64 {
	if df > normalDF {
		return distuv.UnitNormal.Survival(t)
	}
	return distuv.StudentsT{Sigma: 1, Nu: df}.Survival(t)
}
