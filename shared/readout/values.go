package readout

import (
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/stats"
	"warble/shared/store"
)

// values are a metric's, of both arms (control first), of the units that completed in a look or in several: sums over
// users, or one row per community.
type values struct {
	look     int
	ends     time.Time // the look
	at       time.Time // up to which they are of it: its end, or the planned end where that is in it
	clusters bool
	history  [2]stats.History
	groups   [2][]stats.Cluster
	users    [2]Level // without their means
	nonZero  [2]int64 // of users with a value
}

// mostSplits is how many communities are told apart where users are the unit.
const mostSplits = 20

// values reads a metric over the units whose windows are over by now, look by look. What is over at the planned end is told from
// what came later, for some methods judge that alone; so are the largest communities of the primary metric. Reading it once more
// takes as long.
func (j *judgement) readValues() error {
	if j.Spec.Unit == experiment.Community {
		return j.readGroupValues()
	}
	if j.primary {
		var err error
		if j.apart, err = j.rows.LargestCommunities(j.ctx, j.Name, j.end, mostSplits); err != nil {
			return err
		}
	}
	looks := j.reading.looks()
	if j.report.Method.Ended {
		looks.Cut = j.once
	}
	var err error
	if j.sums, err = j.rows.UserSums(j.ctx, j.metric, j.members(j.settled), looks, j.apart); err != nil {
		return err
	}
	type part struct {
		look int
		late bool
	}
	found := make(map[part]*values)
	for _, s := range j.sums {
		v := found[part{s.Look, s.Late}]
		if v == nil {
			ends := earlier(looks.Start.Add(time.Duration(s.Look+1)*looks.Every), j.settled)
			v = &values{look: s.Look, ends: ends, at: ends}
			if !looks.Cut.IsZero() && !s.Late {
				v.at = earlier(ends, looks.Cut)
			}
			found[part{s.Look, s.Late}] = v
		}
		arm := armIndex(s.Arm)
		h := &v.history[arm]
		if s.Known {
			h.With = h.With.Merge(stats.Pairs{N: s.N, SumY: s.SumY, SumYY: s.SumYY, SumX: s.SumX, SumXX: s.SumXX, SumXY: s.SumXY})
		} else {
			h.Without = h.Without.Merge(stats.Moments{N: s.N, Sum: s.SumY, SumSq: s.SumYY})
		}
		v.users[arm].Units += s.N
		v.users[arm].Users += s.N
		v.users[arm].Missing += s.Users - s.N
		v.nonZero[arm] += s.NonZero
	}
	j.looks = sortByTime(found)
	return nil
}

// split tells communities apart, the largest first and what is in none of them last. late counts what came after the planned end.
func (j *judgement) splitByCommunity(late bool) {
	if len(j.apart) == 0 {
		return
	}
	for _, community := range append(j.apart, "") {
		var arms [2]Level
		var totals [2]float64
		for _, s := range j.sums {
			if s.Community == community && (late || !s.Late) {
				arm := armIndex(s.Arm)
				arms[arm].Units += s.N
				arms[arm].Users += s.N
				arms[arm].Missing += s.Users - s.N
				totals[arm] += s.SumY
			}
		}
		for arm := range arms {
			if n := arms[arm].Users; n > 0 {
				mean := totals[arm] / float64(n)
				arms[arm].Mean = &mean
			}
		}
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

// groupValues has a look for each step of the ramp, for its communities complete together.
func (j *judgement) readGroupValues() error {
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

// groups lists the communities, with what of the primary metric each has had by now.
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

// add takes in the units of another look.
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

// whole joins the parts of the look in which the planned end was: a sequence goes by the grid of looks.
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

// until takes in all looks that were over by a time.
func sumUntil(looks []values, at time.Time) (all values) {
	for _, l := range looks {
		if !l.at.After(at) {
			all.add(l)
		}
	}
	return all
}

// units are those of the smaller arm.
func (v *values) units() int64 { return min(v.users[0].Units, v.users[1].Units) }

// level is an arm as it is, with nothing taken out.
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
