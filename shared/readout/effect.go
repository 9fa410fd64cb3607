package readout

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

// unplanned is for how many units, of both arms, a sequence is tightest where nothing says how many are needed: those with which
// it first speaks. With a hundred times as many it is a sixth wider than one that was planned for them.
const unplanned = 2 * sequenceFrom

// effects returns what is to be done for each metric, the primary one first.
func (r *reading) effectParts() (parts []func() error) {
	if r.Spec.Unit == experiment.Request {
		return nil
	}
	names := append([]string{r.Spec.Metrics.Primary.Name}, r.Spec.Metrics.Secondary...)
	for _, n := range r.Spec.Metrics.NoWorse {
		names = append(names, n.Name)
	}
	effects := make([]Effect, len(names))
	r.intervals = make([]func(*Effect, float64) error, len(names))
	r.report.Primary, r.report.Secondary = &effects[0], effects[1:]
	for i, name := range names {
		parts = append(parts, func() (err error) {
			if effects[i], r.intervals[i], err = r.effect(name, i == 0); err == nil && i > len(r.Spec.Metrics.Secondary) {
				effects[i].judgeNoWorse(r.Spec.Metrics.NoWorse[i-1-len(r.Spec.Metrics.Secondary)])
			}
			return err
		})
	}
	return parts
}

// adjust makes p and interval of the secondary metrics say that there are several, and both the same. A metric that is to be no
// worse by a margin asks another question, which its own interval answers.
func (r *reading) adjustSecondary() error {
	secondary := r.report.Secondary[:min(len(r.report.Secondary), len(r.Spec.Metrics.Secondary))]
	p := make([]float64, len(secondary))
	for i, e := range secondary {
		if p[i] = 1; e.P != nil { // without one it is a question that was asked all the same
			p[i] = *e.P
		}
	}
	adjusted, err := stats.Holm(p)
	if err != nil {
		return err
	}
	alphas, err := stats.HolmAlphas(p, r.alpha)
	if err != nil {
		return err
	}
	var parts []func() error
	for i := range secondary {
		if e := &secondary[i]; e.P != nil {
			e.Holm = &adjusted[i]
			if interval := r.intervals[i+1]; interval != nil && alphas[i] < r.alpha {
				parts = append(parts, func() error {
					if err := interval(e, alphas[i]); err != nil {
						return fmt.Errorf("metric %s: %w", e.Metric, err)
					}
					return nil
				})
			}
		}
	}
	if err := runTogether(parts...); err != nil {
		return err
	}
	if r.report.Primary != nil {
		r.report.Primary.noteSmallerP(r.alpha)
	}
	for i := range r.report.Secondary {
		r.report.Secondary[i].noteSmallerP(r.alpha)
	}
	return nil
}

// explain says why p is small and the interval holds 0, where a sequence was surer once than it is now.
func (e *Effect) noteSmallerP(alpha float64) {
	p := e.P
	if e.Holm != nil {
		p = e.Holm
	}
	if e.Note == "" && e.Method == Sequence && p != nil && *p <= alpha && !e.excludesZero() {
		e.Note = "p is the smallest of all looks so far; the interval is that of this look alone, and contains 0 again"
	}
}

// noWorse says whether the metric is shown to be no worse by more than a margin, in percent of the control's level.
func (e *Effect) judgeNoWorse(wanted experiment.NoWorse) {
	margin := float64(wanted.Margin)
	e.NoWorse = &NoWorse{Margin: margin, State: experiment.GuardInconclusive}
	decides, limit := e.decisiveInterval(), e.worth(margin)
	lower, upper := decides.Lower, decides.Upper
	if e.Down {
		lower, upper = negated(upper), negated(lower)
	}
	switch {
	case !e.Speaks || limit == nil:
	case lower != nil && *lower > -*limit:
		e.NoWorse.State = experiment.GuardPass
	case upper != nil && *upper < -*limit:
		e.NoWorse.State = experiment.GuardBreach
	}
}

// effect judges one metric. interval writes the effect's interval once more, at another alpha; nil where it has none.
func (r *reading) effect(name string, primary bool) (e Effect, interval func(*Effect, float64) error, err error) {
	metric, err := store.OfUsers(name, r.Metrics)
	if err != nil {
		return Effect{}, nil, err
	}
	if primary {
		metric = metric.Capped(r.Spec.Metrics.Primary.Cap)
	}
	e = Effect{Metric: name, Label: metric.Label, About: metric.About, Kind: metric.Kind, Unit: metric.Unit, Down: metric.Down, Method: None, By: ByDifference, Series: []Point{}}
	if r.Spec.Unit == experiment.Community {
		e.By = ByLift
	}
	if err := metric.Check(r.window); err != nil {
		e.Note = err.Error()
		return e, nil, nil
	}
	if metric.Events != "" {
		late, err := r.rows.LateEvents(r.ctx, metric, r.members(r.settled), r.end)
		if err != nil {
			return e, nil, fmt.Errorf("metric %s: events that came late: %w", name, err)
		}
		e.Late = &Late{Lag: experiment.Duration(metric.Lag), Days: append([]store.LateDay{}, late...)}
		for _, d := range late {
			e.Late.Control += d.Control
			e.Late.Treatment += d.Treatment
		}
	}
	j := judgement{reading: r, metric: metric, primary: primary, sequence: stats.Sequence{Planned: cmp.Or(r.PlannedUnits, unplanned), Alpha: r.alpha}}
	err = j.judge(&e)
	switch {
	case errors.Is(err, stats.ErrNoVariance):
		e.Note, err = "all units have the same value", nil
	case tooLittleData(err):
		e.Note, err = "too few units with a value", nil
	}
	if err != nil {
		return e, nil, fmt.Errorf("metric %s: %w", name, err)
	}
	return e, j.interval, nil
}

// excludesZero tells whether the interval of the quantity that decides does.
func (e *Effect) excludesZero() bool {
	i := e.decisiveInterval()
	return i.Lower != nil && *i.Lower > 0 || i.Upper != nil && *i.Upper < 0
}

// judgement is how one metric is judged.
type judgement struct {
	*reading
	metric   store.Metric
	primary  bool
	sequence stats.Sequence

	apart []string     // communities that are told apart, of the primary metric
	sums  []store.Sums // of users, where they are the unit

	// interval writes the interval of an effect that is judged, at an alpha.
	interval func(e *Effect, alpha float64) error
	looks    []values
	all      values
}

// judge compares the arms, as far as the method speaks.
func (j *judgement) judge(e *Effect) (err error) {
	if err := j.readValues(); err != nil {
		return err
	}
	ended := j.report.Method.Ended
	at := j.settled
	if ended {
		at = j.once
	}
	completed := sumUntil(j.looks, at)
	if e.Method = completed.methodOfUsers(ended); j.Spec.Unit == experiment.Community {
		e.Method = j.methodOfCommunities(&completed, ended)
	}
	if e.Method == Sequence {
		j.looks = joinLooks(j.looks)
	} else if at.Before(j.settled) {
		j.looks = slices.DeleteFunc(j.looks, func(v values) bool { return v.at.After(at) })
		if j.primary {
			if j.report.Units.Completed, err = j.completed(at); err != nil {
				return err
			}
		}
	}
	j.splitByCommunity(e.Method == Sequence)
	j.all = sumUntil(j.looks, j.settled)
	e.Control, e.Treatment = j.all.level(0), j.all.level(1)
	if err := j.addSeries(e); err != nil {
		return err
	}
	switch {
	case e.Method == Sequence && j.Spec.Unit == experiment.Community:
		return j.judgeCommunitiesBySequence(e)
	case e.Method == Sequence:
		return j.judgeUsersBySequence(e)
	case e.Method == Permutation && ended && j.Spec.Unit == experiment.Community:
		return j.judgeCommunitiesOnce(e)
	case e.Method == Permutation && ended:
		return j.judgeUsersOnce(e)
	}
	d, _, err := j.all.compare()
	if err == nil {
		e.Difference = &d.Value
	}
	return err
}

// series is the effect as it stood at each look.
func (j *judgement) addSeries(e *Effect) error {
	var all values
	for _, l := range j.looks {
		all.add(l)
		d, _, err := all.compare()
		if tooLittleData(err) {
			continue
		} else if err != nil {
			return err
		}
		p := Point{At: all.at.UTC(), Units: d.N, Difference: d.Value}
		if e.By == ByLift {
			p.Lift, err = j.liftAt(e, &all)
		} else if e.Method == Sequence && all.speaks() {
			var i stats.Interval
			if i, err = j.sequence.Interval(d); err == nil {
				p.Interval = toInterval(i)
			}
		}
		if err != nil && !tooLittleData(err) {
			return err
		}
		e.Series = append(e.Series, p)
	}
	return nil
}

// lift is that of communities at a look, with an interval where a sequence speaks.
func (j *judgement) liftAt(e *Effect, all *values) (*Lift, error) {
	ratio, err := stats.JackknifeLogRatio(all.groups[0], all.groups[1])
	if err != nil {
		return nil, err
	}
	unbounded := stats.Interval{Lower: math.Inf(-1), Upper: math.Inf(1)}
	if e.Method != Sequence || all.effective() < fewestEffective {
		return liftOf(math.Expm1(ratio.Value), unbounded), nil
	}
	i, err := j.sequence.Interval(ratio)
	if err != nil {
		return nil, err
	}
	return liftOf(math.Expm1(ratio.Value), i.Expm1()), nil
}

// speaks tells whether a sequence of users may say something.
func (v *values) speaks() bool {
	return v.units() >= sequenceFrom && min(v.nonZero[0], v.nonZero[1]) >= stats.NormalNonZero
}

// compare estimates the difference, of users with what their past foretold taken out.
func (v *values) compare() (d stats.Estimate, adjusted stats.Adjusted, err error) {
	if v.clusters {
		d, err = stats.JackknifeDifference(v.groups[0], v.groups[1])
		return d, adjusted, err
	}
	if adjusted, err = stats.CUPED(v.history[0], v.history[1]); err != nil {
		return d, adjusted, err
	}
	d, err = stats.Difference(adjusted.Control, adjusted.Treatment)
	return d, adjusted, err
}

// usersBySequence judges at this look, and may be asked at any.
func (j *judgement) judgeUsersBySequence(e *Effect) error {
	d, adjusted, err := j.all.compare()
	if err != nil {
		return err
	}
	e.Difference = &d.Value
	if e.Speaks = j.all.speaks(); !e.Speaks {
		return nil
	}
	p, err := j.smallestP((*values).speaks, func(v *values) (stats.Estimate, error) {
		d, _, err := v.compare()
		return d, err
	})
	if err != nil {
		return err
	}
	return j.judgeByDifference(e, d, adjusted, p, j.sequence.IntervalAt)
}

// difference fills in a judgement by the absolute difference. The lift stands beside it where it says the same.
func (j *judgement) judgeByDifference(e *Effect, d stats.Estimate, adjusted stats.Adjusted, p float64, interval func(d stats.Estimate, alpha float64) (stats.Interval, error)) error {
	if _, err := interval(d, j.alpha); err != nil { // then p says nothing either
		return err
	}
	e.Difference, e.P = &d.Value, &p
	if adjusted.Theta != 0 { // the levels, too, are what is left then
		e.CUPED = &CUPED{adjusted.Theta, adjusted.Reduction}
		e.Control.Mean, e.Treatment.Mean = &adjusted.Control.Value, &adjusted.Treatment.Value
	}
	if err := j.addDetectable(e, d.SE/adjusted.Control.Value); err != nil {
		return err
	}
	j.interval = func(e *Effect, alpha float64) error {
		e.Lift, e.Note = nil, ""
		i, err := interval(d, alpha)
		if err != nil {
			return err
		}
		e.Interval = toInterval(i)
		ratio, err := stats.LogRatio(adjusted.Control, adjusted.Treatment)
		if errors.Is(err, stats.ErrUnstable) {
			e.Note = "no lift is given: the control's mean is too near zero"
			return nil
		} else if err != nil {
			return err
		}
		ratio.DF = d.DF
		if i, err = interval(ratio, alpha); err != nil {
			return err
		}
		lift := liftOf(math.Expm1(ratio.Value), i.Expm1())
		least := float64(j.Spec.Metrics.Primary.MinimumEffect)
		if decide(lift.Lower, lift.Upper, &least, e.Down) != e.decision(least) {
			e.Note = "no lift is given: it is not precise enough to lead to the same verdict as the difference"
			return nil
		}
		e.Lift = lift
		return nil
	}
	return j.interval(e, j.alpha)
}

func liftOf(value float64, i stats.Interval) *Lift {
	return &Lift{finite(value), finite(i.Lower), finite(i.Upper)}
}

// communitiesBySequence judges the lift at this look, and may be asked at any.
func (j *judgement) judgeCommunitiesBySequence(e *Effect) error {
	d, _, err := j.all.compare()
	if err != nil {
		return err
	}
	e.Difference = &d.Value
	speaks := func(v *values) bool { return v.effective() >= fewestEffective }
	if e.Speaks = speaks(&j.all); !e.Speaks {
		return nil
	}
	ratio := func(v *values) (stats.Estimate, error) {
		return stats.JackknifeLogRatio(v.groups[0], v.groups[1])
	}
	now, err := ratio(&j.all)
	if err != nil {
		return err
	}
	if _, err := j.sequence.Interval(now); err != nil {
		return err
	}
	p, err := j.smallestP(speaks, ratio)
	if err != nil {
		return err
	}
	e.P = &p
	j.interval = func(e *Effect, alpha float64) error {
		i, err := j.sequence.IntervalAt(now, alpha)
		e.Lift = liftOf(math.Expm1(now.Value), i.Expm1())
		return err
	}
	if err := j.interval(e, j.alpha); err != nil {
		return err
	}
	return j.addDetectable(e, now.SE)
}

// detectable says what effect can be found, by how well the relative one is known now.
func (j *judgement) addDetectable(e *Effect, se float64) error {
	n := j.all.units()
	if !(se > 0 && se < math.Inf(1)) || n < 1 {
		return nil
	}
	design := stats.Design{Alpha: j.alpha, Power: cmp.Or(j.Spec.Power, .8), Sequence: e.Method == Sequence}
	cv := se * math.Sqrt(float64(n)/2) // as if each unit of an arm varied so much
	now, err := design.DetectableEffect(cv, n)
	if err != nil {
		return err
	}
	e.Detectable = &now
	if planned := j.PlannedUnits / 2; planned > n {
		end, err := design.DetectableEffect(cv, planned)
		if err != nil {
			return err
		}
		e.DetectableAtEnd = &end
	}
	return nil
}

// smallestP is the always-valid p of the looks so far. They are on a grid that is fixed at the start, and what was frozen by
// each does not change: so it is the same whenever it is asked, and never rises.
func (j *judgement) smallestP(speaks func(*values) bool, estimate func(*values) (stats.Estimate, error)) (float64, error) {
	smallest := 1.0
	var all values
	for _, l := range j.looks {
		all.add(l)
		if !speaks(&all) {
			continue
		}
		d, err := estimate(&all)
		if err == nil {
			var p float64
			if p, err = j.sequence.P(d); err == nil {
				smallest = min(smallest, p)
			}
		}
		if err != nil && !tooLittleData(err) {
			return 0, err
		}
	}
	return smallest, nil
}

// usersOnce judges few users, at the planned end: by Welch's t where their values are near enough to normal, else by their labels.
func (j *judgement) judgeUsersOnce(e *Effect) error {
	singles, err := j.rows.UserValues(j.ctx, j.metric, j.members(j.once), mostSingles)
	if err != nil {
		return err
	}
	var units []stats.Unit
	var shapes [2]stats.Shape
	for _, v := range singles {
		units = append(units, stats.Unit{Stratum: j.stepOf(v.Unit), Treatment: v.Arm == experiment.Treatment, Sum: v.Value, Size: 1})
		shapes[armIndex(v.Arm)].Add(v.Value)
	}
	near, err := nearNormal(shapes)
	if err != nil && !tooLittleData(err) {
		return err
	}
	e.Speaks = true
	if near && j.all.units() < sequenceFrom {
		e.Method = Welch
		d, adjusted, err := j.all.compare()
		if err != nil {
			return err
		}
		test, err := d.Test()
		if err != nil {
			return err
		}
		return j.judgeByDifference(e, d, adjusted, test.P, stats.Estimate.Interval)
	}
	test, err := stats.Permute(units, j.alpha, j.seed())
	if err != nil {
		return err
	}
	e.Difference, e.P, e.Interval = &test.Difference, &test.P, toInterval(test.Interval)
	j.interval = func(e *Effect, alpha float64) error {
		test, err := stats.Permute(units, alpha, j.seed())
		e.Interval = toInterval(test.Interval)
		return err
	}
	return nil
}

// nearNormal tells whether the means of both arms are near enough to normal for Welch's t.
func nearNormal(arms [2]stats.Shape) (bool, error) {
	for _, shape := range arms {
		spread, err := shape.Spread()
		if err != nil || !spread.Welch() {
			return false, err
		}
	}
	return true, nil
}

// seed is that of the arrangements that are drawn: the same experiment draws the same.
func (j *judgement) seed() uint64 { return uint64(experiment.Slot(j.Salt, "permutation")) } //nolint:gosec // never negative

// mostOfAnArm is the part of an arm's members that one community may be: more, and it is the arm.
const mostOfAnArm = .5

// communitiesOnce tests the labels of communities, at the planned end. Members without a value are left out.
func (j *judgement) judgeCommunitiesOnce(e *Effect) error {
	sums, err := j.rows.UnitSums(j.ctx, j.metric, j.members(j.once))
	if err != nil {
		return err
	}
	steps := make(map[string]int)
	for _, o := range j.openings {
		steps[o.Unit] = o.step
	}
	var units []stats.Unit
	var names []string
	for _, u := range sums {
		if u.N > 0 {
			units = append(units, stats.Unit{Stratum: steps[u.Unit], Treatment: u.Arm == experiment.Treatment, Sum: u.Sum, Size: float64(u.N)})
			names = append(names, u.Unit)
		}
	}
	if of := describeOversized(units, names, mostOfAnArm); of != "" {
		e.Note = of + ": there is nothing to compare it with"
		return nil
	}
	permute := stats.PermuteLift
	if j.draws > 0 {
		permute = func(units []stats.Unit, alpha float64, seed uint64) (stats.LiftPermutation, error) {
			return stats.PermuteLiftDraws(units, alpha, seed, j.draws)
		}
	}
	test, err := permute(units, j.alpha, j.seed())
	if err != nil {
		return err
	}
	e.Speaks = true
	if test.Smallest > j.alpha {
		e.Note = fmt.Sprintf("no verdict is possible: so few communities have only %d arrangements, and the smallest possible p is %.3f", test.Arrangements, test.Smallest)
	} else if of := describeOversized(units, names, evenShare(float64(j.all.units()))); of != "" {
		e.Note = of
	}
	e.Control.Mean, e.Treatment.Mean, e.Difference = &test.Control, &test.Treatment, &test.Difference // with steps made alike
	e.P, e.Lift = &test.P, liftOf(test.Lift, test.Interval)
	j.interval = func(e *Effect, alpha float64) error {
		test, err := permute(units, alpha, j.seed())
		e.Lift = liftOf(test.Lift, test.Interval)
		return err
	}
	return nil
}

// stepOf is the step at which a user's slot was opened.
func (r *reading) stepOf(unit string) int {
	if r.observational() {
		return 0
	}
	return experiment.Step(experiment.Slot(r.Salt, unit), r.openSlots())
}
