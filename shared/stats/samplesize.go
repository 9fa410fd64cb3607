package stats

import (
	"errors"
	"fmt"
	"math"
)

// Design says how an experiment will be judged. The number of units that it needs is computed from this. If the cluster
// fields are zero, each member is randomised alone.
type Design struct {
	Alpha float64 // two-sided
	Power float64 // the probability of finding the effect if there is one

	ClusterSize   float64 // mean number of members of a randomised cluster; 0 or 1 without clusters
	ClusterSizeCV float64 // standard deviation of the cluster size over its mean
	ICC           float64 // intraclass correlation: the share of the variance that is between clusters

	Sequence bool // whether it is judged by a Sequence at its planned end, and not by a single look
}

// Proportions is the number of members per arm that are needed to distinguish share p2 from p1:
// n = (z(1-a/2) sqrt(2 p'(1-p')) + z(power) sqrt(p1(1-p1) + p2(1-p2)))^2/(p2 - p1)^2, with p' the mean of p1 and p2. The
// result is multiplied by Design.Inflation and rounded up. Divide it by ClusterSize to get the number of clusters.
// Source: Fleiss, Levin, Paik, "Statistical Methods for Rates and Proportions", 3rd ed., 2003.
func (d Design) Proportions(p1, p2 float64) (int64, error) {
	inflation, err := d.Inflation()
	if err := errors.Join(err, checkShare("share p1", p1), checkShare("share p2", p2)); err != nil {
		return 0, err
	}
	if p1 == p2 {
		return 0, fmt.Errorf("shares %v and %v: expected a difference", p1, p2)
	}
	mean := (p1 + p2) / 2
	root := normalQuantile(d.Alpha/2)*math.Sqrt(2*mean*(1-mean)) + normalQuantile(1-d.Power)*math.Sqrt(p1*(1-p1)+p2*(1-p2))
	return wholeMembers(square(root/(p2-p1)) * inflation)
}

// Means is the number of members per arm that are needed to find a relative effect (.05 is 5 %) on a mean. The values have
// the coefficient of variation cv (standard deviation over mean): n = 2 (z(1-a/2) + z(power))^2 cv^2/effect^2. The result is
// multiplied by Design.Inflation and rounded up.
// Source: Kohavi, Tang, Xu, "Trustworthy Online Controlled Experiments", 2020.
func (d Design) Means(cv, effect float64) (int64, error) {
	inflation, err := d.Inflation()
	if err := errors.Join(err, checkPositive("coefficient of variation", cv)); err != nil {
		return 0, err
	}
	if !finite(effect) || effect == 0 {
		return 0, fmt.Errorf("effect %v: expected a relative difference other than 0", effect)
	}
	return wholeMembers(2 * square(d.quantiles()*cv/effect) * inflation)
}

// DetectableEffect is the smallest relative effect on a mean that n members per arm find with the design's power: the
// inverse of Means.
func (d Design) DetectableEffect(cv float64, n int64) (float64, error) {
	inflation, err := d.Inflation()
	if err := errors.Join(err, checkPositive("coefficient of variation", cv)); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, fmt.Errorf("%d members per arm, expected 1 or more: %w", n, ErrTooFew)
	}
	effect := d.quantiles() * cv * math.Sqrt(2*inflation/float64(n))
	if !finite(effect) {
		return 0, fmt.Errorf("coefficient of variation %v: figures too large to compute with", cv)
	}
	return effect, nil
}

// Inflation is the factor by which the design needs more members than a single look at independent members: the design effect
// of clusters, 1 + ((1 + CV^2) m - 1) ICC, times the price of a sequence, ((c + z(power))/(z(1-a/2) + z(power)))^2, with c
// the Multiple of the Sequence.
// Source: Eldridge, Ashby, Kerry, "Sample size for cluster randomized trials: effect of coefficient of variation of
// cluster size and analysis method", International Journal of Epidemiology 35, 2006.
func (d Design) Inflation() (float64, error) {
	if err := d.check(); err != nil {
		return 0, err
	}
	inflation := 1.0
	if d.ClusterSize > 0 {
		inflation += max(0, (1+square(d.ClusterSizeCV))*d.ClusterSize-1) * d.ICC
	}
	if d.Sequence {
		c, err := Sequence{Planned: 1, Alpha: d.Alpha}.Multiple()
		if err != nil {
			return 0, err
		}
		inflation *= square((c + normalQuantile(1-d.Power)) / d.quantiles())
	}
	return inflation, nil
}

// quantiles is z(1-a/2) + z(power).
func (d Design) quantiles() float64 { return normalQuantile(d.Alpha/2) + normalQuantile(1-d.Power) }

func (d Design) check() error {
	err := errors.Join(checkAlpha(d.Alpha), checkShare("power", d.Power))
	if err == nil && d.Power <= d.Alpha/2 {
		err = fmt.Errorf("power %v: expected more than alpha/2 = %v, the power without any effect", d.Power, d.Alpha/2)
	}
	if !finite(d.ClusterSize) || d.ClusterSize != 0 && d.ClusterSize < 1 {
		err = errors.Join(err, fmt.Errorf("cluster size %v: expected 1 or more, or 0 for no clusters", d.ClusterSize))
	}
	if !finite(d.ClusterSizeCV) || d.ClusterSizeCV < 0 {
		err = errors.Join(err, fmt.Errorf("coefficient of variation of the cluster size %v: expected 0 or more", d.ClusterSizeCV))
	}
	if !(d.ICC >= 0 && d.ICC <= 1) {
		err = errors.Join(err, fmt.Errorf("intraclass correlation %v: expected 0 to 1", d.ICC))
	}
	return err
}

func checkPositive(name string, v float64) error {
	if !finite(v) || v <= 0 {
		return fmt.Errorf("%s %v: expected more than 0", name, v)
	}
	return nil
}

func wholeMembers(n float64) (int64, error) {
	if n = math.Ceil(n); n < math.MaxInt64 {
		return max(1, int64(n)), nil
	}
	return 0, fmt.Errorf("%v members per arm: more than can be counted", n)
}
