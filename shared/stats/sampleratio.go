package stats

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat/distuv"
)

// ChiSquare is the test of a sample ratio, for one look: chi2 = sum (O - E)^2/E over the arms, df = arms - 1, with E the
// units divided in proportion to the weights. Count the randomised units: if communities are randomised, their users are
// not independent, and would cause false alarms. It assumes 5 or more expected units per arm; below that, P is rough.
// Source: Pearson 1900; Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019.
// Errors: ErrTooFew without units.
func ChiSquare(observed []int64, weights []float64) (Test, error) {
	shares, err := normalise(weights)
	if err != nil {
		return Test{}, err
	}
	total, err := sumCounts(observed, len(shares))
	if err != nil {
		return Test{}, err
	}
	if total == 0 {
		return Test{}, fmt.Errorf("no units in any arm: %w", ErrTooFew)
	}
	var chi2 float64
	for i, o := range observed {
		e := total * shares[i]
		chi2 += square(float64(o)-e) / e
	}
	df := float64(len(shares) - 1)
	return Test{Statistic: chi2, DF: df, P: distuv.ChiSquared{K: df}.Survival(chi2)}, nil
}

const (
	// SampleRatioAlarm is the p-value at which a sample ratio counts as a fault of the experiment.
	SampleRatioAlarm = 0.001

	// looseWeight is the weight of the looser prior of a SampleRatio, in units. plannedShare is the weight of the tighter
	// prior, as a share of the planned units.
	looseWeight, plannedShare = 2, 1. / 20

	maxWeight = 1e9 // of a prior; above it lgamma is not exact enough
)

// SampleRatio is the sequential test of a sample ratio. P may be read after every batch of units. If units are divided as
// intended, the probability that P ever falls to alpha is at most alpha. With x the counts of a batch of n units, a the
// Dirichlet prior of the arms, A its sum, and p0 the intended shares:
//
//	log m1 += lgamma(n+1) + lgamma(A) - lgamma(A+n) + sum(lgamma(a_i+x_i) - lgamma(a_i) - lgamma(x_i+1)); a_i += x_i
//	log m0 += lgamma(n+1) + sum(x_i ln p0_i - lgamma(x_i+1))
//	E       = the mean of m1/m0 over two priors around p0
//	P       = min(1, 1/the largest E so far)
//
// A prior with the weight of A = 2 units detects a missing arm within 15 units. A prior with the weight of a twentieth of
// the planned units detects a ratio that is wrong by a few per cent. The mean of E-values is an E-value; it costs a factor
// of 2. Batches determine when P is updated, but do not change E. Units must be independent: count the randomised units.
// Source: Lindon, Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022 (arXiv 2011.03567).
type SampleRatio struct {
	shares   []float64
	priors   []dirichlet
	logM0    float64
	smallest float64 // the smallest log(1/E) so far; 0 at the start
}

// dirichlet is a prior, updated by the counts so far.
type dirichlet struct {
	arms  []float64
	logM1 float64
}

// NewSampleRatio starts a test of shares in proportion to the weights. planned is the planned number of units of all arms
// together, fixed at the start; 0 if none is planned.
func NewSampleRatio(weights []float64, planned int64) (*SampleRatio, error) {
	if planned < 0 {
		return nil, fmt.Errorf("%d units planned: expected 0 or more", planned)
	}
	return newSampleRatio(weights, looseWeight, max(looseWeight, float64(planned)*plannedShare))
}

// newSampleRatio makes a prior for each total weight.
func newSampleRatio(weights []float64, totals ...float64) (*SampleRatio, error) {
	shares, err := normalise(weights)
	if err != nil {
		return nil, err
	}
	s := &SampleRatio{shares: shares}
	for _, total := range totals {
		prior := dirichlet{arms: make([]float64, len(shares))}
		for i, share := range shares {
			prior.arms[i] = min(total, maxWeight) * share
		}
		s.priors = append(s.priors, prior)
	}
	return s, nil
}

// Add adds a batch of units, one count per arm. An empty batch changes nothing.
func (s *SampleRatio) Add(counts ...int64) error {
	n, err := sumCounts(counts, len(s.shares))
	if err != nil {
		return err
	}
	s.logM0 += logGamma(n + 1)
	for i, c := range counts {
		x := float64(c)
		s.logM0 += x*math.Log(s.shares[i]) - logGamma(x+1)
	}
	logE := make([]float64, len(s.priors))
	for i := range s.priors {
		s.priors[i].add(n, counts)
		logE[i] = s.priors[i].logM1 - s.logM0
	}
	s.smallest = min(s.smallest, math.Log(float64(len(logE)))-floats.LogSumExp(logE))
	return nil
}

func (d *dirichlet) add(n float64, counts []int64) {
	before := floats.Sum(d.arms)
	d.logM1 += logGamma(n+1) + logGamma(before) - logGamma(before+n)
	for i, c := range counts {
		x := float64(c)
		d.logM1 += logGamma(d.arms[i]+x) - logGamma(d.arms[i]) - logGamma(x+1)
		d.arms[i] += x
	}
}

// P is the always-valid p-value after the batches so far; 1 before the first.
func (s *SampleRatio) P() float64 { return math.Exp(s.smallest) }

// normalise turns weights into shares whose sum is 1.
func normalise(weights []float64) ([]float64, error) {
	if len(weights) < 2 {
		return nil, fmt.Errorf("%d arms: expected 2 or more", len(weights))
	}
	var sum float64
	for _, w := range weights {
		if !finite(w) || w <= 0 {
			return nil, fmt.Errorf("weights %v: expected more than 0 for each arm", weights)
		}
		sum += w
	}
	shares := make([]float64, len(weights))
	for i, w := range weights {
		if shares[i] = w / sum; shares[i] < 1e-9 {
			return nil, fmt.Errorf("weights %v: expected each arm to have a billionth of the units or more", weights)
		}
	}
	return shares, nil
}

func sumCounts(counts []int64, arms int) (total float64, err error) {
	if len(counts) != arms {
		return 0, fmt.Errorf("counts of %d arms: expected %d", len(counts), arms)
	}
	for _, c := range counts {
		if c < 0 {
			return 0, errors.New("counts of units: expected 0 or more")
		}
		total += float64(c)
	}
	return total, nil
}

func logGamma(x float64) float64 {
	l, _ := math.Lgamma(x)
	return l
}
