package readout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/stats"
	"warble/shared/store"
)

// Planned is what an experiment can be expected to show, from what its users have done before.
type Planned struct {
	Metric string          `json:"metric"`
	Unit   experiment.Unit `json:"unit"`
	Effect float64         `json:"minimumEffect"` // relative, that is to be found
	Design stats.Design    `json:"design"`
	Method string          `json:"method"`

	// Mean and CV are the primary metric's, per user and window, of Users who were active before; 0 where nothing is known.
	Mean  float64 `json:"mean"`
	CV    float64 `json:"cv"`
	Users int64   `json:"users"`

	Needed     int64    `json:"needed"`     // units per arm; 0 where it is not known
	Steps      []Growth `json:"steps"`      // of the ramp
	Completed  int64    `json:"completed"`  // units per arm that will have by the planned end
	Detectable float64  `json:"detectable"` // relative effect that these find; 0 where it is not known
	// Days from the start until Needed units have completed, at the present rate and the last step; 0 where they never do.
	Days float64 `json:"days"`
	// Units is N*, of both arms, to be frozen at the start; 0 where Needed units are not known, or will not come. Then the
	// planned end is by time alone: any smaller number would end the experiment before it can tell anything.
	Units int64 `json:"units"`
	// Hopeless says why the design should not be started; empty where it may.
	Hopeless []string `json:"hopeless"`
}

// Growth is what a step of the ramp brings.
type Growth struct {
	Percent int     `json:"percent"`
	From    float64 `json:"from"`  // days after the start
	Units   int64   `json:"units"` // expected per arm by its end
}

const (
	// lookback is the past from which the rate at which users come is taken.
	lookback = 14 * 24 * time.Hour
	// fewestUnits per arm that a step must expect.
	fewestUnits = 5

	day = 24 * time.Hour
)

// Err refuses a hopeless design.
func (p *Planned) Err() error {
	var all []error
	for _, reason := range p.Hopeless {
		all = append(all, errors.New(reason))
	}
	return errors.Join(all...)
}

// Plan looks at the past of those whom an experiment would take, for how many units it needs, when they will have come,
// and what effect can be found by the planned end.
func Plan(ctx context.Context, db *store.DB, spec experiment.Spec, now time.Time) (p Planned, err error) {
	err = db.Snapshot(ctx, func(ctx context.Context, s *store.Snapshot) error {
		p, err = plan(ctx, s, spec, now)
		return err
	})
	return p, err
}

// past is what the users of an experiment did before it.
type past struct {
	members  int64
	mean, cv float64
	reach    func(days float64) float64 // units that are seen within a time, at all slots
	design   stats.Design
	perUnit  float64 // members of a unit
}

func plan(ctx context.Context, s *store.Snapshot, spec experiment.Spec, now time.Time) (Planned, error) {
	p := Planned{
		Metric: spec.Metrics.Primary.Name, Unit: spec.Unit, Effect: float64(spec.Metrics.Primary.MinimumEffect), Hopeless: []string{}, Steps: []Growth{},
		Design: stats.Design{Alpha: cmp.Or(spec.Alpha, .05), Power: cmp.Or(spec.Power, .8)},
	}
	if spec.Unit == experiment.Request {
		p.Method, p.Units = Guards, stats.GuardrailPlanned
		return p, nil
	}
	metric, err := store.MetricNamed(p.Metric, store.Mean, store.Share, store.Score)
	if err != nil {
		return p, err
	}
	f := newFrame(store.Started{Spec: spec}, now)
	if f.observational() {
		spec.Ramp.Steps = []int{50} // a list is open or is not: all of it, whatever the percent
	}
	before, err := f.users(ctx, s, metric)
	if spec.Unit == experiment.Community {
		before, err = f.communities(ctx, s, metric)
	}
	if err != nil {
		return p, fmt.Errorf("past of %s: %w", p.Metric, err)
	}
	p.Mean, p.CV, p.Users = before.mean, before.cv, before.members
	p.Design.ClusterSize, p.Design.ClusterSizeCV, p.Design.ICC = before.design.ClusterSize, before.design.ClusterSizeCV, before.design.ICC
	p.ramp(spec, before)
	return p, p.size(metric, spec, before)
}

// ramp follows the steps, each of which opens slots to whoever comes from then on.
func (p *Planned) ramp(spec experiment.Spec, before past) {
	hold := time.Duration(spec.Ramp.Hold.Time).Hours() / 24
	entered := func(at float64) (units float64) {
		last := 0
		for i, percent := range spec.Ramp.Steps {
			units += float64(percent-last) / 100 * before.reach(at-float64(i)*hold)
			last = percent
		}
		return units
	}
	for i, percent := range spec.Ramp.Steps {
		step := Growth{percent, float64(i) * hold, int64(entered(float64(i+1) * hold))}
		p.Steps = append(p.Steps, step)
		if step.Units < fewestUnits {
			p.Hopeless = append(p.Hopeless, fmt.Sprintf("ramp: the step of %d%% expects %s per arm by its end: expected %d at least", percent, figures.Count(step.Units, string(p.Unit)), fewestUnits))
		}
	}
	if n := len(p.Steps); n > 0 {
		p.Completed = p.Steps[n-1].Units
	}
}

// size is the number of units that are needed, and the time that takes.
func (p *Planned) size(metric store.Metric, spec experiment.Spec, before past) error {
	share := float64(slices.Max(append([]int{0}, spec.Ramp.Steps...))) / 100
	p.Method = methodOf(p.Completed)
	if before.cv == 0 {
		p.Hopeless = append(p.Hopeless, fmt.Sprintf("primary: nobody's %s of the last %s says how much it varies, so that no number of units can be told", p.Metric, spec.Metrics.Window))
		return nil
	}
	p.Design.Sequence = p.Method == Sequence
	needed, err := p.Design.Means(p.CV, p.Effect)
	if metric.Kind == store.Share && p.Mean*(1+p.Effect) < 1 {
		needed, err = p.Design.Proportions(p.Mean, p.Mean*(1+p.Effect))
	}
	if err != nil {
		return fmt.Errorf("primary: minimumEffect: %w", err)
	}
	p.Needed = int64(math.Ceil(float64(needed) / before.perUnit))
	if members := int64(float64(p.Completed) * before.perUnit); members > 0 {
		if p.Detectable, err = p.Design.DetectableEffect(p.CV, members); err != nil {
			return err
		}
	}
	window := time.Duration(spec.Metrics.Window).Hours() / 24
	const longest = 3650
	for d := 0.0; d <= longest && p.Days == 0; d += .25 {
		if share*before.reach(d) >= float64(p.Needed) {
			p.Days = d + window
		}
	}
	if p.Needed <= p.Completed {
		p.Units = 2 * p.Needed
	} else {
		found := "nothing"
		if p.Detectable > 0 {
			found = figures.Change(p.Detectable)
		}
		p.Hopeless = append(p.Hopeless, fmt.Sprintf("primary: %s on %s takes %s per arm, and %s will have completed by the planned end: that finds %s with power %g",
			figures.Change(p.Effect), p.Metric, figures.Count(p.Needed, string(p.Unit)), figures.Whole(p.Completed), found, p.Design.Power))
	}
	return nil
}

// population counts the units that there are to be had.
func (f *frame) population(ctx context.Context, rows interface {
	Users(ctx context.Context, communities []string, before time.Time) (int64, error)
	Communities(ctx context.Context, before time.Time) ([]string, error)
}) (int64, error) {
	switch {
	case f.Spec.Unit == experiment.Community:
		slugs, err := rows.Communities(ctx, f.end)
		return f.reachable(slugs), err
	case f.observational():
		return int64(len(f.Spec.List.Control) + len(f.Spec.List.Treatment)), nil
	}
	n, err := rows.Users(ctx, f.Spec.Audience.Communities, f.end)
	return n * int64(f.rules.Layer.To-f.rules.Layer.From) / experiment.Slots, err
}

// users are those who were active: each enters on the first day of the past that they were.
func (f *frame) users(ctx context.Context, s *store.Snapshot, metric store.Metric) (past, error) {
	to := f.at.Add(-f.window).UTC().Truncate(day)
	from := to.Add(-lookback)
	members := store.Members{Active: &store.Active{From: from, To: to, Communities: f.Spec.Audience.Communities}, Window: f.window, End: f.at}
	sums, err := s.UserSums(ctx, metric, members, store.Looks{Start: from.Add(f.window), Every: day, End: f.at}, nil)
	if err != nil {
		return past{}, err
	}
	var all stats.Moments
	days := int(lookback / day)
	arrivals := make([]float64, days)
	for _, a := range sums {
		all = all.Merge(stats.Moments{N: a.N, Sum: a.SumY, SumSq: a.SumYY})
		arrivals[max(0, min(a.Look, days-1))] += float64(a.Users)
	}
	layer := float64(f.rules.Layer.To-f.rules.Layer.From) / experiment.Slots
	p := past{members: all.N, perUnit: 1, reach: func(d float64) (n float64) {
		if f.observational() {
			return 2 * float64(min(len(f.Spec.List.Control), len(f.Spec.List.Treatment)))
		}
		late := 0.0 // users a day, in the second week
		for _, a := range arrivals[days/2:] {
			late += a / float64(days-days/2)
		}
		for _, a := range arrivals {
			n += a * max(0, min(1, d))
			d--
		}
		return layer * (n + late*max(0, d))
	}}
	return p, p.spread(all)
}

// spread is a metric's mean and variation.
func (p *past) spread(all stats.Moments) error {
	mean, err := all.Mean()
	if errors.Is(err, stats.ErrTooFew) {
		return nil
	} else if err != nil {
		return err
	}
	if p.mean = mean.Value; mean.Value > 0 {
		p.cv = mean.SE * math.Sqrt(float64(mean.N)) / mean.Value
	}
	return nil
}

// communities are taken whole, with all their members.
func (f *frame) communities(ctx context.Context, s *store.Snapshot, metric store.Metric) (past, error) {
	slugs, err := s.Communities(ctx, f.at.Add(-f.window))
	if err != nil {
		return past{}, err
	}
	rules := f.rulesAt(50)
	members := store.Members{Openings: []store.Opening{}, Window: f.window, End: f.at}
	for _, slug := range slugs {
		if arm, _ := rules.Assign(0, slug); arm != "" {
			members.Openings = append(members.Openings, store.Opening{Unit: slug, Arm: experiment.Control, Entry: f.at.Add(-f.window - time.Millisecond)})
		}
	}
	sums, err := s.UnitSums(ctx, metric, members)
	if err != nil {
		return past{}, err
	}
	var all, sizes stats.Moments
	var within float64 // sum of squares
	for _, u := range sums {
		if u.N == 0 {
			continue
		}
		n := float64(u.N)
		all = all.Merge(stats.Moments{N: u.N, Sum: u.Sum, SumSq: u.SumSq})
		sizes.Add(n)
		within += u.SumSq - u.Sum*u.Sum/n
	}
	k := float64(sizes.N)
	p := past{members: all.N, perUnit: 1, reach: func(d float64) float64 {
		if d <= 0 {
			return 0
		}
		return k
	}}
	if k < 2 {
		return p, nil
	}
	p.perUnit = sizes.Sum / k
	size, err := sizes.Mean()
	if err != nil {
		return p, err
	}
	p.design = stats.Design{ClusterSize: max(1, p.perUnit), ClusterSizeCV: size.SE * math.Sqrt(k) / p.perUnit, ICC: icc(all, sizes, within)}
	return p, p.spread(all)
}

// icc is the intraclass correlation by analysis of variance: (MSB - MSW)/(MSB + (m0 - 1) MSW), m0 the size of a cluster as
// sizes that differ count, at least 0. Source: Donner, Klar, "Design and Analysis of Cluster Randomization Trials", 2000.
func icc(all, sizes stats.Moments, within float64) float64 {
	n, k := float64(all.N), float64(sizes.N)
	if n <= k {
		return 0
	}
	total := all.SumSq - all.Sum*all.Sum/n
	between := (total - within) / (k - 1)
	inside := within / (n - k)
	m0 := (n - sizes.SumSq/n) / (k - 1)
	if sum := between + (m0-1)*inside; sum > 0 {
		return max(0, min(1, (between-inside)/sum))
	}
	return 0
}
