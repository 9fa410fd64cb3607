package unitworld

import (
	"math"
	"math/rand/v2"
)

// User is a randomised user at the end of its window.
type User struct {
	Treatment bool
	Value     float64
	Level     float64 // the mean value of users who enter at the same time, without the treatment
	Known     bool    // whether the user has a past
	Prior     float64 // the same metric before entry; 0 if the user has no past
}

// Values is a distribution of users' values. All except ZeroInflated have the mean 5.
type Values int

const (
	Normal       Values = iota // standard deviation 2.5
	Sigma2                     // lognormal of sigma 2: a skewness of 414
	Pareto15                   // Pareto of shape 1.5, whose variance is infinite
	ZeroInflated               // 1 of a hundred users has a value, exponential with mean 5; the others have 0
)

// Users is a world of randomised users who enter one after the other over two weeks.
type Users struct {
	Name   string
	Users  int
	Values Values
	Gain   float64 // relative effect on treated users
	Drifts bool    // the level grows threefold over the run, with a weekly cycle of plus and minus half
	Past   bool    // half of the users have a past, which has a correlation of .8 with their value. Only with Normal values
}

const days, correlation = 14, .8

// Draw returns the users in the order of their entry.
func (w Users) Draw(random *rand.Rand) []User {
	users := make([]User, w.Users)
	for i := range users {
		elapsed := float64(i) / float64(w.Users) // share of the run
		u := &users[i]
		u.Treatment, u.Level = random.IntN(2) == 1, 1
		if w.Drifts {
			u.Level = (1 + 2*elapsed) * (1 + .5*math.Sin(2*math.Pi*elapsed*days/7))
		}
		own := random.NormFloat64()
		u.Value = u.Level * w.Values.draw(random, own)
		u.Level *= w.Values.Mean()
		if u.Known = w.Past && random.IntN(2) == 1; u.Known {
			u.Prior = w.Values.draw(random, correlation*own+math.Sqrt(1-correlation*correlation)*random.NormFloat64())
		}
		if u.Treatment {
			u.Value *= 1 + w.Gain
		}
	}
	return users
}

// Mean returns the mean value of a user, without drift and treatment.
func (v Values) Mean() float64 {
	if v == ZeroInflated {
		return .01 * mean
	}
	return mean
}

// draw returns a value, computed from a standard normal value or drawn from random.
func (v Values) draw(random *rand.Rand, normal float64) float64 {
	switch v {
	case Sigma2:
		return mean * math.Exp(2*normal-2)
	case Pareto15:
		return mean / 3 * math.Pow(1-random.Float64(), -1/1.5)
	case ZeroInflated:
		if random.Float64() >= .01 {
			return 0
		}
		return mean * random.ExpFloat64()
	}
	return mean + mean/2*normal
}
