package stats

import (
	"errors"
	"fmt"
	"math"
)

// Cluster is a randomised group: the sum of its members' values in the window, and the number of members.
type Cluster struct{ Sum, Size float64 }

// JackknifeDifference estimates the difference of the arms' ratios sum/size over clusters, such as communities, with a
// jackknife variance: for each arm of k clusters V = (k-1)/k sum (R(-c) - mean)^2, R(-c) the ratio without cluster c.
// Unlike the delta method of Pairs.Ratio, it includes the non-linear influence of one large cluster on the ratio. Degrees
// of freedom are (VA + VB)^2/(VA^2/(eA-1) + VB^2/(eB-1)), with e the EffectiveNumber of the arm's sizes. Value is the
// difference of the levels, without the jackknife's correction of bias. N counts clusters. Clusters must be independent. A
// Sequence of this estimate needs an EffectiveNumber of 50 in each arm.
// Source: Efron, Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981; Kish, "Survey Sampling",
// 1965, for the effective number.
// Errors: ErrTooFew under 2 clusters with members in an arm, or under 1 degree of freedom.
func JackknifeDifference(control, treatment []Cluster) (Estimate, error) {
	a, b, err := jackknives(control, treatment, func(ratio float64) (float64, error) { return ratio, nil })
	if err != nil {
		return Estimate{}, err
	}
	return ratioDifference(a, b)
}

// JackknifeLogRatio estimates ln(RB/RA), RA and RB the arms' ratios, in the same way as JackknifeDifference. Interval.Expm1
// turns its interval into an interval of the relative lift. Errors: those of JackknifeDifference; ErrUnstable if an arm's
// ratio is 0 without one of its clusters, or the relative standard error of the control's ratio is over 20 % (as for
// LogRatio).
func JackknifeLogRatio(control, treatment []Cluster) (Estimate, error) {
	a, b, err := jackknives(control, treatment, func(ratio float64) (float64, error) {
		if ratio <= 0 {
			return 0, fmt.Errorf("ratio %v, expected more than 0: %w", ratio, ErrUnstable)
		}
		return math.Log(ratio), nil
	})
	if err != nil {
		return Estimate{}, err
	}
	if a.SE > 1./stableSE { // the standard error of a logarithm is relative
		return Estimate{}, fmt.Errorf("control ratio %v with a relative standard error of %v, expected %v or less: %w",
			math.Exp(a.Value), a.SE, 1./stableSE, ErrUnstable)
	}
	return ratioDifference(a, b)
}

// EffectiveNumber is how many units of equal size have as much information as units of these sizes: (sum n)^2/sum n^2. For
// 100 equal units it is 100. If one unit is as large as all others together, it is less than 4. Sizes of 0 or less are
// ignored.
// Source: Kish, "Survey Sampling", 1965.
func EffectiveNumber(sizes []float64) float64 {
	largest := 0.0
	for _, n := range sizes {
		if n > largest {
			largest = n
		}
	}
	var sum, squares float64
	for _, n := range sizes {
		if n > 0 && !math.IsInf(largest, 1) {
			sum, squares = sum+n/largest, squares+square(n/largest)
		}
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / squares
}

// jackknives estimates a figure of each arm's ratio.
func jackknives(control, treatment []Cluster, figure func(ratio float64) (float64, error)) (a, b Estimate, err error) {
	a, errA := jackknife(control, figure)
	b, errB := jackknife(treatment, figure)
	return a, b, errors.Join(withName("control", errA), withName("treatment", errB))
}

// ratioDifference is Difference for arms whose EffectiveNumber may be less than 2.
func ratioDifference(a, b Estimate) (Estimate, error) {
	df := welch(a, b)
	if !(df >= 1) {
		return Estimate{}, fmt.Errorf("%v degrees of freedom of %d clusters, expected 1 or more: %w", df, a.N+b.N, ErrTooFew)
	}
	return newEstimate(b.Value-a.Value, square(a.SE)+square(b.SE), df, a.N+b.N)
}

// jackknife estimates a figure of one arm's ratio.
func jackknife(clusters []Cluster, figure func(ratio float64) (float64, error)) (Estimate, error) {
	var total Cluster
	sizes := make([]float64, 0, len(clusters))
	for i, c := range clusters {
		if !finite(c.Sum, c.Size) || c.Size < 0 {
			return Estimate{}, fmt.Errorf("cluster %d %+v: expected finite figures, and a size of 0 or more", i, c)
		}
		if c.Size > 0 {
			total.Sum, total.Size = total.Sum+c.Sum, total.Size+c.Size
			sizes = append(sizes, c.Size)
		}
	}
	k := float64(len(sizes))
	if k < 2 {
		return Estimate{}, fmt.Errorf("%d clusters with members, expected 2 or more: %w", len(sizes), ErrTooFew)
	}
	value, err := figure(total.Sum / total.Size)
	if err != nil {
		return Estimate{}, err
	}
	var left Moments // the figure without each cluster, minus the figure itself, which avoids cancellation
	for _, c := range clusters {
		if c.Size == 0 {
			continue
		}
		without, err := figure((total.Sum - c.Sum) / (total.Size - c.Size))
		if err != nil {
			return Estimate{}, err
		}
		left.Add(without - value)
	}
	squares, err := centredSquares(left.N, left.Sum, left.SumSq)
	if err != nil {
		return Estimate{}, err
	}
	if squares <= 1e-24*square(value) { // a rounding error: the clusters do not differ
		squares = 0
	}
	return Estimate{Value: value, SE: math.Sqrt((k - 1) / k * squares), DF: EffectiveNumber(sizes) - 1, N: int64(k)}, nil
}
