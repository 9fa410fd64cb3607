package readout

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

// unplanned is the number of units, both arms together, at which a sequence is tightest if no sample size is set. A sequence
// of fewer units says nothing. At a hundred times as many units, the sequence is a sixth wider than one that was planned for
// them.
const unplanned = 2 * sequenceFrom

// effectParts returns one part of work for each metric, the primary one first.
func (r *reading) effectParts() (parts []func() error) {
	if r.Spec.Unit == experiment.Request {
		return nil
	}
	wanted := &r.Spec.Metrics
	names := append([]string{wanted.Primary.Name}, wanted.Secondary...)
	firstNoWorse := len(names)
	for _, n := range wanted.NoWorse {
		names = append(names, n.Name)
	}
	effects := make([]Effect, len(names))
	r.intervals = make([]func(*Effect, float64) error, len(names))
	r.report.Primary, r.report.Secondary = &effects[0], effects[1:]
	for i, name := range names {
		parts = append(parts, func() (err error) {
			effects[i], r.intervals[i], err = r.effect(name, i == 0)
			if err == nil && i >= firstNoWorse {
				effects[i].judgeNoWorse(wanted.NoWorse[i-firstNoWorse])
			}
			return err
		})
	}
	return parts
}

// adjustSecondary adjusts p and the intervals of the secondary metrics for their number, so that both give the same answer.
// NoWorse metrics are not among them: each asks a question of its own, which its own interval answers.
func (r *reading) adjustSecondary() error {
	secondary := r.report.Secondary[:min(len(r.report.Secondary), len(r.Spec.Metrics.Secondary))]
	p := make([]float64, len(secondary))
	for i, e := range secondary {
		if p[i] = 1; e.P != nil { // a metric without p still counts as one of the metrics
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
		e, interval := &secondary[i], r.intervals[i+1] // the first is the primary metric's
		if e.P == nil {
			continue
		}
		e.Holm = &adjusted[i]
		if interval != nil && alphas[i] < r.alpha {
			parts = append(parts, func() error {
				if err := interval(e, alphas[i]); err != nil {
					return fmt.Errorf("metric %s: %w", e.Metric, err)
				}
				return nil
			})
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

// noteSmallerP explains in a note why p is small but the interval contains 0: an earlier look of the sequence gave a
// smaller p.
func (e *Effect) noteSmallerP(alpha float64) {
	p := e.P
	if e.Holm != nil {
		p = e.Holm
	}
	if e.Note == "" && e.Method == Sequence && p != nil && *p <= alpha && !e.excludesZero() {
		e.Note = "p is the smallest of all looks so far; the interval is that of this look alone, and contains 0 again"
	}
}

// judgeNoWorse sets whether the metric was shown to be no worse than the control by more than the margin. The margin is a
// share of the control's level.
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

// effect judges one metric. interval is a function that replaces the effect's interval by the one at another alpha. It is nil
// if the effect has no interval.
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
		if e.Late, err = r.countLate(metric); err != nil {
			return e, nil, fmt.Errorf("metric %s: events that came late: %w", name, err)
		}
	}
	j := metricJudge{reading: r, metric: metric, primary: primary, sequence: stats.Sequence{Planned: cmp.Or(r.PlannedUnits, unplanned), Alpha: r.alpha}}
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

// countLate counts the events of a metric that arrived after their windows were frozen.
func (r *reading) countLate(metric store.Metric) (*Late, error) {
	days, err := r.rows.LateEvents(r.ctx, metric, r.members(r.settled), r.end)
	if err != nil {
		return nil, err
	}
	late := &Late{Lag: experiment.Duration(metric.Lag), Days: append([]store.LateDay{}, days...)}
	for _, d := range days {
		late.Control += d.Control
		late.Treatment += d.Treatment
	}
	return late, nil
}

// excludesZero reports whether the interval of the deciding quantity excludes 0.
func (e *Effect) excludesZero() bool {
	i := e.decisiveInterval()
	return i.Lower != nil && *i.Lower > 0 || i.Upper != nil && *i.Upper < 0
}

// metricJudge judges one metric.
type metricJudge struct {
	*reading
	metric   store.Metric
	primary  bool
	sequence stats.Sequence

	apart []string     // the communities that are reported one by one, for the primary metric
	sums  []store.Sums // of users, if users are the unit

	// interval sets the interval of a judged effect to the one at an alpha.
	interval func(e *Effect, alpha float64) error
	looks    []values
	all      values
}

// judge compares the arms and writes into e what the method can already say.
func (j *metricJudge) judge(e *Effect) error {
	if err := j.readValues(); err != nil {
		return err
	}
	at := j.settled // a method that judges once judges the units that had completed by this time
	if j.report.Method.Ended {
		at = j.plannedEnd
	}
	e.Method = j.chooseMethod(at)
	if err := j.keepLooks(e.Method, at); err != nil {
		return err
	}
	j.splitByCommunity(e.Method == Sequence)
	j.all = sumUntil(j.looks, j.settled)
	e.Control, e.Treatment = j.all.level(0), j.all.level(1)
	if err := j.addSeries(e); err != nil {
		return err
	}
	return j.applyMethod(e)
}

// chooseMethod returns the method that judges the units that have completed by a time.
func (j *metricJudge) chooseMethod(at time.Time) string {
	completed := sumUntil(j.looks, at)
	if j.Spec.Unit == experiment.Community {
		return j.methodOfCommunities(&completed, j.report.Method.Ended)
	}
	return completed.methodOfUsers(j.report.Method.Ended)
}

// keepLooks keeps the looks that the method uses: a sequence uses all, other methods only those up to a time. For the
// primary metric the report then counts the units that had completed by that time.
func (j *metricJudge) keepLooks(method string, at time.Time) (err error) {
	if method == Sequence {
		j.looks = joinLooks(j.looks)
		return nil
	}
	if !at.Before(j.settled) {
		return nil
	}
	j.looks = slices.DeleteFunc(j.looks, func(v values) bool { return v.at.After(at) })
	if j.primary {
		j.report.Units.Completed, err = j.completed(at)
	}
	return err
}

// applyMethod judges by the effect's method. Before the method can say something, applyMethod sets only the difference.
func (j *metricJudge) applyMethod(e *Effect) error {
	ended, communities := j.report.Method.Ended, j.Spec.Unit == experiment.Community
	switch {
	case e.Method == Sequence && communities:
		return j.judgeCommunitiesBySequence(e)
	case e.Method == Sequence:
		return j.judgeUsersBySequence(e)
	case e.Method == Permutation && ended && communities:
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

// addSeries adds the effect at each look.
func (j *metricJudge) addSeries(e *Effect) error {
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

// liftAt returns the lift of communities at a look. It has an interval only if a sequence can say something.
func (j *metricJudge) liftAt(e *Effect, all *values) (*Lift, error) {
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

// speaks reports whether a sequence of users can say something.
func (v *values) speaks() bool {
	return v.units() >= sequenceFrom && min(v.nonZero[0], v.nonZero[1]) >= stats.NormalNonZero
}

// compare estimates the difference. For users, the part that their past explains is subtracted.
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

// judgeUsersBySequence judges the difference at this look. It may be called at every look.
func (j *metricJudge) judgeUsersBySequence(e *Effect) error {
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

// judgeByDifference writes the judgement of the difference into e. It also writes the lift, if the lift leads to the same
// verdict.
func (j *metricJudge) judgeByDifference(e *Effect, d stats.Estimate, adjusted stats.Adjusted, p float64, interval intervalAt) error {
	if _, err := interval(d, j.alpha); err != nil { // without an interval, p must not be shown either
		return err
	}
	e.Difference, e.P = &d.Value, &p
	if adjusted.Theta != 0 { // then the difference is that of the adjusted levels
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
		e.Lift, e.Note, err = j.liftBesides(e, d, adjusted, func(ratio stats.Estimate) (stats.Interval, error) { return interval(ratio, alpha) })
		return err
	}
	return j.interval(e, j.alpha)
}

// intervalAt computes the interval of an estimate at an alpha.
type intervalAt func(d stats.Estimate, alpha float64) (stats.Interval, error)

// liftBesides returns the lift that is given in addition to a difference d. e already has the interval of d. If no lift is
// given, note says why.
func (j *metricJudge) liftBesides(e *Effect, d stats.Estimate, adjusted stats.Adjusted, interval func(stats.Estimate) (stats.Interval, error)) (lift *Lift, note string, err error) {
	ratio, err := stats.LogRatio(adjusted.Control, adjusted.Treatment)
	if errors.Is(err, stats.ErrUnstable) {
		return nil, "no lift is given: the control's mean is too near zero", nil
	} else if err != nil {
		return nil, "", err
	}
	ratio.DF = d.DF
	i, err := interval(ratio)
	if err != nil {
		return nil, "", err
	}
	lift = liftOf(math.Expm1(ratio.Value), i.Expm1())
	least := float64(j.Spec.Metrics.Primary.MinimumEffect)
	if decide(lift.Lower, lift.Upper, &least, e.Down) != e.decision(least) {
		return nil, "no lift is given: it is not precise enough to lead to the same verdict as the difference", nil
	}
	return lift, "", nil
}

func liftOf(value float64, i stats.Interval) *Lift {
	return &Lift{finite(value), finite(i.Lower), finite(i.Upper)}
}

// judgeCommunitiesBySequence judges the lift at this look. It may be called at every look.
func (j *metricJudge) judgeCommunitiesBySequence(e *Effect) error {
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

// addDetectable sets the effects that the experiment can find, now and at the planned end. se is the standard error of the
// relative effect now.
func (j *metricJudge) addDetectable(e *Effect, se float64) error {
	n := j.all.units()
	if !(se > 0 && se < math.Inf(1)) || n < 1 {
		return nil
	}
	design := stats.Design{Alpha: j.alpha, Power: cmp.Or(j.Spec.Power, .8), Sequence: e.Method == Sequence}
	cv := se * math.Sqrt(float64(n)/2) // as if all units of an arm had this coefficient of variation
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

// smallestP returns the always-valid p, the smallest of all looks so far. The looks are fixed at the start, and values that
// were frozen by a look do not change. So p does not depend on when it is computed, and never rises.
func (j *metricJudge) smallestP(speaks func(*values) bool, estimate func(*values) (stats.Estimate, error)) (float64, error) {
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

// judgeUsersOnce judges a small number of users, once, at the planned end: by Welch's t if their values are nearly normal,
// otherwise by a permutation test.
func (j *metricJudge) judgeUsersOnce(e *Effect) error {
	singles, err := j.rows.UserValues(j.ctx, j.metric, j.members(j.plannedEnd), mostSingles)
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

// nearNormal reports whether the means of both arms are nearly normal, as Welch's t requires.
func nearNormal(arms [2]stats.Shape) (bool, error) {
	for _, shape := range arms {
		spread, err := shape.Spread()
		if err != nil || !spread.Welch() {
			return false, err
		}
	}
	return true, nil
}

// seed returns the seed of a permutation test. The same experiment always draws the same arrangements.
func (j *metricJudge) seed() uint64 { return uint64(experiment.Slot(j.Salt, "permutation")) } //nolint:gosec // never negative

// mostOfAnArm is the largest share of an arm's members that one community may have. Above it, the arm is hardly more than
// this community.
const mostOfAnArm = .5

// judgeCommunitiesOnce judges communities by a permutation test, at the planned end. Members without a value are left out.
func (j *metricJudge) judgeCommunitiesOnce(e *Effect) error {
	sums, err := j.rows.UnitSums(j.ctx, j.metric, j.members(j.plannedEnd))
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
	if large := describeOversized(units, names, mostOfAnArm); large != "" {
		e.Note = large + ": there is nothing to compare it with"
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
	} else if large := describeOversized(units, names, evenShare(float64(j.all.units()))); large != "" {
		e.Note = large
	}
	e.Control.Mean, e.Treatment.Mean, e.Difference = &test.Control, &test.Treatment, &test.Difference // standardised to the same mix of steps
	e.P, e.Lift = &test.P, liftOf(test.Lift, test.Interval)
	j.interval = func(e *Effect, alpha float64) error {
		test, err := permute(units, alpha, j.seed())
		e.Lift = liftOf(test.Lift, test.Interval)
		return err
	}
	return nil
}

// stepOf returns the step at which a user's slot was opened.
func (r *reading) stepOf(unit string) int {
	if r.observational() {
		return 0
	}
	return experiment.Step(experiment.Slot(r.Salt, unit), r.openSlots())
}
