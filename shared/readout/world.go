package readout

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/stats/statsworld"
	"warble/shared/stats/unitworld"
	"warble/shared/store"
)

// World describes the conditions of a simulated experiment.
type World struct {
	Name    string          `json:"name"`
	Unit    experiment.Unit `json:"unit"`
	Units   int             `json:"units"`   // randomised units, both arms together
	Members int             `json:"members"` // users per community; 1 if users are randomised
	Mean    float64         `json:"mean"`    // posts per user and window
	CV      float64         `json:"cv"`      // coefficient of variation of these posts
	ICC     float64         `json:"icc"`     // intraclass correlation of users in a community
	Effect  float64         `json:"effect"`  // true relative effect of the treatment
	Steps   []int           `json:"steps"`   // of the ramp
	Looks   int             `json:"looks"`   // number of looks, evenly distributed from the start to the planned end
	Every   int             `json:"every"`   // if above 0, a look after every so many completed units per arm instead
	Known   bool            `json:"known"`   // users have a past, for CUPED
	Tilt    float64         `json:"tilt"`    // share of the units that are assigned to the treatment: .5 unless the assignment is broken

	// If one of Communities, Users and Traffic is set, units or requests are drawn from it, instead of by Mean, CV and ICC.
	Communities *unitworld.Communities `json:"-"`
	Users       *unitworld.Users       `json:"-"`
	Traffic     *statsworld.World      `json:"-"`

	Hold          experiment.Duration `json:"hold"`          // of each step
	Window        experiment.Duration `json:"window"`        // a unit's value is frozen after it
	MinimumEffect float64             `json:"minimumEffect"` // smallest relative effect that is worth having
	Alpha         float64             `json:"alpha"`

	Secondary []string `json:"-"` // further metrics; each has the same values as the primary one

	Margin       float64 `json:"margin"`  // of a guardrail on errors; 0 for none
	CountPeriods int     `json:"windows"` // count periods of 10 s
}

// even is the Tilt of a correct assignment.
const even = .5

// simulatedArrangements is the number of arrangements of a permutation test in simulations. With it the test is as valid as
// in a readout, which draws a hundred times as many.
const simulatedArrangements = 999

// Plain returns a basic world: so many users who all enter in one step and are judged after a week, with a mean of 5 posts
// and no effect.
func Plain(users int) World {
	week := experiment.Duration(7 * day)
	return World{Unit: experiment.User, Units: users, Members: 1, Mean: 5, CV: 1, Steps: []int{50}, Looks: 20, Tilt: even, Hold: week, Window: week, MinimumEffect: .05, Alpha: .05}
}

// posting is the metric that is simulated.
const posting = "tweets_per_user"

var simulatedStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// simulated is one experiment in a world. It implements rows, so that the readout reads it like PostgreSQL.
type simulated struct {
	World
	started store.Started
	units   []simulatedUnit // in the order of entry
	slugs   []string
	sums    [2][]tally // by arm: sums over the users of all units up to each unit
	traffic *statsworld.Step
	served  int // count periods that were drawn
}

// simulatedUnit is a user or a community.
type simulatedUnit struct {
	name  string
	id    int64
	arm   experiment.Arm
	entry time.Time
	tally
}

// tally sums up what users did: those with a past, and those without.
type tally struct {
	past, none stats.Pairs
	nonZero    int64
}

func (t *tally) add(value, prior float64, known bool) {
	if known {
		t.past.Add(value, prior)
	} else {
		t.none.Add(value, 0)
	}
	if value != 0 {
		t.nonZero++
	}
}

func (t tally) plus(u tally) tally {
	return tally{t.past.Merge(u.past), t.none.Merge(u.none), t.nonZero + u.nonZero}
}

func (t tally) minus(u tally) tally {
	less := func(a, b stats.Pairs) stats.Pairs {
		return stats.Pairs{N: a.N - b.N, SumY: a.SumY - b.SumY, SumYY: a.SumYY - b.SumYY, SumX: a.SumX - b.SumX, SumXX: a.SumXX - b.SumXX, SumXY: a.SumXY - b.SumXY}
	}
	return tally{less(t.past, u.past), less(t.none, u.none), t.nonZero - u.nonZero}
}

func (t *tally) all() stats.Pairs { return t.past.Merge(t.none) }

// simulate draws an experiment. The same seed draws the same experiment.
func (w World) simulate(seed uint64) *simulated {
	random := rand.New(rand.NewPCG(seed, 0))
	spec := experiment.Spec{
		Services: []string{"tweet"}, Unit: w.Unit, Alpha: w.Alpha, Power: .8,
		Ramp:    experiment.Ramp{Steps: w.Steps, Hold: experiment.Hold{Time: new(w.Hold)}},
		Metrics: experiment.Metrics{Window: w.Window, Primary: experiment.Primary{Name: posting, MinimumEffect: experiment.Percent(w.MinimumEffect)}, Secondary: w.Secondary},
	}
	if w.Margin > 0 {
		spec.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: experiment.Points(w.Margin)}}
	}
	s := &simulated{World: w, started: store.Started{Name: w.Name, Spec: spec, Salt: strconv.FormatUint(seed, 36), PlannedUnits: int64(max(1, w.Units)), At: simulatedStart}}
	for i, percent := range w.Steps {
		s.started.Transitions = append(s.started.Transitions, experiment.Transition{ID: strconv.Itoa(i), Phase: "Running", Step: i, Percent: percent, At: simulatedStart.Add(time.Duration(i) * time.Duration(w.Hold))})
	}
	switch {
	case w.Communities != nil:
		s.drawCommunities(random)
	case w.Users != nil:
		s.drawUsers(random)
	default:
		s.populate(random)
	}
	s.sumUp()
	if w.Traffic != nil {
		s.traffic = w.Traffic.Start(random)
	}
	return s
}

// nameUnits returns a function that names one new unit after the other. It skips units that get no slot, and returns each
// other unit with its arm, and the step at which the unit's hash lets it in.
func (s *simulated) nameUnits() func() (u simulatedUnit, step int) {
	f := newFrame(s.started, s.end())
	id := int64(0)
	return func() (u simulatedUnit, step int) {
		for {
			id++
			u = simulatedUnit{name: strconv.FormatInt(id, 10), id: id}
			if s.Unit == experiment.Community {
				u.name = "community-" + u.name
			}
			for i, at := range f.steps {
				rules := f.rulesAt(at.Percent)
				if u.arm, _ = rules.Assign(id, u.name); u.arm != "" {
					u.entry = at.At
					return u, i
				}
			}
		}
	}
}

// populate draws units until the wanted number has a slot.
func (s *simulated) populate(random *rand.Rand) {
	post, next := s.drawPosts(random), s.nameUnits()
	for len(s.units) < s.Units && s.Unit != experiment.Request {
		u, _ := next()
		if s.Unit == experiment.User { // users come at any time within the hold of their step
			u.entry = u.entry.Add(time.Duration(random.Float64() * float64(s.Hold)).Truncate(time.Millisecond))
		}
		if s.Tilt != even {
			u.arm = experiment.Control
			if random.Float64() < s.Tilt {
				u.arm = experiment.Treatment
			}
		}
		u.tally = post(u.arm)
		s.units = append(s.units, u)
	}
}

// drawCommunities draws communities from the world's own distribution, and gives each a name whose hash leads to its step
// and arm.
func (s *simulated) drawCommunities(random *rand.Rand) {
	type place struct {
		step int
		arm  experiment.Arm
	}
	waiting := make(map[place][]unitworld.Unit)
	for _, u := range s.World.Communities.Draw(random) {
		at := place{u.Stratum, bothArms[labelIndex(u.Treatment)]}
		waiting[at] = append(waiting[at], u)
	}
	next := s.nameUnits()
	for len(s.units) < s.World.Communities.Units {
		u, step := next()
		at := place{step, u.arm}
		if len(waiting[at]) == 0 {
			continue
		}
		drawn := waiting[at][0]
		waiting[at] = waiting[at][1:]
		u.none = stats.Pairs{N: int64(drawn.Size), SumY: drawn.Sum}
		s.units = append(s.units, u)
	}
}

// drawUsers draws users from the world's own distribution, and gives each a name whose hash leads to its arm. They arrive
// one after the other within the hold.
func (s *simulated) drawUsers(random *rand.Rand) {
	drawn := s.World.Users.Draw(random)
	names := [2][]simulatedUnit{}
	next := s.nameUnits()
	for i, u := range drawn {
		arm := labelIndex(u.Treatment)
		for len(names[arm]) == 0 {
			name, _ := next()
			names[armIndex(name.arm)] = append(names[armIndex(name.arm)], name)
		}
		unit := names[arm][0]
		names[arm] = names[arm][1:]
		unit.entry = unit.entry.Add(time.Duration(float64(s.Hold) * float64(i) / float64(len(drawn))).Truncate(time.Millisecond))
		unit.add(u.Value, u.Prior, u.Known)
		s.units = append(s.units, unit)
	}
}

func labelIndex(treatment bool) int {
	if treatment {
		return 1
	}
	return 0
}

// sumUp sorts units by entry, and adds them up.
func (s *simulated) sumUp() {
	slices.SortFunc(s.units, func(a, b simulatedUnit) int { return cmp.Or(a.entry.Compare(b.entry), cmp.Compare(a.id, b.id)) })
	var sums [2]tally
	for _, u := range s.units {
		s.slugs = append(s.slugs, u.name)
		sums[armIndex(u.arm)] = sums[armIndex(u.arm)].plus(u.tally)
		for arm := range sums {
			s.sums[arm] = append(s.sums[arm], sums[arm])
		}
	}
	slices.Sort(s.slugs)
}

// drawPosts returns a function that draws what the users of a unit do: Poisson counts. Their rates differ between users
// and, to a lesser degree, between communities. Both differences have a gamma distribution with mean 1, so that counts have
// the world's CV and ICC.
func (s *simulated) drawPosts(random *rand.Rand) func(experiment.Arm) tally {
	variance := s.CV * s.CV
	between := s.ICC * variance
	within := max(0, variance-1/s.Mean-between) / (1 + between)
	about1 := func(variance float64) float64 {
		if variance <= 0 {
			return 1
		}
		return distuv.Gamma{Alpha: 1 / variance, Beta: 1 / variance, Src: random}.Rand()
	}
	return func(arm experiment.Arm) (sums tally) {
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
			sums.add(distuv.Poisson{Lambda: rate, Src: random}.Rand(), before, s.Known)
		}
		return sums
	}
}

// leastCV is the square of the smallest coefficient of variation that counts with this mean and ICC can have: that of a
// Poisson distribution.
func (w World) leastCV() float64 { return 1 / (w.Mean * (1 - w.ICC)) }

// end is the planned end.
func (s *simulated) end() time.Time {
	return simulatedStart.Add(time.Duration(len(s.Steps))*time.Duration(s.Hold) + time.Duration(s.Window))
}

// looks returns the times of the looks.
func (s *simulated) looks() (times []time.Time) {
	if s.Unit == experiment.Request { // guardrails are asked after every count period, and later only every minute
		const often = 30
		for i := 1; i <= s.World.CountPeriods; i++ {
			if i <= often || i%6 == 0 {
				times = append(times, simulatedStart.Add(time.Duration(i+1)*experiment.CountPeriod))
			}
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

// countEntered returns the number of units that had entered at a time.
func (s *simulated) countEntered(at time.Time) int {
	return sort.Search(len(s.units), func(i int) bool { return s.units[i].entry.After(at) })
}

// enteredBetween sums up an arm's users whose units entered after one time and not after another.
func (s *simulated) enteredBetween(arm int, after, until time.Time) tally {
	upTo := func(at time.Time) (sums tally) {
		if n := s.countEntered(at); n > 0 {
			sums = s.sums[arm][n-1]
		}
		return sums
	}
	return upTo(until).minus(upTo(after))
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
		from, to := looks.Start.Add(time.Duration(i)*looks.Every), earlier(looks.End, looks.Start.Add(time.Duration(i+1)*looks.Every))
		for arm, name := range bothArms {
			users := s.enteredBetween(arm, from.Add(-1), to.Add(-1))
			if n := users.all().N; n > 0 {
				found = append(found, store.Exposed{Arm: name, Look: i, Users: n})
			}
		}
	}
	return found, nil
}

func (s *simulated) Candidates(_ context.Context, _ string, _ []string, end time.Time, each func(store.Candidate)) error {
	for i, u := range s.units {
		c := store.Candidate{UserID: u.id}
		if i < s.countEntered(end.Add(-1)) {
			c.Unit, c.Arm, c.First = u.name, u.arm, u.entry
		}
		each(c)
	}
	return nil
}

func (s *simulated) LargestCommunities(context.Context, string, time.Time, int) ([]string, error) {
	return nil, nil
}

func (s *simulated) PodPeriods(context.Context, string, time.Time) (experiment.Counts, error) {
	return experiment.Counts{Control: 1000, Treatment: 1000}, nil
}

func (s *simulated) ExposedUnits(_ context.Context, _ string, end time.Time) (found []store.ExposedUnit, _ error) {
	for _, u := range s.units[:s.countEntered(end.Add(-1))] {
		found = append(found, store.ExposedUnit{Unit: u.name, Arm: u.arm, First: u.entry, Users: u.all().N})
	}
	return found, nil
}

func (s *simulated) Requests(context.Context, string, time.Time, time.Time) ([]store.Requested, error) {
	return []store.Requested{{Arm: experiment.Control, Requests: 1000, Recent: 100, Active: 32, RecentActive: 32}, {Arm: experiment.Treatment, Requests: 1000, Recent: 100, Active: 32, RecentActive: 32}}, nil
}

func (s *simulated) Quotes(context.Context, store.Members, int) ([]store.Quote, error) {
	return nil, nil
}

func (s *simulated) Scores(context.Context, store.Members) (store.Scores, error) {
	return store.Scores{}, nil
}

func (s *simulated) Completed(_ context.Context, m store.Members) (n experiment.Counts, _ error) {
	for arm, name := range bothArms {
		users := s.enteredBetween(arm, time.Time{}, m.End.Add(-m.Window))
		add(&n, name, users.all().N)
	}
	return n, nil
}

func (s *simulated) CompletedAt(_ context.Context, m store.Members, n int64) (time.Time, error) {
	return s.units[n-1].entry.Add(m.Window), nil
}

func (s *simulated) UserSums(_ context.Context, _ store.Metric, m store.Members, looks store.Looks, _ []string) (found []store.Sums, _ error) {
	latest, cut := m.End.Add(-m.Window), looks.Cut.Add(-m.Window)
	if looks.Cut.IsZero() {
		cut = latest
	}
	firstEntry := func(look int) time.Time { // of the users whose windows end in this look
		return looks.Start.Add(time.Duration(look)*looks.Every - m.Window)
	}
	for i := 0; ; i++ {
		from, to := firstEntry(i).Add(-1), earlier(latest, firstEntry(i+1).Add(-1))
		if !from.Before(latest) {
			return found, nil
		}
		for arm, name := range bothArms {
			early, late := s.enteredBetween(arm, from, earlier(to, cut)), s.enteredBetween(arm, later(from, cut), to)
			found = early.appendSums(found, store.Sums{Arm: name, Look: i})
			found = late.appendSums(found, store.Sums{Arm: name, Look: i, Late: true})
		}
	}
}

// appendSums appends up to two rows like head: users with a past, and users without. The first row counts the users of both
// kinds whose value is not 0.
func (t tally) appendSums(rows []store.Sums, head store.Sums) []store.Sums {
	nonZero := t.nonZero
	for i, p := range []stats.Pairs{t.past, t.none} {
		if p.N > 0 {
			row := head
			row.Known, row.Users, row.N, row.NonZero = i == 0, p.N, p.N, nonZero
			row.SumY, row.SumYY, row.SumX, row.SumXX, row.SumXY = p.SumY, p.SumYY, p.SumX, p.SumXX, p.SumXY
			rows = append(rows, row)
			nonZero = 0
		}
	}
	return rows
}

func (s *simulated) UserParts(context.Context, store.Metric, store.Members, int, int) ([]store.Part, error) {
	return nil, nil
}

func (s *simulated) UserValues(_ context.Context, _ store.Metric, m store.Members, _ int) (found []store.Value, _ error) {
	for _, u := range s.units[:s.countEntered(m.End.Add(-m.Window))] {
		found = append(found, store.Value{Unit: u.name, Arm: u.arm, Value: u.all().SumY})
	}
	slices.SortFunc(found, func(a, b store.Value) int { return cmp.Compare(a.Unit, b.Unit) })
	return found, nil
}

func (s *simulated) UnitMembers(context.Context, store.Members) (map[string]int64, error) {
	counts := make(map[string]int64, len(s.units))
	for _, u := range s.units {
		counts[u.name] = u.all().N
	}
	return counts, nil
}

func (s *simulated) UnitSums(_ context.Context, _ store.Metric, m store.Members) (found []store.UnitSums, _ error) {
	for _, u := range s.units[:s.countEntered(m.End.Add(-m.Window))] {
		all := u.all()
		found = append(found, store.UnitSums{Unit: u.name, Arm: u.arm, Members: all.N, N: all.N, Sum: all.SumY, SumSq: all.SumYY})
	}
	slices.SortFunc(found, func(a, b store.UnitSums) int { return cmp.Compare(a.Unit, b.Unit) })
	return found, nil
}

// drawTraffic draws the count periods that were over at a time. Times may only increase.
func (s *simulated) drawTraffic(end time.Time) []stats.Traffic {
	if s.traffic == nil {
		return nil
	}
	for s.served < min(s.World.CountPeriods, int(end.Sub(simulatedStart)/experiment.CountPeriod)) {
		s.traffic.Next()
		s.served++
	}
	return s.traffic.Traffic()
}

// Periods returns the traffic of the only step; so does Buckets.
func (s *simulated) Periods(_ context.Context, _ store.Metric, span store.Span, _ time.Duration) (found []store.Periods, _ error) {
	for _, t := range s.drawTraffic(span.End.Add(experiment.CountPeriod)) {
		w := store.Periods{Stratum: store.Stratum{Service: t.Service}, Start: simulatedStart}
		for _, counted := range t.Periods {
			w.Periods = append(w.Periods, store.Period{
				Requests: experiment.Counts{Control: counted.Control.N, Treatment: counted.Treatment.N},
				Bad:      experiment.Counts{Control: counted.Control.Successes, Treatment: counted.Treatment.Successes},
			})
		}
		found = append(found, w)
	}
	return found, nil
}

func (s *simulated) Buckets(context.Context, store.Metric, string, time.Duration) (found []store.Buckets, _ error) {
	if s.traffic == nil {
		return nil, nil
	}
	for _, t := range s.traffic.Traffic() {
		b := store.Buckets{Stratum: store.Stratum{Service: t.Service}}
		for arm, buckets := range t.Buckets {
			for i, p := range buckets {
				b.Arms[arm][i] = store.Tally{Requests: p.N, Bad: p.Successes}
			}
		}
		found = append(found, b)
	}
	return found, nil
}

func (s *simulated) Baseline(context.Context, store.Metric, string, time.Duration) ([]store.Buckets, error) {
	return nil, nil
}

// LateEvents returns none, because a simulated world has no metrics of events.
func (s *simulated) LateEvents(context.Context, store.Metric, store.Members, time.Time) ([]store.LateDay, error) {
	return nil, nil
}

func (s *simulated) Histograms(context.Context, store.Metric, store.Span, time.Duration) ([]store.Histogram, error) {
	return nil, nil
}
