package readout

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

const (
	permutationFrom, clusterFrom, sequenceFrom = 4, 25, 100 // completed units of the smaller arm

	// unplanned is for how many units, of both arms, a sequence is tightest where nothing says how many are needed: those
	// with which it first speaks. With a hundred times as many it is a sixth wider than one that was planned for them.
	unplanned = 2 * sequenceFrom

	// mostSingles bounds what a permutation test reads of an arm that is far larger than the other.
	mostSingles = 10_000
)

// effects returns what is to be done for each metric, the primary one first.
func (r *reading) effects() (parts []func() error) {
	if r.Spec.Unit == experiment.Request {
		return nil
	}
	names := append([]string{r.Spec.Metrics.Primary.Name}, r.Spec.Metrics.Secondary...)
	effects := make([]Effect, len(names))
	r.report.Primary, r.report.Secondary = &effects[0], effects[1:]
	for i, name := range names {
		parts = append(parts, func() (err error) {
			effects[i], err = r.effect(name)
			return err
		})
	}
	return parts
}

// adjust makes the secondary metrics' p say that there are several.
func (r *reading) adjust() error {
	p := make([]float64, len(r.report.Secondary))
	for i, e := range r.report.Secondary {
		if p[i] = 1; e.P != nil { // without one it is a question that was asked all the same
			p[i] = *e.P
		}
	}
	adjusted, err := stats.Holm(p)
	for i := range r.report.Secondary {
		if e := &r.report.Secondary[i]; e.P != nil {
			e.Holm = &adjusted[i]
		}
	}
	return err
}

// method chooses by completed units. What is judged once is judged of the units that had completed at the planned end,
// however late it is asked.
func (r *reading) method() error {
	m := &r.report.Method
	if r.Spec.Unit == experiment.Request {
		*m = Method{Name: Guards, Speaks: true, Ended: !r.ended.IsZero() && !r.ended.After(r.end)}
		return nil
	}
	now, err := r.completed(r.end)
	if err != nil {
		return err
	}
	nth, err := r.plannedAt(now)
	if err != nil {
		return err
	}
	ended := r.ended
	if !nth.IsZero() && (ended.IsZero() || nth.Before(ended)) {
		ended = nth
	}
	m.Name, m.Ended = methodOf(now.Min()), !ended.IsZero() && !ended.After(r.end)
	r.judged, r.report.Units.Completed = r.end, now
	if m.Ended {
		then, err := r.completed(ended)
		if err != nil {
			return err
		}
		if m.Name = methodOf(then.Min()); m.Name != Sequence {
			r.judged, r.report.Units.Completed = ended, then
		}
	}
	m.Speaks = m.Name == Sequence || m.Ended && m.Name != None
	if !m.Ended && !m.Speaks {
		at := r.expected.UTC()
		m.SpeaksAt = &at
	}
	return nil
}

func methodOf(completed int64) string {
	switch {
	case completed < permutationFrom:
		return None
	case completed < clusterFrom:
		return Permutation
	case completed < sequenceFrom:
		return Cluster
	}
	return Sequence
}

// completed counts the units whose windows are over at a time.
func (r *reading) completed(at time.Time) (n experiment.Counts, err error) {
	if r.Spec.Unit == experiment.User {
		return r.rows.Completed(r.ctx, r.members(at))
	}
	for _, o := range r.openings {
		if !o.Entry.Add(r.window).After(at) {
			add(&n, o.Arm, 1)
		}
	}
	return n, nil
}

// plannedAt is when the N*-th window was over: the zero time where not so many are, or none are planned.
func (r *reading) plannedAt(now experiment.Counts) (time.Time, error) {
	switch n := r.PlannedUnits; {
	case n == 0 || now.Control+now.Treatment < n:
		return time.Time{}, nil
	case r.Spec.Unit == experiment.User:
		return r.rows.CompletedAt(r.ctx, r.members(r.end), n)
	default:
		return r.openings[n-1].Entry.Add(r.window), nil // they are in the order of their entry
	}
}

// effect judges one metric.
func (r *reading) effect(name string) (Effect, error) {
	metric, err := store.MetricNamed(name, store.Mean, store.Share, store.Score)
	if err != nil {
		return Effect{}, err
	}
	e := Effect{Metric: name, About: metric.About, Kind: metric.Kind, Unit: metric.Unit, Down: metric.Down, Series: []Point{}}
	looks, err := r.values(metric, r.judged, name == r.Spec.Metrics.Primary.Name)
	if err != nil {
		return e, fmt.Errorf("metric %s: %w", name, err)
	}
	var all values
	sequence := stats.Sequence{Planned: cmp.Or(r.PlannedUnits, unplanned), Alpha: r.alpha}
	for _, l := range looks {
		all.add(l)
		if p, err := all.point(sequence); err == nil {
			e.Series = append(e.Series, p)
		} else if !unsaid(err) {
			return e, fmt.Errorf("metric %s: %w", name, err)
		}
	}
	e.Control, e.Treatment = all.level(0), all.level(1)
	if m := r.report.Method; m.Name == Permutation && m.Speaks {
		err = r.permute(&e, metric)
	} else {
		err = e.judge(&all, m, sequence, looks)
	}
	switch {
	case errors.Is(err, stats.ErrNoVariance):
		e.Note, err = "no unit differs from another", nil
	case unsaid(err):
		e.Note, err = "too few units with a value", nil
	}
	if err != nil {
		return e, fmt.Errorf("metric %s: %w", name, err)
	}
	return e, nil
}

// judge compares the arms, as far as the method speaks.
func (e *Effect) judge(all *values, m Method, sequence stats.Sequence, looks []values) error {
	adjusted, err := all.compare()
	if err != nil {
		return err
	}
	if adjusted.Theta != 0 {
		e.CUPED = &CUPED{adjusted.Theta, adjusted.Reduction}
	}
	d, err := stats.Difference(adjusted.Control, adjusted.Treatment)
	if err != nil {
		return err
	}
	e.Difference = &d.Value
	if !m.Speaks {
		return nil
	}
	interval, p := sequence.Interval, func(d stats.Estimate) (float64, error) { return smallestP(sequence, looks) }
	if m.Name == Cluster {
		if d, err = stats.ClusterDifference(adjusted.Control, adjusted.Treatment); err != nil {
			return err
		}
		interval = func(d stats.Estimate) (stats.Interval, error) { return d.Interval(sequence.Alpha) }
		p = func(d stats.Estimate) (float64, error) {
			test, err := d.Test()
			return test.P, err
		}
	}
	i, err := interval(d)
	if err != nil {
		return err
	}
	e.Interval = known(i)
	value, err := p(d)
	if err != nil {
		return err
	}
	e.P = &value
	ratio, err := stats.LogRatio(adjusted.Control, adjusted.Treatment)
	if errors.Is(err, stats.ErrUnstable) {
		e.Note = "no relative figure: the control's mean is too near zero"
		return nil
	} else if err != nil {
		return err
	}
	ratio.DF = d.DF
	if i, err = interval(ratio); err != nil {
		return err
	}
	i = i.Expm1()
	e.Lift = &Lift{math.Expm1(ratio.Value), i.Lower, i.Upper}
	return nil
}

// smallestP is the always-valid p of the looks so far.
func smallestP(sequence stats.Sequence, looks []values) (float64, error) {
	smallest := 1.0
	var all values
	for _, l := range looks {
		all.add(l)
		if all.units() < sequenceFrom {
			continue
		}
		adjusted, err := all.compare()
		if err == nil {
			var d stats.Estimate
			if d, err = stats.Difference(adjusted.Control, adjusted.Treatment); err == nil {
				var p float64
				if p, err = sequence.P(d); err == nil {
					smallest = min(smallest, p)
				}
			}
		}
		if err != nil && !unsaid(err) {
			return 0, err
		}
	}
	return smallest, nil
}

// permute tests the labels of few units. The past is left out: it would take a model of them.
func (r *reading) permute(e *Effect, metric store.Metric) error {
	var units []stats.Unit
	if r.Spec.Unit == experiment.User {
		singles, err := r.rows.UserValues(r.ctx, metric, r.members(r.judged), mostSingles)
		if err != nil {
			return err
		}
		for _, v := range singles {
			units = append(units, stats.Unit{Stratum: r.stepOf(v.Unit), Treatment: v.Arm == experiment.Treatment, Sum: v.Value, Size: 1})
		}
	} else {
		sums, err := r.rows.UnitSums(r.ctx, metric, r.members(r.judged))
		if err != nil {
			return err
		}
		steps := make(map[string]int)
		for _, o := range r.openings {
			steps[o.Unit] = o.step
		}
		for _, u := range sums {
			if u.N > 0 {
				units = append(units, stats.Unit{Stratum: steps[u.Unit], Treatment: u.Arm == experiment.Treatment, Sum: u.Sum, Size: float64(u.N)})
			}
		}
	}
	test, err := stats.Permute(units, r.alpha, uint64(experiment.Slot(r.Salt, "permutation"))) //nolint:gosec // never negative
	if err != nil {
		return err
	}
	e.Difference, e.P, e.Interval = &test.Difference, &test.P, known(test.Interval)
	return nil
}

// stepOf is the step at which a user's slot was opened.
func (r *reading) stepOf(unit string) int {
	if r.observational() {
		return 0
	}
	slot := experiment.Slot(r.Salt, unit)
	for i, s := range r.steps {
		if open := s.Percent * experiment.Slots / 100; slot < open || slot >= experiment.Slots-open {
			return i
		}
	}
	return len(r.steps)
}
