package readout

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

// World is what a simulated experiment happens in.
type World struct {
	Name    string          `json:"name"`
	Unit    experiment.Unit `json:"unit"`
	Units   int             `json:"units"`   // randomised, of both arms
	Members int             `json:"members"` // users of a community; 1 where users are randomised
	Mean    float64         `json:"mean"`    // posts of a user in a window
	CV      float64         `json:"cv"`      // of them
	ICC     float64         `json:"icc"`     // of users in a community
	Effect  float64         `json:"effect"`  // relative, that the treatment really has
	Steps   []int           `json:"steps"`   // of the ramp
	Looks   int             `json:"looks"`   // evenly spread from the start to the planned end
	Every   int             `json:"every"`   // or a look whenever so many units of each arm have completed
	Known   bool            `json:"known"`   // users have a past, for CUPED
	Tilt    float64         `json:"tilt"`    // share of the units that are assigned to the treatment, .5 but where assignment is broken

	Hold          experiment.Duration `json:"hold"`          // of each step
	Window        experiment.Duration `json:"window"`        // after which a unit's value is frozen
	MinimumEffect float64             `json:"minimumEffect"` // relative, that is worth having
	Alpha         float64             `json:"alpha"`

	Margin  float64 `json:"margin"`  // of a guardrail on errors; 0 for none
	Errors  float64 `json:"errors"`  // share of the requests that fail in the control
	Harm    float64 `json:"harm"`    // what the treatment adds to it
	Bursts  bool    `json:"bursts"`  // errors come in bursts of windows
	Windows int     `json:"windows"` // of 10 s
	Rate    int     `json:"rate"`    // requests per arm and window
}

// even is the Tilt of an assignment that works.
const even = .5

// Plain is a world to start from: so many users, everyone at once and judged for a week, 5 posts each, and no effect.
func Plain(users int) World {
	week := experiment.Duration(7 * day)
	return World{Unit: experiment.User, Units: users, Members: 1, Mean: 5, CV: 1, Steps: []int{50}, Looks: 20, Tilt: even, Hold: week, Window: week, MinimumEffect: .05, Alpha: .05}
}

// posting is the metric that is simulated.
const posting = "tweets_per_user"

var simulatedStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// simulated is one experiment in a world: its rows, which the readout reads as it does PostgreSQL's.
type simulated struct {
	World
	started store.Started
	units   []simulatedUnit // by entry
	slugs   []string
	sums    [2][]stats.Pairs // of the users, cumulated in the order of units
	windows []store.Window   // one after the other from the start
}

// simulatedUnit is a user or a community.
type simulatedUnit struct {
	name  string
	id    int64
	arm   experiment.Arm
	entry time.Time
	sums  stats.Pairs // of its users: posts, and those of the past
}

// simulate draws an experiment. The same seed draws the same one.
func (w World) simulate(seed uint64) *simulated {
	random := rand.New(rand.NewPCG(seed, 0))
	spec := experiment.Spec{
		Services: []string{"tweet"}, Unit: w.Unit, Alpha: w.Alpha, Power: .8,
		Ramp:    experiment.Ramp{Steps: w.Steps, Hold: experiment.Hold{Time: w.Hold}},
		Metrics: experiment.Metrics{Window: w.Window, Primary: experiment.Primary{Name: posting, MinimumEffect: experiment.Percent(w.MinimumEffect)}},
	}
	if w.Margin > 0 {
		spec.Metrics.Guardrails = []experiment.Guardrail{{Name: "error_share", Margin: experiment.Points(w.Margin)}}
	}
	s := &simulated{World: w, started: store.Started{Name: w.Name, Spec: spec, Salt: strconv.FormatUint(seed, 36), PlannedUnits: int64(max(1, w.Units)), At: simulatedStart}}
	for i, percent := range w.Steps {
		s.started.Transitions = append(s.started.Transitions, experiment.Transition{ID: strconv.Itoa(i), Phase: "Running", Step: i, Percent: percent, At: simulatedStart.Add(time.Duration(i) * time.Duration(w.Hold))})
	}
	s.populate(random)
	s.serve(random)
	return s
}

// populate draws units until as many as there are to be have a slot.
func (s *simulated) populate(random *rand.Rand) {
	f := newFrame(s.started, s.end())
	post := s.posts(random)
	s.units = make([]simulatedUnit, 0, s.Units)
	for id := int64(1); len(s.units) < s.Units && s.Unit != experiment.Request; id++ {
		u := simulatedUnit{name: strconv.FormatInt(id, 10), id: id}
		if s.Unit == experiment.Community {
			u.name = "community-" + u.name
		}
		for _, step := range f.steps {
			rules := f.rulesAt(step.Percent)
			if u.arm, _ = rules.Assign(id, u.name); u.arm != "" {
				u.entry = step.At
				break
			}
		}
		if u.arm == "" {
			continue
		}
		if s.Unit == experiment.User { // who comes within the hold of the step
			u.entry = u.entry.Add(time.Duration(random.Float64() * float64(s.Hold)).Truncate(time.Millisecond))
		}
		if s.Tilt != even {
			u.arm = experiment.Control
			if random.Float64() < s.Tilt {
				u.arm = experiment.Treatment
			}
		}
		u.sums = post(u.arm)
		s.units = append(s.units, u)
	}
	slices.SortFunc(s.units, func(a, b simulatedUnit) int { return cmp.Or(a.entry.Compare(b.entry), cmp.Compare(a.id, b.id)) })
	s.slugs, s.sums = make([]string, 0, s.Units), [2][]stats.Pairs{make([]stats.Pairs, 0, s.Units), make([]stats.Pairs, 0, s.Units)}
	for _, u := range s.units {
		s.slugs = append(s.slugs, u.name)
		for arm := range s.sums {
			var sum stats.Pairs
			if n := len(s.sums[arm]); n > 0 {
				sum = s.sums[arm][n-1]
			}
			if index(u.arm) == arm {
				sum = sum.Merge(u.sums)
			}
			s.sums[arm] = append(s.sums[arm], sum)
		}
	}
	slices.Sort(s.slugs)
}

// posts draws what a unit's users do: Poisson counts at rates that differ between users and, less, between communities,
// both by a gamma distribution about 1, so that counts have the world's CV and ICC.
func (s *simulated) posts(random *rand.Rand) func(experiment.Arm) stats.Pairs {
	variance := s.CV * s.CV
	between := s.ICC * variance
	within := max(0, variance-1/s.Mean-between) / (1 + between)
	about1 := func(variance float64) float64 {
		if variance <= 0 {
			return 1
		}
		return distuv.Gamma{Alpha: 1 / variance, Beta: 1 / variance, Src: random}.Rand()
	}
	return func(arm experiment.Arm) (sums stats.Pairs) {
		community := about1(between)
		for range s.Members {
			rate := s.Mean * community * about1(within)
			var before float64
			if s.Known {
				before = distuv.Poisson{Lambda: rate * float64(store.Past) / float64(s.Window), Src: random}.Rand()
			}
			if arm == experiment.Treatment {
				rate *= 1 + s.Effect
			}
			sums.Add(distuv.Poisson{Lambda: rate, Src: random}.Rand(), before)
		}
		return sums
	}
}

// serve draws the windows of both arms. Bursts are a common multiple of the error rate that lasts for a while.
func (s *simulated) serve(random *rand.Rand) {
	state := 0.0
	for range s.Windows {
		rate := 1.0
		if s.Bursts {
			const memory = .8
			state = memory*state + math.Sqrt(1-memory*memory)*random.NormFloat64()
			rate = math.Exp(state/2 - .125) // a mean of 1
		}
		w := store.Window{Requests: experiment.Counts{Control: int64(s.Rate), Treatment: int64(s.Rate)}}
		for arm, p := range [2]float64{s.Errors * rate, s.Errors*rate + s.Harm} {
			if p > 0 {
				add(&w.Bad, bothArms[arm], int64(distuv.Binomial{N: float64(s.Rate), P: min(1, p), Src: random}.Rand()))
			}
		}
		s.windows = append(s.windows, w)
	}
}

// end is the planned end.
func (s *simulated) end() time.Time {
	return simulatedStart.Add(time.Duration(len(s.Steps))*time.Duration(s.Hold) + time.Duration(s.Window))
}

// looks are the times at which somebody looks.
func (s *simulated) looks() (times []time.Time) {
	if s.Unit == experiment.Request { // guardrails are asked after every window
		for i := stats.GuardrailWindows; i <= s.Windows; i++ {
			times = append(times, simulatedStart.Add(time.Duration(i+1)*experiment.Window))
		}
		return times
	}
	if s.Every == 0 {
		for i := range s.Looks {
			times = append(times, simulatedStart.Add(s.end().Sub(simulatedStart)*time.Duration(i+1)/time.Duration(s.Looks)))
		}
		return times
	}
	for i := 2 * s.Every; i <= len(s.units); i += 2 * s.Every {
		times = append(times, s.units[i-1].entry.Add(time.Duration(s.Window)))
	}
	return times
}

// entered is the number of units that had at a time.
func (s *simulated) entered(at time.Time) int {
	return sort.Search(len(s.units), func(i int) bool { return s.units[i].entry.After(at) })
}

// between are an arm's users whose units entered after one time and until another.
func (s *simulated) between(arm int, after, until time.Time) stats.Pairs {
	upTo := func(at time.Time) (sums stats.Pairs) {
		if n := s.entered(at); n > 0 {
			sums = s.sums[arm][n-1]
		}
		return sums
	}
	a, b := upTo(after), upTo(until)
	return stats.Pairs{N: b.N - a.N, SumY: b.SumY - a.SumY, SumYY: b.SumYY - a.SumYY, SumX: b.SumX - a.SumX, SumXX: b.SumXX - a.SumXX, SumXY: b.SumXY - a.SumXY}
}

var bothArms = []experiment.Arm{experiment.Control, experiment.Treatment}

func (s *simulated) Experiment(context.Context, string) (store.Started, error) { return s.started, nil }

func (s *simulated) Communities(context.Context, time.Time) ([]string, error) {
	if s.Unit != experiment.Community {
		return nil, nil
	}
	return s.slugs, nil
}

func (s *simulated) Users(context.Context, []string, time.Time) (int64, error) {
	return int64(len(s.units)), nil
}

func (s *simulated) Exposures(_ context.Context, _ string, looks store.Looks) (found []store.Exposed, _ error) {
	for i := 0; looks.Start.Add(time.Duration(i) * looks.Every).Before(looks.End); i++ {
		from, to := looks.Start.Add(time.Duration(i)*looks.Every), minTime(looks.End, looks.Start.Add(time.Duration(i+1)*looks.Every))
		for arm, name := range bothArms {
			if n := s.between(arm, from.Add(-1), to.Add(-1)).N; n > 0 {
				found = append(found, store.Exposed{Arm: name, Look: i, Users: n})
			}
		}
	}
	return found, nil
}

func (s *simulated) Candidates(_ context.Context, _ string, _ []string, end time.Time, each func(store.Candidate)) error {
	for i, u := range s.units {
		c := store.Candidate{UserID: u.id}
		if i < s.entered(end.Add(-1)) {
			c.Unit, c.Arm = u.name, u.arm
		}
		each(c)
	}
	return nil
}

func (s *simulated) LargestCommunities(context.Context, string, time.Time, int) ([]string, error) {
	return nil, nil
}

func (s *simulated) PodWindows(context.Context, string, time.Time) (experiment.Counts, error) {
	return experiment.Counts{Control: 1000, Treatment: 1000}, nil
}

func (s *simulated) ExposedUnits(_ context.Context, _ string, end time.Time) (found []store.ExposedUnit, _ error) {
	for _, u := range s.units[:s.entered(end.Add(-1))] {
		found = append(found, store.ExposedUnit{Unit: u.name, Arm: u.arm, First: u.entry, Users: u.sums.N})
	}
	return found, nil
}

func (s *simulated) Requests(context.Context, string, time.Time, time.Time) ([]store.Requested, error) {
	return []store.Requested{{Arm: experiment.Control, Requests: 1000, Recent: 100}, {Arm: experiment.Treatment, Requests: 1000, Recent: 100}}, nil
}

func (s *simulated) Quotes(context.Context, store.Members, int) ([]store.Quote, error) {
	return nil, nil
}

func (s *simulated) Completed(_ context.Context, m store.Members) (n experiment.Counts, _ error) {
	for arm, name := range bothArms {
		add(&n, name, s.between(arm, time.Time{}, m.End.Add(-m.Window)).N)
	}
	return n, nil
}

func (s *simulated) CompletedAt(_ context.Context, m store.Members, n int64) (time.Time, error) {
	return s.units[n-1].entry.Add(m.Window), nil
}

func (s *simulated) UserSums(_ context.Context, _ store.Metric, m store.Members, looks store.Looks, _ []string) (found []store.Sums, _ error) {
	latest := m.End.Add(-m.Window)
	for i := 0; ; i++ {
		from, to := looks.Start.Add(time.Duration(i)*looks.Every-m.Window), minTime(latest, looks.Start.Add(time.Duration(i+1)*looks.Every-m.Window-1))
		if from.After(latest) {
			return found, nil
		}
		for arm, name := range bothArms {
			if p := s.between(arm, from.Add(-1), to); p.N > 0 {
				found = append(found, store.Sums{Arm: name, Look: i, Known: s.Known, Users: p.N, N: p.N, SumY: p.SumY, SumYY: p.SumYY, SumX: p.SumX, SumXX: p.SumXX, SumXY: p.SumXY})
			}
		}
	}
}

func (s *simulated) UserValues(_ context.Context, _ store.Metric, m store.Members, _ int) (found []store.Value, _ error) {
	for _, u := range s.units[:s.entered(m.End.Add(-m.Window))] {
		found = append(found, store.Value{Unit: u.name, Arm: u.arm, Value: u.sums.SumY})
	}
	slices.SortFunc(found, func(a, b store.Value) int { return cmp.Compare(a.Unit, b.Unit) })
	return found, nil
}

func (s *simulated) UnitMembers(context.Context, store.Members) (map[string]int64, error) {
	counts := make(map[string]int64, len(s.units))
	for _, u := range s.units {
		counts[u.name] = u.sums.N
	}
	return counts, nil
}

func (s *simulated) UnitSums(_ context.Context, _ store.Metric, m store.Members) (found []store.UnitSums, _ error) {
	for _, u := range s.units[:s.entered(m.End.Add(-m.Window))] {
		sums := store.UnitSums{Unit: u.name, Arm: u.arm, Members: u.sums.N, N: u.sums.N, Sum: u.sums.SumY, SumSq: u.sums.SumYY}
		if s.Known {
			sums.PriorN, sums.PriorSum = u.sums.N, u.sums.SumX
		}
		found = append(found, sums)
	}
	slices.SortFunc(found, func(a, b store.UnitSums) int { return cmp.Compare(a.Unit, b.Unit) })
	return found, nil
}

func (s *simulated) Ratio(_ context.Context, _ store.Metric, span store.Span, _ time.Duration) ([]store.Window, error) {
	begun := int((span.End.Sub(simulatedStart) + experiment.Window - 1) / experiment.Window)
	return s.windows[:max(0, min(begun, len(s.windows)))], nil
}

func (s *simulated) Histograms(context.Context, store.Metric, store.Span, time.Duration) ([]store.Histogram, error) {
	return nil, nil
}
