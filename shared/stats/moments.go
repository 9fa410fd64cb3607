package stats

import "fmt"

// Moments are the sufficient statistics of one value per unit: SQL's count, sum(x) and sum(x*x). Zeros count, because a
// unit that did nothing is also a unit.
type Moments struct {
	N          int64
	Sum, SumSq float64
}

// Add counts one more unit.
func (m *Moments) Add(x float64) { m.N, m.Sum, m.SumSq = m.N+1, m.Sum+x, m.SumSq+x*x }

// Merge returns the moments of both sets of units.
func (m Moments) Merge(other Moments) Moments {
	return Moments{m.N + other.N, m.Sum + other.Sum, m.SumSq + other.SumSq}
}

// Mean estimates the mean of the units: Sum/N, with variance s2/N, s2 = (SumSq - Sum^2/N)/(N - 1), and N - 1 degrees
// of freedom. It assumes independent units. Errors: ErrTooFew under 2 units.
func (m Moments) Mean() (Estimate, error) {
	if m.N < 2 {
		return Estimate{}, fmt.Errorf("%d units, expected 2 or more: %w", m.N, ErrTooFew)
	}
	squares, err := centredSquares(m.N, m.Sum, m.SumSq)
	if err != nil {
		return Estimate{}, err
	}
	n := float64(m.N)
	return newEstimate(m.Sum/n, squares/(n-1)/n, n-1, m.N)
}

// Pairs are the sufficient statistics of two values per unit, y and x: a cluster's sum and its size, or a user's value
// after entry and before it.
type Pairs struct {
	N                               int64
	SumY, SumYY, SumX, SumXX, SumXY float64
}

// Add counts one more pair.
func (p *Pairs) Add(y, x float64) {
	p.N++
	p.SumY, p.SumYY = p.SumY+y, p.SumYY+y*y
	p.SumX, p.SumXX = p.SumX+x, p.SumXX+x*x
	p.SumXY += x * y
}

// Merge returns the statistics of both sets of pairs.
func (p Pairs) Merge(other Pairs) Pairs {
	return Pairs{
		N:    p.N + other.N,
		SumY: p.SumY + other.SumY, SumYY: p.SumYY + other.SumYY,
		SumX: p.SumX + other.SumX, SumXX: p.SumXX + other.SumXX,
		SumXY: p.SumXY + other.SumXY,
	}
}

// Ratio estimates R = SumY/SumX, if the randomised unit is a cluster with x members and the sum y, such as a community
// and its tweets. R is the mean per member; members of one cluster may depend on each other. By the delta method
// Var = (Var y - 2R Cov(y, x) + R^2 Var x)/(K xbar^2) over K clusters, with K - 1 degrees of freedom. It assumes
// independent clusters, and so many of them that xbar has a small standard error.
// Source: Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", KDD 2018.
// Errors: ErrTooFew under 2 clusters or without members.
func (p Pairs) Ratio() (Estimate, error) {
	switch {
	case p.N < 2:
		return Estimate{}, fmt.Errorf("%d clusters, expected 2 or more: %w", p.N, ErrTooFew)
	case !finite(p.SumY, p.SumYY, p.SumX, p.SumXX, p.SumXY) || p.SumX < 0 || p.SumXX < 0 || p.SumYY < 0:
		return Estimate{}, fmt.Errorf("sums %+v: expected finite figures, and cluster sizes of 0 or more", p)
	case p.SumX == 0:
		return Estimate{}, fmt.Errorf("%d clusters without members: %w", p.N, ErrTooFew)
	}
	k, r := float64(p.N), p.SumY/p.SumX
	// The residuals y - Rx sum to 0, so their sum of squares is already centred.
	squares, err := checkedSquares(p.SumYY-2*r*p.SumXY+r*r*p.SumXX, p.SumYY+r*r*p.SumXX)
	if err != nil {
		return Estimate{}, err
	}
	mean := p.SumX / k
	return newEstimate(r, squares/(k-1)/k/mean/mean, k-1, p.N)
}

// centredSquares returns the sum of squares about the mean.
func centredSquares(n int64, sum, squares float64) (float64, error) {
	if !finite(sum, squares) || squares < 0 {
		return 0, fmt.Errorf("sum %v, sum of squares %v: expected finite figures, and squares of 0 or more", sum, squares)
	}
	return checkedSquares(squares-sum*(sum/float64(n)), squares)
}

// checkedSquares returns a sum of squares, or 0 if it is so small that it can be a rounding error: under a trillionth of its
// terms, which is a coefficient of variation under a millionth. A sum that is clearly below 0 is an error, because no data can
// have it.
func checkedSquares(squares, terms float64) (float64, error) {
	switch {
	case !finite(squares, terms):
		return 0, fmt.Errorf("sums of squares %v of terms %v: figures too large to compute with", squares, terms)
	case squares < -1e-9*terms:
		return 0, fmt.Errorf("sum of squares about the mean %v: no data has these sums", squares)
	case squares <= 1e-12*terms:
		return 0, nil
	}
	return squares, nil
}
