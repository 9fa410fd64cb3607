package readout

import (
	"fmt"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/stats"
	"warble/shared/store"
)

const (
	// By how many units with a value, of the smaller arm, users are judged.
	permutationFrom, sequenceFrom = 4, 100

	// fewestEffective are the communities of an arm from which on a sequence speaks, as many of equal size as those of unequal
	// size count for.
	fewestEffective = 50

	// mostSingles bounds what a permutation test reads of an arm that is far larger than the other.
	mostSingles = 10_000
)

// horizon finds how many units have completed, and whether the planned end has come. What is judged once is judged of the units
// that had completed then, however late it is asked.
func (r *reading) findPlannedEnd() error {
	m := &r.report.Method
	if r.Spec.Unit == experiment.Request {
		*m = Method{Name: Guards, Speaks: true, Ended: !r.ended.IsZero() && !r.ended.After(r.end)}
		return nil
	}
	now, err := r.completed(r.settled)
	if err != nil {
		return err
	}
	nth, err := r.plannedAt(now)
	if err != nil {
		return err
	}
	r.once = r.ended
	if !nth.IsZero() && (r.once.IsZero() || nth.Before(r.once)) {
		r.once = nth
	}
	m.Ended = !r.once.IsZero() && !r.once.After(r.settled)
	r.report.Units.Completed = now
	if r.Spec.Unit == experiment.Community {
		return r.measureSizes()
	}
	return nil
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
		return r.rows.CompletedAt(r.ctx, r.members(r.settled), n)
	default:
		return r.openings[n-1].Entry.Add(r.window), nil // they are in the order of their entry
	}
}

// sizes are those of the communities that the experiment can take, as they were at its start.
type sizes struct {
	effective float64 // number, of the smaller arm
	uneven    bool    // one community is too large a part of its arm for a mean of communities to be near normal
}

// measureSizes asks at the start, once for all, how unequal the communities are: what came later would choose the method by what
// the treatment has done to them.
func (r *reading) measureSizes() error {
	steps := r.Spec.Ramp.Steps
	rules := r.rulesAt(steps[len(steps)-1])
	all := store.Members{Openings: []store.Opening{}, Window: r.window, End: r.end}
	for _, slug := range r.slugs {
		if arm, unit := rules.Assign(0, slug); arm != "" {
			all.Openings = append(all.Openings, store.Opening{Unit: unit, Arm: arm, Entry: r.begin})
		}
	}
	members, err := r.rows.UnitMembers(r.ctx, all)
	if err != nil {
		return err
	}
	var arms [2][]float64
	for _, o := range all.Openings {
		if n := members[o.Unit]; n > 0 {
			arms[armIndex(o.Arm)] = append(arms[armIndex(o.Arm)], float64(n))
		}
	}
	r.even.effective = min(stats.EffectiveNumber(arms[0]), stats.EffectiveNumber(arms[1]))
	for _, arm := range arms {
		if share, _ := largest(arm); share > evenShare(float64(len(arm))) {
			r.even.uneven = true
		}
	}
	return nil
}

// evenShare is the part of an arm of so many communities that one may be, for their mean to be near normal.
func evenShare(communities float64) float64 { return max(.1, 3/communities) }

// largest is the greatest part that one of some sizes has of all of them, and which it is.
func largest(sizes []float64) (share float64, at int) {
	var sum, most float64
	for i, n := range sizes {
		if sum += n; n > most {
			most, at = n, i
		}
	}
	if sum == 0 {
		return 0, 0
	}
	return most / sum, at
}

// methodOfUsers goes by the users with a value, of the smaller arm.
func (v *values) methodOfUsers(ended bool) string {
	switch n := v.units(); {
	case n < permutationFrom:
		return None
	case n < sequenceFrom:
		return Permutation
	case ended && min(v.nonZero[0], v.nonZero[1]) < stats.NormalNonZero: // a sequence has said nothing, and would not
		return Permutation
	}
	return Sequence
}

// methodOfCommunities goes by how unequal they were at the start.
func (r *reading) methodOfCommunities(v *values, ended bool) string {
	switch {
	case v.units() < permutationFrom:
		return None
	case r.even.effective < fewestEffective || r.even.uneven || ended && v.effective() < fewestEffective:
		return Permutation
	}
	return Sequence
}

// effective is the number of communities of equal size that those of the smaller arm count for.
func (v *values) effective() float64 {
	var least float64
	for arm, groups := range v.groups {
		sizes := make([]float64, 0, len(groups))
		for _, g := range groups {
			sizes = append(sizes, g.Size)
		}
		if n := stats.EffectiveNumber(sizes); arm == 0 || n < least {
			least = n
		}
	}
	return least
}

// decisive tells when a method that judges once does so at the earliest.
func (r *reading) nameMethod() {
	m := &r.report.Method
	if e := r.report.Primary; e != nil {
		m.Name, m.Speaks = e.Method, e.Speaks
	}
	if !m.Ended && !m.Speaks && r.expected.After(r.settled) {
		at := r.expected.Add(r.lag).UTC()
		m.SpeaksAt = &at
	}
}

// oversized names the community that is more than a part of its arm, among those with a value.
func describeOversized(units []stats.Unit, names []string, part float64) string {
	for _, treatment := range []bool{false, true} {
		var sizes []float64
		var of []string
		for i, u := range units {
			if u.Treatment == treatment {
				sizes, of = append(sizes, u.Size), append(of, names[i])
			}
		}
		if share, at := largest(sizes); share > part {
			return fmt.Sprintf("%s has %s of its arm's members", of[at], figures.Percent(share))
		}
	}
	return ""
}
