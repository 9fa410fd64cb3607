package unitworld

import (
	"math"
	"math/rand/v2"
)

// User is a randomised user at the end of its window.
type User struct {
	Treatment bool
	Value     float64
	Level     float64 // what users who enter when it did do in the mean, without the treatment
	Known     bool    // it has a past
	Prior     float64 // the same metric before its entry; 0 if it has none
}

// Values is a distribution of what users do. All but ZeroInflated have the mean 5.
type Values int

const (
	Normal       Values = iota // standard deviation 2.5
	Sigma2                     // lognormal of sigma 2: a skewness of 414
	Pareto15                   // Pareto of shape 1.5, whose variance is infinite
	ZeroInflated               // 1 of a hundred users does anything, exponential of mean 5
)

// Users is a world of randomised users, who enter one after the other over two weeks.
type Users struct {
	Name   string
	Users  int
	Values Values
	Gain   float64 // relative effect on treated users
	Drifts bool    // the level grows threefold over the run, and has a week's cycle of half of it up and down
	Past   bool    // half of the users have a past, which correlates with their value by .8. Of Normal values only
}

const days, correlation = 14, .8

// Draw returns the users in the order of their entry.
func (w Users) Draw(random *rand.Rand) []User {
	users := make([]User, w.Users)
	for i := range users {
		at := float64(i) / float64(w.Users)
		u := &users[i]
		u.Treatment, u.Level = random.IntN(2) == 1, 1
		if w.Drifts {
			u.Level = (1 + 2*at) * (1 + .5*math.Sin(2*math.Pi*at*days/7))
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

// Mean is what a user does in the mean, without drift and treatment.
func (v Values) Mean() float64 {
	if v == ZeroInflated {
		return .01 * mean
	}
	return mean
}

// draw makes a value of a standard normal one, or of randomness of its own.
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
