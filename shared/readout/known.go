package readout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/problem"
	"warble/shared/stats"
	"warble/shared/store"
)

// guestsPast is the past of units that do not belong to Warble. The database knows those that an earlier experiment has
// exposed, or otherwise those that have sent the metric's events.
func (f *frame) guestsPast(ctx context.Context, s *store.Snapshot, metric store.Metric) (past, error) {
	before, err := s.Predecessor(ctx, f.Spec, f.at)
	if err == nil {
		return f.predecessorPast(ctx, s, metric, before)
	} else if !errors.Is(err, problem.NotFound) {
		return past{}, err
	}
	return f.eventsPast(ctx, s, metric)
}

// predecessorPast is the past of the units that an earlier experiment has exposed. The values are those of its control.
func (f *frame) predecessorPast(ctx context.Context, s *store.Snapshot, metric store.Metric, other store.Started) (past, error) {
	o := newFrame(other, f.at)
	if len(o.steps) == 0 { // there are exposures, but no step that explains them
		return f.eventsPast(ctx, s, metric)
	}
	members := store.Members{Experiment: other.Name, Window: f.window, End: f.settled}
	looks := store.Looks{Start: o.begin, Every: day, End: o.end}
	sums, err := s.UserSums(ctx, metric, members, store.Looks{Start: o.begin.Add(f.window), Every: day, End: f.settled}, nil)
	if err != nil {
		return past{}, err
	}
	came, err := s.Exposures(ctx, other.Name, looks)
	if err != nil {
		return past{}, err
	}
	all, nonZero := addUp(slices.DeleteFunc(sums, func(a store.Sums) bool { return a.Arm != experiment.Control }))
	days := o.end.Sub(o.begin).Hours() / 24
	arrivals := make([]float64, int(math.Ceil(days)))
	open := o.layerShare() * 2 * float64(o.steps[len(o.steps)-1].Percent) / 100 // share of all units that both arms took
	for _, e := range came {
		if e.Look < len(arrivals) {
			arrivals[e.Look] += float64(e.Users) / open
		}
	}
	p := past{members: all.N, nonZero: float64(nonZero) / float64(max(1, all.N)), from: members, source: f.guestNoun() + " of the earlier experiment " + other.Name + ", and what its control did"}
	if len(arrivals) > 0 {
		p.reach = f.reach(arrivals, days)
	} else {
		p.unknown = f.unknownReach("")
	}
	return p, p.setSpread(all)
}

// eventsPast is the past of the units that sent the metric's events. All other units of spec.plan.unitsPerDay have a value
// of 0.
func (f *frame) eventsPast(ctx context.Context, s *store.Snapshot, metric store.Metric) (past, error) {
	to := f.settled.Add(-f.window)
	from := to.Add(-lookback)
	members := store.Members{Acting: &store.Acting{Metric: metric, From: from, To: to}, Window: f.window, End: f.settled}
	sums, err := s.UserSums(ctx, metric, members, store.Looks{Start: from.Add(f.window), Every: lookback, End: f.settled}, nil)
	if err != nil {
		return past{}, err
	}
	all, nonZero := addUp(sums)
	if all.N == 0 {
		return past{unknown: f.unknownReach("")}, nil
	}
	days := lookback.Hours() / 24
	acted := fmt.Sprintf("%.4g %s a day had events %s", float64(all.N)/days, f.guestNoun(), metric.Events)
	p := past{unknown: f.unknownReach(", of whom " + acted), source: acted}
	came := int64(f.Spec.Plan.UnitsPerDay) * int64(days)
	if came == 0 {
		return p, nil
	}
	if metric.Kind != store.Score { // a unit without an event has no score; in a metric of another kind its value is 0
		all.N = max(all.N, came)
		p.source += "; all others of plan.unitsPerDay had none"
	}
	p.members, p.nonZero = all.N, float64(nonZero)/float64(all.N)
	if err := p.setSpread(all); err != nil || p.cv == 0 {
		return p, err
	}
	p.units = twoValues(p.mean, p.cv)
	return p, nil
}

// guestNoun returns the word for the units, for people.
func (f *frame) guestNoun() string {
	if f.Spec.Identity.Kind == experiment.ByIssuer {
		return "users of " + f.Spec.Identity.Issuer.URL
	}
	return "visitors"
}

// unknownReach is the message if it is not known how many units come. more says what is known of them.
func (f *frame) unknownReach(more string) string {
	return fmt.Sprintf("ramp: it is not known how many %s come%s: no earlier experiment at %s had them: set plan.unitsPerDay", f.guestNoun(), more, strings.Join(f.Spec.Services, ", "))
}

// applyPlan replaces what the database knows by what people state in spec.plan.
func (f *frame) applyPlan(p *past, metric store.Metric) error {
	plan := f.Spec.Plan
	if plan == (experiment.Known{}) && p.reach != nil {
		return nil
	}
	var said []string
	if f.observational() {
		p.reach = f.reach(nil, 0)
	} else if plan.UnitsPerDay > 0 {
		p.reach = func(d float64) float64 { return f.layerShare() * float64(plan.UnitsPerDay) * max(0, d) }
		said = append(said, figures.Count(int64(plan.UnitsPerDay), "unit")+" a day")
	}
	if plan.Mean > 0 {
		p.members, p.mean, p.cv = 0, plan.Mean, plan.CV
		switch {
		case metric.Kind == store.Share && plan.Mean >= 1:
			return problem.Invalid.Field("plan.mean", "%v: expected less than 1, the share of those with a value of \"%s\"", plan.Mean, metric.Label)
		case metric.Kind == store.Share:
			p.cv = math.Sqrt((1 - plan.Mean) / plan.Mean)
		case plan.CV == 0:
			return problem.Invalid.Field("plan.cv", "missing: expected how much \"%s\" varies: the standard deviation of a unit's value, divided by the mean", metric.Label)
		}
		p.units, p.nonZero = twoValues(p.mean, p.cv), 1/(1+p.cv*p.cv)
		p.source = "" // all of it comes from spec.plan now
		said = append(said, "the mean and its variation")
	}
	if len(said) > 0 {
		if p.source != "" {
			p.source += "; "
		}
		p.source += strings.Join(said, ", ") + ", from spec.plan"
	}
	return nil
}

// twoValues returns units with a mean and a coefficient of variation: some have the same value, and the others have 0. A
// proportion is like this. For other metrics, no more than mean and variation is known.
func twoValues(mean, cv float64) []stats.Unit {
	units := make([]stats.Unit, mostSimulated)
	some := max(1, int(math.Round(mostSimulated/(1+cv*cv))))
	for i := range units {
		units[i].Size = 1
		if i < some {
			units[i].Sum = mean * mostSimulated / float64(some)
		}
	}
	return units
}
