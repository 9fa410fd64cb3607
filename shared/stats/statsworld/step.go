package statsworld

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"

	"warble/shared/stats"
)

// Step is one step of a simulated ramp.
type Step struct {
	world    World
	random   *rand.Rand
	groups   [2][Buckets]group
	wandered [2]float64 // how far each arm's log error rate is from its mean, in standard deviations
	periods  int
	services []service
}

// group has the units in one bucket of an arm.
type group struct {
	share float64 // of the requests of both arms
	bad   float64 // its bad requests, divided by the bad requests of both arms if every unit had the same error rate
}

// service has the traffic that was drawn, and the requests that are not in buckets yet.
type service struct {
	stats.Traffic
	good, bad [2]int64
	harmed    [2]int64 // requests that are bad because of the harm; not in bad
}

// Start draws the units, half of them for each arm, and the traffic of the baseline.
func (w World) Start(random *rand.Rand) *Step {
	s := &Step{world: w, random: random, services: make([]service, len(w.Services))}
	s.populate()
	for arm := range s.wandered {
		s.wandered[arm] = random.NormFloat64()
	}
	for i, described := range w.Services {
		s.services[i].Service = described.Name
		for arm := range 2 {
			s.services[i].Buckets[arm] = make([]stats.Proportion, Buckets)
		}
	}
	if w.Before > 0 {
		s.drawBaseline()
	}
	return s
}

// populate assigns units to arms and buckets.
func (s *Step) populate() {
	w := s.world
	if w.Activity == nil {
		for arm := range s.groups {
			for b := range s.groups[arm] {
				s.groups[arm][b] = group{.5 / Buckets, .5 / Buckets}
			}
		}
		return
	}
	var all float64
	for _, size := range w.Activity {
		all += size
	}
	for i, unit := range s.random.Perm(len(w.Activity)) {
		g := &s.groups[i%2][s.random.IntN(Buckets)]
		share := w.Activity[unit] / all
		g.share += share
		g.bad += share * math.Exp(w.Spread*s.random.NormFloat64()-w.Spread*w.Spread/2)
	}
}

// drawBaseline draws the baseline: periods in which nobody is treated.
func (s *Step) drawBaseline() {
	from := s.world.From
	s.world.From = math.MaxInt
	for range s.world.Before {
		s.Next()
	}
	s.fillBuckets()
	for i := range s.services {
		t := &s.services[i].Traffic
		t.Baseline, t.Periods = t.Buckets, nil
		t.Buckets = [2][]stats.Proportion{make([]stats.Proportion, Buckets), make([]stats.Proportion, Buckets)}
	}
	s.world.From, s.periods = from, 0
}

// Next draws one more period.
func (s *Step) Next() {
	factors := s.wander()
	for i := range s.services {
		var arms [2]stats.Proportion
		for arm := range arms {
			arms[arm] = s.drawArm(i, arm, factors[arm])
		}
		s.services[i].Periods = append(s.services[i].Periods, stats.Period{Control: arms[0], Treatment: arms[1]})
	}
	s.periods++
}

// wander changes the arms' error rates, and returns the factors by which they differ from their means.
func (s *Step) wander() (factors [2]float64) {
	memory, wander := s.world.Memory, s.world.Wander
	for arm := range s.wandered {
		s.wandered[arm] = memory*s.wandered[arm] + math.Sqrt(1-memory*memory)*s.random.NormFloat64()
		factors[arm] = math.Exp(wander*s.wandered[arm] - wander*wander/2)
	}
	return factors
}

// drawArm draws one arm's requests to a Service in a period. factor multiplies the Service's error rate.
func (s *Step) drawArm(i, arm int, factor float64) stats.Proportion {
	described, drawn := &s.world.Services[i], &s.services[i]
	share, badShare := s.shares(arm)
	mean := s.world.Requests * described.Share[arm]
	harm := 0.0
	if arm == 1 && s.periods >= s.world.From {
		harm = s.world.Harm + described.Harm
	}
	bad, harmed := s.poisson(mean*badShare*described.Errors*factor), s.poisson(mean*share*harm)
	good := s.poisson(mean * (share*(1-harm) - badShare*described.Errors*factor))
	drawn.good[arm], drawn.bad[arm], drawn.harmed[arm] = drawn.good[arm]+good, drawn.bad[arm]+bad, drawn.harmed[arm]+harmed
	return stats.Proportion{Successes: bad + harmed, N: bad + harmed + good}
}

// shares sums the groups of an arm.
func (s *Step) shares(arm int) (share, bad float64) {
	for _, g := range s.groups[arm] {
		share, bad = share+g.share, bad+g.bad
	}
	return share, bad
}

// Traffic returns the traffic of the step so far, by Service. It is valid until the next call of Next.
func (s *Step) Traffic() []stats.Traffic {
	s.fillBuckets()
	traffic := make([]stats.Traffic, len(s.services))
	for i := range s.services {
		traffic[i] = s.services[i].Traffic
	}
	return traffic
}

// fillBuckets distributes the periods' requests over buckets. This need not be done for each period. Good requests are
// distributed by the buckets' shares of all requests, so that bad requests alone determine a unit's error rate.
func (s *Step) fillBuckets() {
	for i := range s.services {
		drawn := &s.services[i]
		for arm, groups := range s.groups {
			shareLeft, badLeft := s.shares(arm) // of the buckets that have not been filled
			for b, g := range groups {
				bad := s.take(&drawn.bad[arm], g.bad/badLeft)
				harmed, good := s.take(&drawn.harmed[arm], g.share/shareLeft), s.take(&drawn.good[arm], g.share/shareLeft)
				bucket := &drawn.Buckets[arm][b]
				bucket.Successes, bucket.N = bucket.Successes+bad+harmed, bucket.N+bad+harmed+good
				shareLeft, badLeft = shareLeft-g.share, badLeft-g.bad
			}
		}
	}
}

// take draws each of the requests that are left with probability p, and returns how many it took.
func (s *Step) take(left *int64, p float64) (taken int64) {
	switch {
	case *left == 0 || p == 0:
	case p > 1-1e-9: // the last bucket; the rest is rounding
		taken = *left
	default:
		taken = int64(distuv.Binomial{N: float64(*left), P: p, Src: s.random}.Rand())
	}
	*left -= taken
	return taken
}

func (s *Step) poisson(mean float64) int64 {
	if mean <= 0 {
		return 0
	}
	return int64(distuv.Poisson{Lambda: mean, Src: s.random}.Rand())
}
