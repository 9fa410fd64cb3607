package readout

import (
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

// values has a metric's values in both arms, control first, for the units that completed in one look or in several: sums
// over users, or one row per community.
type values struct {
	look     int
	ends     time.Time // end of the look
	at       time.Time // end of this part of the look: the planned end if it is within the look, and otherwise ends
	clusters bool
	history  [2]stats.History
	groups   [2][]stats.Cluster
	users    [2]Level // without means
	nonZero  [2]int64 // users whose value is not 0
}

// mostSplits is how many communities are reported one by one if users are the unit.
const mostSplits = 20

// readValues reads a metric over the units whose windows are over by now, look by look. The look in which the planned end was
// has two parts, before and after it, because some methods judge only what completed by the planned end. For the primary metric
// the largest communities are kept apart too. A single read gives all of these, because each further read would take as long
// again.
func (j *metricJudge) readValues() (err error) {
	if j.Spec.Unit == experiment.Community {
		return j.readGroupValues()
	}
	if j.primary {
		if j.apart, err = j.rows.LargestCommunities(j.ctx, j.Name, j.end, mostSplits); err != nil {
			return err
		}
	}
	looks := j.reading.looks()
	if j.report.Method.Ended {
		looks.Cut = j.plannedEnd
	}
	if j.sums, err = j.rows.UserSums(j.ctx, j.metric, j.members(j.settled), looks, j.apart); err != nil {
		return err
	}
	found := make(map[lookPart]*values)
	for _, s := range j.sums {
		part := lookPart{s.Look, s.Late}
		if found[part] == nil {
			found[part] = j.newValues(looks, part)
		}
		found[part].addSums(s)
	}
	j.looks = sortByTime(found)
	return nil
}

// lookPart is a look, or the part of a look before or after the planned end.
type lookPart struct {
	look int
	late bool // after the planned end
}

// newValues returns the values of a part of a look, still without any units.
func (j *metricJudge) newValues(looks store.Looks, part lookPart) *values {
	lookEnd := looks.Start.Add(time.Duration(part.look+1) * looks.Every)
	ends := earlier(lookEnd, j.settled)
	v := &values{look: part.look, ends: ends, at: ends}
	if !looks.Cut.IsZero() && !part.late {
		v.at = earlier(ends, looks.Cut)
	}
	return v
}

// addSums adds the users of one arm.
func (v *values) addSums(s store.Sums) {
	arm := armIndex(s.Arm)
	h := &v.history[arm]
	if s.Known {
		h.With = h.With.Merge(stats.Pairs{N: s.N, SumY: s.SumY, SumYY: s.SumYY, SumX: s.SumX, SumXX: s.SumXX, SumXY: s.SumXY})
	} else {
		h.Without = h.Without.Merge(stats.Moments{N: s.N, Sum: s.SumY, SumSq: s.SumYY})
	}
	v.users[arm].count(s)
	v.nonZero[arm] += s.NonZero
}

// count adds users to a level, with a value or without.
func (l *Level) count(s store.Sums) {
	l.Units += s.N
	l.Users += s.N
	l.Missing += s.Users - s.N
}

// splitByCommunity reports the primary metric for the largest communities, and last for all users who are in none of them. late
// includes users who completed after the planned end.
func (j *metricJudge) splitByCommunity(late bool) {
	if len(j.apart) == 0 {
		return
	}
	for _, community := range append(j.apart, "") {
		arms := j.levelsIn(community, late)
		split := Split{Community: community, Control: arms[0], Treatment: arms[1]}
		switch a, b := arms[0].Mean, arms[1].Mean; {
		case a != nil && b != nil:
			difference := *b - *a
			split.Difference = &difference
		case a == nil && b == nil:
			continue
		}
		j.report.Splits = append(j.report.Splits, split)
	}
}

// levelsIn returns both arms' levels among the users of one community; empty stands for the users of no community that is kept
// apart.
func (j *metricJudge) levelsIn(community string, late bool) (arms [2]Level) {
	var totals [2]float64
	for _, s := range j.sums {
		if s.Community == community && (late || !s.Late) {
			arm := armIndex(s.Arm)
			arms[arm].count(s)
			totals[arm] += s.SumY
		}
	}
	for arm := range arms {
		if n := arms[arm].Users; n > 0 {
			mean := totals[arm] / float64(n)
			arms[arm].Mean = &mean
		}
	}
	return arms
}

// readGroupValues makes one look for each step of the ramp, because the communities of a step complete together.
func (j *metricJudge) readGroupValues() error {
	sums, err := j.rows.UnitSums(j.ctx, j.metric, j.members(j.settled))
	if err != nil {
		return err
	}
	entries := make(map[string]opening)
	for _, o := range j.openings {
		entries[o.Unit] = o
	}
	found := make(map[int]*values)
	for _, s := range sums {
		entry := entries[s.Unit]
		v := found[entry.step]
		if v == nil {
			ends := entry.Entry.Add(j.window)
			v = &values{look: entry.step, ends: ends, at: ends, clusters: true}
			found[entry.step] = v
		}
		arm := armIndex(s.Arm)
		v.groups[arm] = append(v.groups[arm], stats.Cluster{Sum: s.Sum, Size: float64(s.N)})
		if s.N > 0 {
			v.users[arm].Units++
		}
		v.users[arm].Users += s.N
		v.users[arm].Missing += s.Members - s.N
	}
	j.looks = sortByTime(found)
	return nil
}

// readGroups lists the communities, with the mean of the primary metric of each that has completed.
func (r *reading) readGroups() error {
	if r.Spec.Unit != experiment.Community {
		return nil
	}
	metric, err := store.OfUsers(r.Spec.Metrics.Primary.Name, r.Metrics)
	if err != nil {
		return err
	}
	sums, err := r.rows.UnitSums(r.ctx, metric.Capped(r.Spec.Metrics.Primary.Cap), r.members(r.settled))
	if err != nil {
		return err
	}
	exposed, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
	if err != nil {
		return err
	}
	came, valued := make(map[string]int64), make(map[string]store.UnitSums)
	for _, u := range exposed {
		came[u.Unit] += u.Users
	}
	for _, u := range sums {
		valued[u.Unit] = u
	}
	for _, o := range r.openings {
		g := Group{Community: o.Unit, Arm: o.Arm, Entered: o.Entry.UTC(), Completed: !o.Entry.Add(r.window).After(r.settled), Members: r.sizes[o.Unit], Exposed: came[o.Unit]}
		if u := valued[o.Unit]; u.N > 0 {
			mean := u.Sum / float64(u.N)
			g.Mean = &mean
		}
		r.report.Groups = append(r.report.Groups, g)
	}
	return nil
}

func sortByTime[K comparable](found map[K]*values) (looks []values) {
	for _, v := range found {
		looks = append(looks, *v)
	}
	slices.SortFunc(looks, func(a, b values) int { return a.at.Compare(b.at) })
	return looks
}

func armIndex(arm experiment.Arm) int {
	if arm == experiment.Treatment {
		return 1
	}
	return 0
}

// add adds the units of another look.
func (v *values) add(w values) {
	v.at, v.clusters = w.at, w.clusters
	for arm := range v.history {
		v.history[arm] = stats.History{With: v.history[arm].With.Merge(w.history[arm].With), Without: v.history[arm].Without.Merge(w.history[arm].Without)}
		v.groups[arm] = append(v.groups[arm], w.groups[arm]...)
		v.users[arm].Units += w.users[arm].Units
		v.users[arm].Users += w.users[arm].Users
		v.users[arm].Missing += w.users[arm].Missing
		v.nonZero[arm] += w.nonZero[arm]
	}
}

// joinLooks joins the two parts of the look in which the planned end was, because a sequence judges at whole looks.
func joinLooks(parts []values) (looks []values) {
	for _, v := range parts {
		v.at = v.ends
		if last := len(looks) - 1; last >= 0 && looks[last].look == v.look {
			looks[last].add(v)
		} else {
			looks = append(looks, v)
		}
	}
	return looks
}

// sumUntil adds up the looks that were over by a time.
func sumUntil(looks []values, at time.Time) (all values) {
	for _, l := range looks {
		if !l.at.After(at) {
			all.add(l)
		}
	}
	return all
}

// units returns the number of units in the smaller arm.
func (v *values) units() int64 { return min(v.users[0].Units, v.users[1].Units) }

// level returns the level of an arm, without the adjustment by the past.
func (v *values) level(arm int) Level {
	l := v.users[arm]
	sum := v.history[arm].With.SumY + v.history[arm].Without.Sum
	for _, c := range v.groups[arm] {
		sum += c.Sum
	}
	if l.Users > 0 {
		mean := sum / float64(l.Users)
		l.Mean = &mean
	}
	return l
}
