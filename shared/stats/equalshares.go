package stats

import (
	"fmt"
	"math"
)

const (
	// EqualSharesAlarm is the p-value at which unequal shares are a fault of the experiment.
	EqualSharesAlarm = 0.001

	// prior is what each arm is taken to have seen of both outcomes before its first unit: the beta prior that Turner, Ly
	// and Grünwald found to need the fewest units.
	prior = .18

	maxBlock = 1000 // units of an arm
)

// EqualShares is the sequential test of equal shares of a failure in both arms, such as units that were assigned and
// never exposed. It may be asked after every unit, and P falls to alpha at any time with probability at most alpha while
// the arms fail equally often.
//
// Units of each arm come in order of time and are compared in blocks: one of each arm, or as many of each as the arms'
// weights say. Before a block, with f of an arm's n earlier units failed, theta = (f + .18)/(n + .36) for each arm, and
// theta0 is their mean, weighted by the block. E is multiplied by the likelihood of the block's outcomes at each arm's
// theta, over that with theta0 for both, and P = min(1, 1/the largest E so far).
//
// E is an E-variable whatever the common share p: a block's expectation is (1 + s dA)^nA (1 + s dB)^nB with
// d = theta - theta0 and s = (p - theta0)/(theta0 (1 - theta0)). As nA dA + nB dB = 0 and the logarithm is concave, that
// is at most 1. It needs no independence of the past, only that a unit's outcome is final when it is added and that the
// order does not depend on outcomes.
// Source: Turner, Ly, Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional
// stopping", Journal of Statistical Planning and Inference 230, 2024 (arXiv 2106.02693).
type EqualShares struct {
	control, treatment blocks
	logE, largest      float64 // now, and the largest so far: 0 at the start
}

// blocks are an arm's units.
type blocks struct {
	size      int     // units of a block
	n, failed float64 // units of the blocks compared so far, and failures among them
	waiting   []int   // failures of each whole block that waits for the other arm's
	units     int     // of the block that is not yet whole
	failures  int     // among these
}

// NewEqualShares starts a test of arms whose units come in the ratio control : treatment, such as 1 : 1 or 90 : 10.
func NewEqualShares(control, treatment int) (*EqualShares, error) {
	if control < 1 || treatment < 1 {
		return nil, fmt.Errorf("weights %d : %d: expected 1 or more", control, treatment)
	}
	d := divisor(control, treatment)
	if max(control, treatment)/d > maxBlock {
		return nil, fmt.Errorf("weights %d : %d: expected blocks of at most %d units", control, treatment, maxBlock)
	}
	return &EqualShares{control: blocks{size: control / d}, treatment: blocks{size: treatment / d}}, nil
}

// Add takes the next unit of an arm, in order of time within the arm. The order between the arms does not matter.
func (s *EqualShares) Add(treatment, failed bool) {
	arm := &s.control
	if treatment {
		arm = &s.treatment
	}
	arm.units, arm.failures = arm.units+1, arm.failures+boolean(failed)
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

// compare multiplies E by the likelihood ratio of the first blocks that wait.
func (s *EqualShares) compare() {
	a, b := &s.control, &s.treatment
	thetaA, thetaB := a.theta(), b.theta()
	theta0 := (float64(a.size)*thetaA + float64(b.size)*thetaB) / float64(a.size+b.size)
	s.logE += a.next(thetaA, theta0) + b.next(thetaB, theta0)
	s.largest = max(s.largest, s.logE)
}

func (b *blocks) theta() float64 { return (b.failed + prior) / (b.n + 2*prior) }

// next is the log likelihood ratio of the first block that waits, which from now on counts as seen.
func (b *blocks) next(theta, theta0 float64) float64 {
	failed, worked := float64(b.waiting[0]), float64(b.size-b.waiting[0])
	b.waiting, b.n, b.failed = b.waiting[1:], b.n+float64(b.size), b.failed+failed
	return failed*math.Log(theta/theta0) + worked*math.Log((1-theta)/(1-theta0))
}

func divisor(a, b int) int {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}
