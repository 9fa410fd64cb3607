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
	log      [2]float64 // deviation of the arms' log error rates, in standard deviations
	windows  int
	services []service
}

// group has the units in one bucket of an arm.
type group struct {
	share float64 // of the requests of both arms
	bad   float64 // of the bad requests, relative to all bad requests if every unit had the same error rate
}

// service has the traffic that was drawn, and the requests that are not in buckets yet: good requests, requests that fail, and
// requests that fail because of the harm.
type service struct {
	stats.Traffic
	good, bad, harmed [2]int64
}

// Start draws the units, half of them for each arm, and the traffic of the baseline.
func (w World) Start(random *rand.Rand) *Step {
	s := &Step{world: w, random: random, services: make([]service, len(w.Services))}
	s.populate()
	for arm := range s.log {
		s.log[arm] = random.NormFloat64()
	}
	for i, of := range w.Services {
		s.services[i].Service = of.Name
		for arm := range 2 {
			s.services[i].Buckets[arm] = make([]stats.Proportion, Buckets)
		}
	}
	if w.Before > 0 {
		s.precede()
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

// precede draws the baseline: windows in which nobody is treated.
func (s *Step) precede() {
	from := s.world.From
	s.world.From = math.MaxInt
	for range s.world.Before {
		s.Next()
	}
	s.deal()
	for i := range s.services {
		t := &s.services[i].Traffic
		t.Baseline, t.Windows = t.Buckets, nil
		t.Buckets = [2][]stats.Proportion{make([]stats.Proportion, Buckets), make([]stats.Proportion, Buckets)}
	}
	s.world.From, s.windows = from, 0
}

// Next draws one more window.
func (s *Step) Next() {
	var wandering [2]float64
	for arm := range s.log {
		memory, wander := s.world.Memory, s.world.Wander
		s.log[arm] = memory*s.log[arm] + math.Sqrt(1-memory*memory)*s.random.NormFloat64()
		wandering[arm] = math.Exp(wander*s.log[arm] - wander*wander/2)
	}
	for i, of := range s.world.Services {
		to := &s.services[i]
		var arms [2]stats.Proportion
		for arm := range arms {
			share, bad := s.shares(arm)
			mean := s.world.Requests * of.Share[arm]
			harm := 0.0
			if arm == 1 && s.windows >= s.world.From {
				harm = s.world.Harm + of.Harm
			}
			failed, harmed := s.poisson(mean*bad*of.Errors*wandering[arm]), s.poisson(mean*share*harm)
			good := s.poisson(mean * (share*(1-harm) - bad*of.Errors*wandering[arm]))
			to.good[arm], to.bad[arm], to.harmed[arm] = to.good[arm]+good, to.bad[arm]+failed, to.harmed[arm]+harmed
			arms[arm] = stats.Proportion{Successes: failed + harmed, N: failed + harmed + good}
		}
		to.Windows = append(to.Windows, stats.Window{Control: arms[0], Treatment: arms[1]})
	}
	s.windows++
}

func (s *Step) shares(arm int) (share, bad float64) {
	for _, g := range s.groups[arm] {
		share, bad = share+g.share, bad+g.bad
	}
	return share, bad
}

// Traffic returns the traffic of the step so far, by Service. It is valid until the next call of Next.
func (s *Step) Traffic() []stats.Traffic {
	s.deal()
	traffic := make([]stats.Traffic, len(s.services))
	for i := range s.services {
		traffic[i] = s.services[i].Traffic
	}
	return traffic
}

// deal distributes the windows' requests over buckets. It need not do this for each window. Good requests are distributed by the
// buckets' shares of all requests, so that bad requests alone determine a unit's error rate.
func (s *Step) deal() {
	for i := range s.services {
		from := &s.services[i]
		for arm, groups := range s.groups {
			share, bad := s.shares(arm) // of the buckets that are left
			for b, g := range groups {
				failed := s.take(&from.bad[arm], g.bad/bad)
				harmed, good := s.take(&from.harmed[arm], g.share/share), s.take(&from.good[arm], g.share/share)
				to := &from.Buckets[arm][b]
				to.Successes, to.N = to.Successes+failed+harmed, to.N+failed+harmed+good
				share, bad = share-g.share, bad-g.bad
			}
		}
	}
}

// take takes each of the requests that are left with probability p, and returns how many it took.
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
