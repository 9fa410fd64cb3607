// Package unitworld draws randomised units for simulations. Its worlds are difficult for statistical methods: communities
// that differ in size and level, and users whose values are far from normal. The same source of randomness draws the same
// units.
package unitworld

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"
)

// Unit is a randomised unit at the end of its window.
type Unit struct {
	Stratum   int     // the ramp's step at its entry
	Treatment bool    // its label
	Sum       float64 // sum of its members' values
	Size      float64 // number of members
}

// Sizes is a distribution of the number of members of communities.
type Sizes int

const (
	Equal     Sizes = iota // 50 each
	Lognormal              // of sigma 1.5 and mean 50
	Pareto                 // of shape 1.1, with at least 5 members and mean 55: a few communities have most of the members
)

func (s Sizes) draw(random *rand.Rand) float64 {
	const sigma, mean, shape, least, most = 1.5, 50, 1.1, 5, 1e6
	switch s {
	case Lognormal:
		return max(1, math.Round(mean*math.Exp(sigma*random.NormFloat64()-sigma*sigma/2)))
	case Pareto:
		return min(most, math.Round(least*math.Pow(1-random.Float64(), -1/shape)))
	}
	return mean
}

// Communities is a world of randomised communities. The number of a member's posts has a Poisson distribution. Its rate
// differs between members and between communities, each by a gamma distribution with mean 1.
type Communities struct {
	Name    string
	Units   int
	Sizes   Sizes
	Growth  float64 // a community's rate is proportional to size^Growth
	ICC     float64 // the share of the variance of members' values that is between communities of the same size and step
	Gain    float64 // relative effect on treated communities; .5 is 50 % more
	Cancels bool    // a random half of the communities gain, and the others lose as much in total
}

// Levels are the rates of communities by the step at which they enter, and Shares are the shares of communities that enter at
// each step.
var (
	Levels = [...]float64{1, 1.5, 2.5}
	Shares = [...]float64{.1, .4, .5}
)

const (
	mean = 5. // posts of a member in a window
	cv   = 1. // coefficient of variation of these
)

// Draw randomises each community with a fair coin, and returns the communities with their sums.
func (w Communities) Draw(random *rand.Rand) []Unit {
	units, rates := make([]Unit, w.Units), make([]float64, w.Units)
	between := w.ICC * cv * cv
	for i := range units {
		u := &units[i]
		u.Stratum, u.Treatment, u.Size = drawStep(random), random.IntN(2) == 1, w.Sizes.draw(random)
		rates[i] = mean * Levels[u.Stratum] * math.Pow(u.Size/50, w.Growth) * gammaOfMean1(random, between)
	}
	w.treat(random, units, rates)
	within := (cv*cv - 1/mean - between) / (1 + between)
	for i := range units {
		u := &units[i] // the sum of members' gamma rates is a gamma too
		u.Sum = distuv.Poisson{Lambda: max(1e-9, u.Size*rates[i]*gammaOfMean1(random, within/u.Size)), Src: random}.Rand()
	}
	return units
}

// treat changes the rates of treated communities by the effect. Which communities gain does not depend on the label.
func (w Communities) treat(random *rand.Rand, units []Unit, rates []float64) {
	factors := make([]float64, len(units))
	var gaining, losing float64
	for i, u := range units {
		if factors[i] = 1; !w.Cancels || random.IntN(2) == 1 {
			factors[i] = 1 + w.Gain
			gaining += u.Size * rates[i]
		} else {
			losing += u.Size * rates[i]
		}
	}
	if w.Cancels && gaining > 0 && losing > 0 {
		gain := min(w.Gain, losing/gaining) // so that no community loses more than it has
		for i := range factors {
			if factors[i] == 1 {
				factors[i] = 1 - gain*gaining/losing
			} else {
				factors[i] = 1 + gain
			}
		}
	}
	for i, u := range units {
		if u.Treatment {
			rates[i] *= factors[i]
		}
	}
}

// drawStep draws the step at which a community enters.
func drawStep(random *rand.Rand) int {
	left := random.Float64()
	for i, share := range Shares[:len(Shares)-1] {
		if left < share {
			return i
		}
		left -= share
	}
	return len(Shares) - 1
}

// gammaOfMean1 draws from a gamma distribution with mean 1.
func gammaOfMean1(random *rand.Rand, variance float64) float64 {
	if variance <= 0 {
		return 1
	}
	return distuv.Gamma{Alpha: 1 / variance, Beta: 1 / variance, Src: random}.Rand()
}
