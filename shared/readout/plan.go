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
	"warble/shared/problem"
	"warble/shared/stats"
	"warble/shared/store"
)

// Planned is what an experiment can be expected to show, estimated from what its users did before.
type Planned struct {
	Metric string `json:"metric"`
	Label  string `json:"label"` // of the metric, for people; empty, as is ValueUnit, if the unit is the request
	// ValueUnit is the unit of the metric's values.
	ValueUnit string `json:"valueUnit"`

	Unit   experiment.Unit `json:"unit"`
	Effect float64         `json:"minimumEffect"` // relative effect that the experiment should find
	Design stats.Design    `json:"design"`
	Method string          `json:"method"`

	// Mean and CV describe the primary metric per user and window, among Users who were active before. They are 0 if
	// nothing is known.
	Mean  float64 `json:"mean"`
	CV    float64 `json:"cv"`
	Users int64   `json:"users"`
	// Source tells people where Mean, CV and Users come from. It is empty if they come from what users of Warble did in the
	// last weeks.
	Source string `json:"source,omitempty"`

	Needed     int64    `json:"needed"`     // units per arm, assumed to be like the present ones; 0 if not known
	Steps      []Growth `json:"steps"`      // of the ramp
	Completed  int64    `json:"completed"`  // units per arm that will have completed by the planned end
	Detectable float64  `json:"detectable"` // relative effect that these find with the design's power; 0 if not known
	Simulated  int      `json:"simulated"`  // number of simulated experiments from which Detectable was computed; 0 if a formula gives it
	// Days is the time from the start until Needed units have completed, at the present rate and with the last step open.
	// It is 0 if they never complete.
	Days float64 `json:"days"`
	// Units is N*, both arms together, which is fixed at the start. It is 0 if Needed is not known, or if fewer units will
	// come. Then the experiment ends on a date only: a smaller number would end it before it can tell anything.
	Units int64 `json:"units"`
	// Hopeless has the reasons why the design should not be started; empty if there are none.
	Hopeless []string `json:"hopeless"`
}

// Growth is what a step of the ramp contributes.
type Growth struct {
	Percent int     `json:"percent"`
	From    float64 `json:"from"`  // days after the start
	Units   int64   `json:"units"` // expected per arm, from all steps so far, by the end of the step
}

const (
	// lookback is the length of the past from which the rate of arriving users is estimated.
	lookback = 14 * 24 * time.Hour
	// fewestUnits is the number of units per arm that a step must expect.
	fewestUnits = 5

	day = 24 * time.Hour
)

// Err returns the reasons in Hopeless as an error; nil if there are none.
func (p *Planned) Err() error {
	var all []error
	for _, reason := range p.Hopeless {
		all = append(all, errors.New(reason))
	}
	return errors.Join(all...)
}

// Plan estimates from the past of the units of an experiment how many units it needs, when these will have completed, and
// which effect it can find by the planned end. own has the metrics that people defined. If a metric in the spec is neither
// one of these nor Warble's, Plan returns an error that lists the known ones.
func Plan(ctx context.Context, db *store.DB, spec experiment.Spec, own []experiment.Metric, now time.Time) (p Planned, err error) {
	err = db.Snapshot(ctx, func(ctx context.Context, s *store.Snapshot) error {
		p, err = plan(ctx, s, spec, own, now)
		return err
	})
	return p, err
}

// past is what the units of an experiment did before it.
type past struct {
	members  int64
	mean, cv float64
	nonZero  float64                    // share of the users whose value is not 0
	reach    func(days float64) float64 // units that are seen within a time if all slots are open; nil if this is not known
	unknown  string                     // the message if reach is nil
	source   string                     // see Planned.Source
	design   stats.Design
	from     store.Members // the users whose values were read
	units    []stats.Unit  // the communities there are, or some of the users if few will come
}

func plan(ctx context.Context, s *store.Snapshot, spec experiment.Spec, own []experiment.Metric, now time.Time) (Planned, error) {
	p := Planned{
		Metric: spec.Metrics.Primary.Name, Unit: spec.Unit, Effect: float64(spec.Metrics.Primary.MinimumEffect), Hopeless: []string{}, Steps: []Growth{},
		Design: stats.Design{Alpha: cmp.Or(spec.Alpha, .05), Power: cmp.Or(spec.Power, .8)},
	}
	if spec.Unit == experiment.Request {
		p.Method, p.Units = Guards, stats.GuardrailPlanned
		return p, nil
	}
	for _, name := range spec.Metrics.Names() {
		if _, err := store.OfUsers(name, own); err != nil {
			return p, err
		}
	}
	metric, err := store.OfUsers(p.Metric, own)
	if err != nil {
		return p, err
	}
	p.Label, p.ValueUnit = metric.Label, metric.Unit
	metric = metric.Capped(spec.Metrics.Primary.Cap)
	f := newFrame(store.Started{Spec: spec, Metrics: spec.Metrics.Named(own)}, now)
	if f.observational() {
		spec.Ramp.Steps = []int{50} // a list is opened as a whole, at any percent
	}
	if err := metric.Check(f.window); err != nil {
		p.Hopeless = append(p.Hopeless, "primary metric: "+err.Error())
		return p, nil
	}
	if f.foreign() && metric.Events == "" {
		return p, problem.Invalid.Field("metrics.primary.name", "%s is what users of Warble do: expected a metric of events, because the units are known by identity %s", p.Metric, spec.Identity.Kind)
	}
	read := f.usersPast
	switch {
	case f.foreign():
		read = f.guestsPast
	case spec.Unit == experiment.Community:
		read = f.communitiesPast
	}
	before, err := read(ctx, s, metric)
	if err != nil {
		return p, fmt.Errorf("past of %s: %w", p.Metric, err)
	}
	if err := f.applyPlan(&before, metric); err != nil {
		return p, err
	}
	p.Mean, p.CV, p.Users, p.Source = before.mean, before.cv, before.members, before.source
	p.Design.ClusterSize, p.Design.ClusterSizeCV, p.Design.ICC = before.design.ClusterSize, before.design.ClusterSizeCV, before.design.ICC
	if before.reach == nil {
		p.Hopeless = append(p.Hopeless, before.unknown)
		return p, nil
	}
	p.planSteps(spec, before)
	if spec.Unit == experiment.User && p.Completed < sequenceFrom && before.cv > 0 && before.units == nil { // a permutation test judges so few, and is simulated with single users
		if before.units, err = controlUsers(ctx, s, metric, before.from); err != nil {
			return p, err
		}
	}
	return p, p.planSize(metric, spec, before)
}

// controlUsers returns users of control one by one, at most mostSimulated of members.
func controlUsers(ctx context.Context, s *store.Snapshot, metric store.Metric, members store.Members) (units []stats.Unit, err error) {
	singles, err := s.UserValues(ctx, metric, members, mostSimulated)
	for _, v := range singles {
		if v.Arm == experiment.Control {
			units = append(units, stats.Unit{Sum: v.Value, Size: 1})
		}
	}
	return units, err
}

// mostSimulated is the largest number of users of the past from which simulated experiments draw their users.
const mostSimulated = 5000

// planSteps computes what each step contributes. A step opens more slots, for units that come from then on.
func (p *Planned) planSteps(spec experiment.Spec, before past) {
	hold := spec.Ramp.Hold.Least().Hours() / 24
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
			p.Hopeless = append(p.Hopeless, fmt.Sprintf("ramp: the step of %d%% brings %s per arm by its end: expected %d or more", percent, figures.Count(step.Units, string(p.Unit)), fewestUnits))
		}
	}
	if n := len(p.Steps); n > 0 {
		p.Completed = p.Steps[n-1].Units
	}
}

// planSize computes the number of units that are needed, and the time that they take to complete.
func (p *Planned) planSize(metric store.Metric, spec experiment.Spec, before past) error {
	p.Method = p.methodOf(before)
	if before.cv == 0 {
		hint := ""
		if spec.Unit == experiment.User && spec.Assignment != "list" {
			hint = ": set plan.mean and, unless the metric is a proportion, plan.cv"
		}
		p.Hopeless = append(p.Hopeless, fmt.Sprintf("primary metric: nobody has a value of \"%s\" from the last %s, so it is not known how much it varies and how many units are needed%s", p.Label, spec.Metrics.Window, hint))
		return nil
	}
	if p.Design.Sequence = p.Method == Sequence; p.Design.Sequence && spec.Unit == experiment.User {
		if err := p.sizeByFormula(metric, before); err != nil {
			return err
		}
	} else if err := p.sizeBySimulation(spec, before); err != nil {
		return err
	}
	window := time.Duration(spec.Metrics.Window).Hours() / 24
	share := float64(slices.Max(append([]int{0}, spec.Ramp.Steps...))) / 100
	const longest = 3650
	for d := 0.0; d <= longest && p.Days == 0 && p.Needed > 0; d += .25 {
		if share*before.reach(d) >= float64(p.Needed) {
			p.Days = d + window
		}
	}
	switch {
	case p.Needed > 0 && p.Needed <= p.Completed && p.Design.Sequence:
		p.Units = 2 * p.Needed
	case p.Detectable > 0 && p.Detectable <= p.Effect:
		p.Units = 2 * p.Completed // a method that judges once uses all units there are
	default:
		p.addHopeless()
	}
	return nil
}

// addHopeless adds the reason that too few units will have completed.
func (p *Planned) addHopeless() {
	found := "nothing"
	if p.Detectable > 0 {
		found = figures.Change(p.Detectable)
	}
	takes := "takes more units than there are"
	if p.Needed > 0 {
		takes = "takes " + figures.Count(p.Needed, string(p.Unit)) + " per arm"
	}
	p.Hopeless = append(p.Hopeless, fmt.Sprintf("primary metric: to find %s on \"%s\" %s, but only %s will have completed by the planned end: these find %s with power %g",
		figures.Change(p.Effect), p.Label, takes, figures.Whole(p.Completed), found, p.Design.Power))
}

// methodOf returns the method that will judge the units that will have completed.
func (p *Planned) methodOf(before past) string {
	switch {
	case p.Completed < permutationFrom:
		return None
	case p.Unit == experiment.Community:
		sizes := make([]float64, len(before.units))
		for i, u := range before.units {
			sizes[i] = u.Size
		}
		share, _ := largest(sizes)
		half := float64(len(sizes)) / 2 // communities per arm
		if stats.EffectiveNumber(sizes)/2 < fewestEffective || 2*share > evenShare(half) {
			return Permutation
		}
		return Sequence
	case p.Completed < sequenceFrom || float64(p.Completed)*before.nonZero < stats.NormalNonZero:
		return Permutation
	}
	return Sequence
}

// sizeByFormula computes the sample size of a sequence of users.
func (p *Planned) sizeByFormula(metric store.Metric, before past) (err error) {
	needed, err := p.Design.Means(p.CV, p.Effect)
	needed = int64(math.Ceil(float64(needed) * growth(p.Effect)))
	if metric.Kind == store.Share && p.Mean*(1+p.Effect) < 1 {
		needed, err = p.Design.Proportions(p.Mean, p.Mean*(1+p.Effect))
	}
	if err != nil {
		return fmt.Errorf("primary: minimumEffect: %w", err)
	}
	if before.nonZero > 0 { // so many users of each arm must have a value other than 0 before a sequence says anything
		needed = max(needed, sequenceFrom, int64(math.Ceil(stats.NormalNonZero/before.nonZero)))
	}
	p.Needed = needed
	if p.Completed > 0 {
		p.Detectable, err = detectable(p.Design, p.CV, p.Completed)
	}
	return err
}

// growth is the factor by which an effect increases the number of units that are needed to find it. The effect multiplies
// what each treated unit does, as in simulatedPower, so the treatment's variance grows with the square. The formula assumes
// the control's variance in both arms.
func growth(effect float64) float64 { return (1 + (1+effect)*(1+effect)) / 2 }

// detectable returns the effect that so many units per arm can find. It solves effect^2 = d^2 growth(effect), where d is
// the effect by the formula. It returns 0 if they can find none.
func detectable(design stats.Design, cv float64, n int64) (float64, error) {
	d, err := design.DetectableEffect(cv, n)
	if err != nil || d*d >= 2 {
		return 0, err
	}
	return (d*d + d*math.Sqrt(4-d*d)) / (2 - d*d), nil
}

// sizeBySimulation computes the sample size for methods that no formula describes well enough: permutation tests, and
// communities. It simulates experiments with the units that there are.
func (p *Planned) sizeBySimulation(spec experiment.Spec, before past) error {
	sim := simulatedPower{method: p.Method, alpha: p.Design.Alpha, power: p.Design.Power, units: before.units}
	last := 0
	for i, step := range p.Steps {
		n := step.Units
		if i > 0 {
			n -= p.Steps[i-1].Units
		}
		sim.perStep = append(sim.perStep, int(n))
		last += int(n)
	}
	if p.Method == None || last == 0 {
		return nil
	}
	smallest := stats.SmallestP(sim.strata())
	if smallest > p.Design.Alpha {
		p.Hopeless = append(p.Hopeless, fmt.Sprintf("primary: no verdict is possible: %s per arm over %s have so few arrangements that the smallest possible p is %.3f",
			figures.Count(p.Completed, string(p.Unit)), figures.Count(int64(len(spec.Ramp.Steps)), "step"), smallest))
		return nil
	}
	found, err := sim.detectable()
	if err != nil {
		return err
	}
	p.Simulated = simulatedPlans
	if math.IsInf(found, 1) {
		return nil
	}
	p.Detectable = found
	p.Needed = max(permutationFrom, int64(math.Ceil(float64(p.Completed)*found*found/(p.Effect*p.Effect)))) // the number of units grows with the inverse square of the effect
	return nil
}

// population counts the units that the experiment could take.
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

// activeMembers selects the users who were active on a day of the lookback.
func (f *frame) activeMembers() store.Members {
	to := f.settled.Add(-f.window).UTC().Truncate(day)
	return store.Members{Active: &store.Active{From: to.Add(-lookback), To: to, Communities: f.Spec.Audience.Communities}, Window: f.window, End: f.settled}
}

// usersPast is the past of users who were active on a day of the lookback. Each of them counts as if they had entered on
// the first such day, with one window from then on.
func (f *frame) usersPast(ctx context.Context, s *store.Snapshot, metric store.Metric) (past, error) {
	members := f.activeMembers()
	firstWindowEnds := members.Active.From.Add(f.window)
	byEntryDay := store.Looks{Start: firstWindowEnds, Every: day, End: f.settled} // the look in which a window ends tells the day of the entry
	sums, err := s.UserSums(ctx, metric, members, byEntryDay, nil)
	if err != nil {
		return past{}, err
	}
	days := int(lookback / day)
	arrivals := make([]float64, days)
	for _, a := range sums {
		entryDay := max(0, min(a.Look, days-1))
		arrivals[entryDay] += float64(a.Users)
	}
	all, nonZero := addUp(sums)
	p := past{members: all.N, nonZero: float64(nonZero) / float64(max(1, all.N)), reach: f.reach(arrivals, float64(days)), from: members}
	return p, p.setSpread(all)
}

// addUp adds up users: the moments of their values, and how many have a value other than 0.
func addUp(sums []store.Sums) (all stats.Moments, nonZero int64) {
	for _, a := range sums {
		nonZero += a.NonZero
		all = all.Merge(stats.Moments{N: a.N, Sum: a.SumY, SumSq: a.SumYY})
	}
	return all, nonZero
}

// reach returns a function that tells how many units are seen within d days, if all slots of the experiment's share of the
// layer are open. arrivals has the new units of each day of the past. days is the length of that past; its last day may be
// partial. After the past, units are assumed to arrive at the rate of its second half.
func (f *frame) reach(arrivals []float64, days float64) func(d float64) float64 {
	if f.observational() {
		return func(float64) float64 { return 2 * float64(min(len(f.Spec.List.Control), len(f.Spec.List.Treatment))) }
	}
	half := len(arrivals) / 2
	lateRate := 0.0
	for _, a := range arrivals[half:] {
		lateRate += a / (days - float64(half))
	}
	return func(d float64) (n float64) {
		for i, a := range arrivals {
			start := float64(i)
			length := min(1, days-start)
			n += a * max(0, min(1, (d-start)/length))
		}
		return f.layerShare() * (n + lateRate*max(0, d-days))
	}
}

// layerShare is the experiment's share of its layer's slots.
func (f *frame) layerShare() float64 {
	return float64(f.rules.Layer.To-f.rules.Layer.From) / experiment.Slots
}

// setSpread sets the metric's mean and coefficient of variation. Without enough values they remain 0.
func (p *past) setSpread(all stats.Moments) error {
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

// communitiesPast is the past of communities, each with all its members.
func (f *frame) communitiesPast(ctx context.Context, s *store.Snapshot, metric store.Metric) (past, error) {
	slugs, err := s.Communities(ctx, f.settled.Add(-f.window))
	if err != nil {
		return past{}, err
	}
	rules := f.rulesAt(50)
	members := store.Members{Openings: []store.Opening{}, Window: f.window, End: f.settled}
	for _, slug := range slugs {
		if arm, _ := rules.Assign(0, slug); arm != "" {
			members.Openings = append(members.Openings, store.Opening{Unit: slug, Arm: experiment.Control, Entry: f.settled.Add(-f.window - time.Millisecond)})
		}
	}
	sums, err := s.UnitSums(ctx, metric, members)
	if err != nil {
		return past{}, err
	}
	var all, sizes stats.Moments
	var within float64 // sum of squares within communities
	var units []stats.Unit
	for _, u := range sums {
		if u.N == 0 {
			continue
		}
		units = append(units, stats.Unit{Sum: u.Sum, Size: float64(u.N)})
		n := float64(u.N)
		all = all.Merge(stats.Moments{N: u.N, Sum: u.Sum, SumSq: u.SumSq})
		sizes.Add(n)
		within += u.SumSq - u.Sum*u.Sum/n
	}
	k := float64(sizes.N)
	p := past{members: all.N, units: units, reach: func(d float64) float64 {
		if d <= 0 {
			return 0
		}
		return k
	}}
	if k < 2 {
		return p, nil
	}
	perUnit := sizes.Sum / k
	size, err := sizes.Mean()
	if err != nil {
		return p, err
	}
	p.design = stats.Design{ClusterSize: max(1, perUnit), ClusterSizeCV: size.SE * math.Sqrt(k) / perUnit, ICC: icc(all, sizes, within)}
	return p, p.setSpread(all)
}

// icc is the intraclass correlation by analysis of variance: (MSB - MSW)/(MSB + (m0 - 1) MSW), at least 0. m0 is the mean
// size of a cluster, corrected for unequal sizes. Source: Donner, Klar, "Design and Analysis of Cluster Randomization
// Trials", 2000.
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
