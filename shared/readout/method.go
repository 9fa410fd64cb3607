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
	// A permutation test judges users only if the smaller arm has permutationFrom units with a value or more. A sequence
	// needs sequenceFrom.
	permutationFrom, sequenceFrom = 4, 100

	// fewestEffective is the least number of communities per arm that a sequence judges. Communities of unequal size count as
	// the number of equal ones with the same information.
	fewestEffective = 50

	// mostSingles limits the users whose values a permutation test reads, in case one arm is far larger than the other.
	mostSingles = 10_000
)

// findPlannedEnd counts the units that have completed, and finds out whether the planned end has come. A method that judges
// once judges the units that had completed at the planned end, even if the readout is made much later.
func (r *reading) findPlannedEnd() error {
	m := &r.report.Method
	if r.Spec.Unit == experiment.Request {
		*m = Method{Name: Guards, Speaks: true, Ended: !r.endByTime.IsZero() && !r.endByTime.After(r.end)}
		return nil
	}
	now, err := r.completed(r.settled)
	if err != nil {
		return err
	}
	reached, err := r.endByUnits(now)
	if err != nil {
		return err
	}
	r.plannedEnd = r.endByTime
	if !reached.IsZero() && (r.plannedEnd.IsZero() || reached.Before(r.plannedEnd)) {
		r.plannedEnd = reached
	}
	m.Ended = !r.plannedEnd.IsZero() && !r.plannedEnd.After(r.settled)
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

// endByUnits returns when the window of the N*-th unit was over. It is zero if fewer have completed, or if no sample size is
// set.
func (r *reading) endByUnits(now experiment.Counts) (time.Time, error) {
	switch n := r.PlannedUnits; {
	case n == 0 || now.Control+now.Treatment < n:
		return time.Time{}, nil
	case r.Spec.Unit == experiment.User:
		return r.rows.CompletedAt(r.ctx, r.members(r.settled), n)
	default:
		return r.openings[n-1].Entry.Add(r.window), nil // openings are in the order of entry
	}
}

// sizes describes the communities that the experiment can take, as they were at its start.
type sizes struct {
	effective float64 // number of communities of equal size with as much information, in the smaller arm
	uneven    bool    // one community is so large a part of its arm that the mean over communities is not nearly normal
}

// measureSizes measures how unequal the communities were at the start. Later sizes may depend on the treatment, and must
// not affect the choice of the method.
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
	r.startSizes.effective = min(stats.EffectiveNumber(arms[0]), stats.EffectiveNumber(arms[1]))
	for _, arm := range arms {
		if share, _ := largest(arm); share > evenShare(float64(len(arm))) {
			r.startSizes.uneven = true
		}
	}
	return nil
}

// evenShare is the largest share of its arm that one community may have, if the arm has so many communities and their mean is
// to be nearly normal.
func evenShare(communities float64) float64 { return max(.1, 3/communities) }

// largest returns the largest share that one size has of the total, and its index.
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

// methodOfUsers chooses the method for users, by the number of those with a value in the smaller arm.
func (v *values) methodOfUsers(ended bool) string {
	switch n := v.units(); {
	case n < permutationFrom:
		return None
	case n < sequenceFrom:
		return Permutation
	case ended && min(v.nonZero[0], v.nonZero[1]) < stats.NormalNonZero: // a sequence would say nothing
		return Permutation
	}
	return Sequence
}

// methodOfCommunities chooses the method for communities, by how unequal they were at the start.
func (r *reading) methodOfCommunities(v *values, ended bool) string {
	switch {
	case v.units() < permutationFrom:
		return None
	case r.startSizes.effective < fewestEffective || r.startSizes.uneven || ended && v.effective() < fewestEffective:
		return Permutation
	}
	return Sequence
}

// effective returns how many communities of equal size have as much information as those of the smaller arm.
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

// nameMethod writes the primary metric's method into the report, and the earliest time at which a method that judges once
// can judge.
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

// describeOversized names a community with a value that is more than a part of its arm; empty if there is none.
func describeOversized(units []stats.Unit, names []string, part float64) string {
	for _, treatment := range []bool{false, true} {
		var sizes []float64
		var armNames []string
		for i, u := range units {
			if u.Treatment == treatment {
				sizes, armNames = append(sizes, u.Size), append(armNames, names[i])
			}
		}
		if share, at := largest(sizes); share > part {
			return fmt.Sprintf("%s has %s of its arm's members", armNames[at], figures.Percent(share))
		}
	}
	return ""
}
