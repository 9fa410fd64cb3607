package stats

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Histogram counts values by interval. Counts[i] is the number of values above Bounds[i-1] (0 for the first) and up to
// Bounds[i]. The last of the len(Bounds)+1 counts is the number of values above every bound. Values are positive, such as
// latencies in seconds.
type Histogram struct {
	Bounds []float64
	Counts []int64
}

// Quantile is the value below which a share q of the histogram's values lies. It assumes that values are spread evenly
// within an interval, like Prometheus's histogram_quantile, so a narrow interval gives an exact quantile.
// Errors: ErrTooFew if the histogram is empty, ErrBeyondBounds if the quantile is above the last bound.
func (h Histogram) Quantile(q float64) (float64, error) {
	if err := errors.Join(checkShare("quantile", q), h.check()); err != nil {
		return 0, err
	}
	return h.quantile(q)
}

// QuantileDifference compares one quantile of two arms, in the unit of the histograms' bounds.
type QuantileDifference struct {
	Control, Treatment Quantile
	Difference         float64  // treatment minus control
	Interval           Interval // 1 - alpha; a side beyond the last bound is infinite
}

// Quantile is a quantile of one arm.
type Quantile struct {
	Value    float64
	Interval Interval
}

// CompareQuantiles compares a quantile of two arms. Each arm is given as histograms of spans of time (batches of 10
// count periods). Spans must be longer than the events that make many requests slow together: a busy minute is one event, not a
// thousand slow requests.
//
// Per arm, half is half the width of the interval of the share of values under the sample quantile. It is the larger of two: by
// the ratio variance over K spans (Pairs.Ratio, t with K - 1 degrees of freedom), and by the binomial variance q(1-q)/n. The
// quantile's interval runs from the quantile at q - half to that at q + half. The intervals of both arms are combined into the
// interval of the difference as in Newcombe. It is for one look.
// Source: Woodruff, "Confidence intervals for medians and other position measures", JASA 47, 1952; Deng, Knoblich, Lu,
// KDD 2018; Zou, Donner, "Construction of confidence limits about effect measures", 2008.
// Errors: ErrTooFew under 2 spans with values in an arm, ErrBeyondBounds as for Histogram.Quantile.
func CompareQuantiles(q float64, control, treatment []Histogram, alpha float64) (QuantileDifference, error) {
	if err := errors.Join(checkShare("quantile", q), checkAlpha(alpha)); err != nil {
		return QuantileDifference{}, err
	}
	if len(control) > 0 && len(treatment) > 0 && !slices.Equal(control[0].Bounds, treatment[0].Bounds) {
		return QuantileDifference{}, errors.New("histograms of control and treatment: expected the same bounds")
	}
	a, errA := spanQuantile(q, control, alpha)
	b, errB := spanQuantile(q, treatment, alpha)
	if err := errors.Join(withName("control", errA), withName("treatment", errB)); err != nil {
		return QuantileDifference{}, err
	}
	return QuantileDifference{a, b, b.Value - a.Value, squareAndAdd(a.Value, a.Interval, b.Value, b.Interval)}, nil
}

func spanQuantile(q float64, spans []Histogram, alpha float64) (Quantile, error) {
	if len(spans) == 0 {
		return Quantile{}, fmt.Errorf("no histograms: %w", ErrTooFew)
	}
	total := Histogram{spans[0].Bounds, make([]int64, len(spans[0].Counts))}
	for i, span := range spans {
		if !slices.Equal(span.Bounds, total.Bounds) {
			return Quantile{}, fmt.Errorf("histogram %d: expected the bounds of the others", i)
		}
		if err := span.check(); err != nil && !errors.Is(err, ErrTooFew) {
			return Quantile{}, fmt.Errorf("histogram %d: %w", i, err)
		}
		for j, c := range span.Counts {
			total.Counts[j] += c
		}
	}
	if err := total.check(); err != nil {
		return Quantile{}, err
	}
	value, err := total.quantile(q)
	if err != nil {
		return Quantile{}, err
	}
	var upTo Pairs // per span: values up to the quantile, and all values
	for _, span := range spans {
		if n := span.total(); n > 0 {
			upTo.Add(span.countUpTo(value), n)
		}
	}
	share, err := upTo.Ratio()
	if err != nil {
		return Quantile{}, err
	}
	half := max(share.SE*studentQuantile(alpha/2, share.DF), math.Sqrt(q*(1-q)/total.total())*normalQuantile(alpha/2))
	return Quantile{value, Interval{total.bound(q - half), total.bound(q + half)}}, nil
}

// bound is the quantile as a bound of an interval: 0 if q is 0 or less, and infinite if q is 1 or more or the quantile is above
// the last of Bounds.
func (h Histogram) bound(q float64) float64 {
	if q <= 0 {
		return 0
	}
	value, err := h.quantile(q)
	if q >= 1 || err != nil {
		return math.Inf(1)
	}
	return value
}

func (h Histogram) quantile(q float64) (float64, error) {
	rank, before := q*h.total(), 0.0
	for i, bound := range h.Bounds {
		c := float64(h.Counts[i])
		if c > 0 && before+c >= rank {
			return h.lowerBound(i) + (bound-h.lowerBound(i))*((rank-before)/c), nil
		}
		before += c
	}
	return 0, fmt.Errorf("quantile %v of %v values: %w of the histogram, %v", q, h.total(), ErrBeyondBounds, h.Bounds[len(h.Bounds)-1])
}

// countUpTo is the number of values up to value, the inverse of quantile.
func (h Histogram) countUpTo(value float64) (n float64) {
	for i, bound := range h.Bounds {
		share := (value - h.lowerBound(i)) / (bound - h.lowerBound(i))
		n += float64(h.Counts[i]) * min(1, max(0, share))
	}
	return n
}

// lowerBound is the lower bound of interval i.
func (h Histogram) lowerBound(i int) float64 {
	if i == 0 {
		return 0
	}
	return h.Bounds[i-1]
}

func (h Histogram) total() (n float64) {
	for _, c := range h.Counts {
		n += float64(c)
	}
	return n
}

func (h Histogram) check() error {
	if len(h.Bounds) == 0 || len(h.Counts) != len(h.Bounds)+1 {
		return fmt.Errorf("histogram of %d bounds and %d counts: expected 1 bound or more, and a count more than bounds", len(h.Bounds), len(h.Counts))
	}
	for i, bound := range h.Bounds {
		if !finite(bound) || bound <= h.lowerBound(i) {
			return fmt.Errorf("histogram bounds %v: expected more than 0 and ascending", h.Bounds)
		}
	}
	for _, c := range h.Counts {
		if c < 0 {
			return fmt.Errorf("histogram counts %v: expected 0 or more", h.Counts)
		}
	}
	if h.total() == 0 {
		return fmt.Errorf("empty histogram: %w", ErrTooFew)
	}
	return nil
}
