// Package statsworld draws the traffic of simulated experiments, so that what shared/stats promises can be measured. The
// same seed draws the same traffic.
package statsworld

import "math"

// Buckets is how many buckets the units of an arm fall into.
const Buckets = 32

// World says how requests come and fail.
type World struct {
	Name     string
	Services []Service
	Requests float64 // mean per window, of both arms together

	// Activity is how many requests each unit makes, relative to the others. nil: each request is a unit of its own.
	Activity []float64
	Spread   float64 // standard deviation of the log of the units' error rates, which stay as they are

	// Each arm's log error rate is an AR(1) process of its own, with the standard deviation Wander. Memory is its
	// correlation from one window to the next.
	Memory, Wander float64

	Harm float64 // what the treatment adds to the share of bad requests
	From int     // the window in which that begins

	Before int // windows before anybody is treated, which make the baseline; 0 for none
}

// Service is a share of the requests, and how many of them fail.
type Service struct {
	Name   string
	Share  [2]float64 // of the requests of the control, and of the treatment
	Errors float64    // share that is bad in the control, on average
	Harm   float64    // what the treatment adds to it, besides the World's
}

// Independent is one Service whose requests fail independently of each other, 1 % of them.
func Independent(requests float64) World {
	return World{Name: "independent", Services: []Service{{Name: "tweet", Share: [2]float64{1, 1}, Errors: .01}}, Requests: requests}
}

// Communities differ in their error rates, and in size as 1, 1/2, 1/3 and so on (Zipf).
func Communities(n int, requests float64) World {
	w := Independent(requests)
	w.Name, w.Activity, w.Spread = "communities", zipf(n, 1), .5
	return w
}

// Users are 500 who differ in their error rates, and in activity by a coefficient of variation of 3.
func Users(requests float64) World {
	w := Independent(requests)
	w.Name, w.Activity, w.Spread = "users", zipf(500, .878807), .5
	return w
}

// Wandering has arms whose error rates wander, each by itself.
func Wandering(memory, requests float64) World {
	w := Independent(requests)
	w.Name, w.Memory, w.Wander = "wandering", memory, .5
	return w
}

// Late is the same world with a harm that begins in some window.
func (w World) Late(harm float64, from int) World {
	w.Name, w.Harm, w.From = "late harm, "+w.Name, harm, from
	return w
}

// OtherMix has two Services, of which the treatment asks the one that fails often twice as much. Neither is harmed.
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
