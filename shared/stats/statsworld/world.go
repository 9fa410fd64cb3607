// Package statsworld draws the traffic of simulated experiments, to measure how often the methods of shared/stats are wrong.
// The same seed draws the same traffic.
package statsworld

import "math"

// Buckets is how many buckets the units of an arm fall into.
const Buckets = 32

// World says how many requests there are, and how they fail.
type World struct {
	Name     string
	Services []Service
	Requests float64 // mean per period, of both arms together

	// Activity is how many requests each unit makes, relative to the others. If it is nil, each request is a separate unit.
	Activity []float64
	Spread   float64 // standard deviation of the log of the units' error rates, which do not change over time

	// Each arm's log error rate is a separate AR(1) process with the standard deviation Wander. Memory is the correlation
	// from one period to the next.
	Memory, Wander float64

	Harm float64 // what the treatment adds to the share of bad requests
	From int     // the period in which the harm begins

	Before int // number of periods of the baseline, in which nobody is treated; 0 for none
}

// Service says which share of the requests a Service gets, and how many of them fail.
type Service struct {
	Name   string
	Share  [2]float64 // of the requests of the control, and of the treatment
	Errors float64    // share that is bad in the control, on average
	Harm   float64    // what the treatment adds to this share, in addition to the World's Harm
}

// Independent has one Service. 1 % of its requests fail, independently of each other.
func Independent(requests float64) World {
	return World{Name: "independent", Services: []Service{{Name: "tweet", Share: [2]float64{1, 1}, Errors: .01}}, Requests: requests}
}

// Communities has n units that differ in their error rates, with sizes in proportion to 1, 1/2, 1/3 and so on (Zipf).
func Communities(n int, requests float64) World {
	w := Independent(requests)
	w.Name, w.Activity, w.Spread = "communities", zipf(n, 1), .5
	return w
}

// Users has 500 units that differ in their error rates, and in activity with a coefficient of variation of 3.
func Users(requests float64) World {
	w := Independent(requests)
	w.Name, w.Activity, w.Spread = "users", zipf(500, .878807), .5
	return w
}

// Wandering has arms whose error rates change over time, independently of each other.
func Wandering(memory, requests float64) World {
	w := Independent(requests)
	w.Name, w.Memory, w.Wander = "wandering", memory, .5
	return w
}

// Late returns the same world with a harm that begins in the period from.
func (w World) Late(harm float64, from int) World {
	w.Name, w.Harm, w.From = "late harm, "+w.Name, harm, from
	return w
}

// OtherMix has two Services. One fails more often, and the treatment sends it twice as many requests. Neither is harmed.
func OtherMix(requests float64) World {
	w := Independent(requests)
	w.Name = "other mix"
	w.Services = []Service{
		{Name: "timeline", Share: [2]float64{.8, .6}, Errors: .005},
		{Name: "tweet", Share: [2]float64{.2, .4}, Errors: .03},
	}
	return w
}

func zipf(n int, exponent float64) []float64 {
	sizes := make([]float64, n)
	for i := range sizes {
		sizes[i] = math.Pow(float64(i+1), -exponent)
	}
	return sizes
}
