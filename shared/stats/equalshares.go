package stats

import (
	"fmt"
	"math"
)

const (
	// EqualSharesAlarm is the p-value at which unequal shares count as a fault of the experiment.
	EqualSharesAlarm = 0.001

	// prior is how many failures, and how many successes, each arm is assumed to have had before its first unit. According to
	// Turner, Ly and Grünwald, this beta prior needs the fewest units.
	prior = .18

	maxBlock = 1000 // units of an arm
)

// EqualShares is the sequential test of "both arms fail equally often". A failure is, for example, a unit that was
// assigned and never exposed. P may be read after every unit. If the arms fail equally often, the probability that P ever
// falls to alpha is at most alpha.
//
// Each arm's units are added in order of time and compared in blocks. A block has one unit of each arm, or as many of each
// as the arms' weights say. Before a block, theta = (f + .18)/(n + .36) for each arm, if f of its n earlier units failed.
// theta0 is the mean of both, weighted by the block. E is multiplied by the likelihood ratio of the block's outcomes: their
// likelihood if each arm has its own theta, divided by their likelihood if both arms have theta0. P = min(1, 1/the largest E
// so far).
//
// E is an E-variable at any common share p: the ratio of a block has the expectation (1 + s dA)^nA (1 + s dB)^nB with
// d = theta - theta0 and s = (p - theta0)/(theta0 (1 - theta0)). This is at most 1, because nA dA + nB dB = 0 and the
// logarithm is concave. Units need not be independent of earlier ones. But a unit's outcome must be final when it is
// added, and the order must not depend on outcomes.
// Source: Turner, Ly, Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional
// stopping", Journal of Statistical Planning and Inference 230, 2024 (arXiv 2106.02693).
type EqualShares struct {
	control, treatment blocks
	logE, largest      float64 // now, and the largest so far: 0 at the start
}

// blocks has the units of an arm.
type blocks struct {
	size      int     // number of units in a block
	n, failed float64 // units of the blocks compared so far, and failures among them
	waiting   []int   // failures in each complete block that waits for a block of the other arm
	units     int     // units in the incomplete block
	failures  int     // failures among these
}

// NewEqualShares starts a test of arms with units in the ratio control : treatment, such as 1 : 1 or 90 : 10.
func NewEqualShares(control, treatment int) (*EqualShares, error) {
	if control < 1 || treatment < 1 {
		return nil, fmt.Errorf("weights %d : %d: expected 1 or more", control, treatment)
	}
	d := greatestCommonDivisor(control, treatment)
	if max(control, treatment)/d > maxBlock {
		return nil, fmt.Errorf("weights %d : %d: expected blocks of at most %d units", control, treatment, maxBlock)
	}
	return &EqualShares{control: blocks{size: control / d}, treatment: blocks{size: treatment / d}}, nil
}

// Add adds the next unit of an arm. Units of one arm must come in order of time. The order between the arms does not matter.
func (s *EqualShares) Add(treatment, failed bool) {
	arm := &s.control
	if treatment {
		arm = &s.treatment
	}
	arm.units, arm.failures = arm.units+1, arm.failures+oneIf(failed)
	if arm.units < arm.size {
		return
	}
	arm.waiting = append(arm.waiting, arm.failures)
	arm.units, arm.failures = 0, 0
	if len(s.control.waiting) > 0 && len(s.treatment.waiting) > 0 {
		s.compare()
	}
}

// P is the always-valid p-value after the units so far; 1 before the first block of both arms.
func (s *EqualShares) P() float64 { return math.Exp(-s.largest) }

// compare multiplies E by the likelihood ratio of each arm's first waiting block.
func (s *EqualShares) compare() {
	a, b := &s.control, &s.treatment
	thetaA, thetaB := a.theta(), b.theta()
	theta0 := (float64(a.size)*thetaA + float64(b.size)*thetaB) / float64(a.size+b.size)
	s.logE += a.takeBlock(thetaA, theta0) + b.takeBlock(thetaB, theta0)
	s.largest = max(s.largest, s.logE)
}

func (b *blocks) theta() float64 { return (b.failed + prior) / (b.n + 2*prior) }

// takeBlock returns the log likelihood ratio of the first waiting block, and counts the block as compared.
func (b *blocks) takeBlock(theta, theta0 float64) float64 {
	failed, worked := float64(b.waiting[0]), float64(b.size-b.waiting[0])
	b.waiting, b.n, b.failed = b.waiting[1:], b.n+float64(b.size), b.failed+failed
	return failed*math.Log(theta/theta0) + worked*math.Log((1-theta)/(1-theta0))
}

func greatestCommonDivisor(a, b int) int {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}
