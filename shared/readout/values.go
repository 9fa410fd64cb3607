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
	at       time.Time // the end of the look
	clusters bool
	history  [2]stats.History
	groups   [2][]stats.Cluster
	users    [2]Level // without their means
}

// mostSplits is how many communities are told apart where users are the unit.
const mostSplits = 20

// values reads a metric over the units whose windows are over by end, look by look. The primary one is split by community
// on the way, for reading it once more takes as long.
func (r *reading) values(metric store.Metric, end time.Time, primary bool) ([]values, error) {
	if r.Spec.Unit == experiment.Community {
		return r.groupValues(metric, end)
	}
	var communities []string
	if primary {
		var err error
		if communities, err = r.rows.LargestCommunities(r.ctx, r.Name, end, mostSplits); err != nil {
			return nil, err
		}
	}
	looks := r.looks()
	sums, err := r.rows.UserSums(r.ctx, metric, r.members(end), looks, communities)
	if err != nil {
		return nil, err
	}
	if len(communities) > 0 {
		r.split(append(communities, ""), sums)
	}
	found := make(map[int]*values)
	for _, s := range sums {
		v := found[s.Look]
		if v == nil {
			v = &values{at: minTime(looks.Start.Add(time.Duration(s.Look+1)*looks.Every), end)}
			found[s.Look] = v
		}
		arm := index(s.Arm)
		h := &v.history[arm]
		if s.Known {
			h.With = h.With.Merge(stats.Pairs{N: s.N, SumY: s.SumY, SumYY: s.SumYY, SumX: s.SumX, SumXX: s.SumXX, SumXY: s.SumXY})
		} else {
			h.Without = h.Without.Merge(stats.Moments{N: s.N, Sum: s.SumY, SumSq: s.SumYY})
		}
		v.users[arm].Units += s.N
		v.users[arm].Users += s.N
		v.users[arm].Missing += s.Users - s.N
	}
	return inOrder(found), nil
}

// split tells communities apart, the largest first and what is in none of them last.
func (r *reading) split(communities []string, sums []store.Sums) {
	for _, community := range communities {
		var arms [2]Level
		var totals [2]float64
		for _, s := range sums {
			if s.Community == community {
				arm := index(s.Arm)
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
		r.report.Splits = append(r.report.Splits, split)
	}
}

// groupValues has a look for each step of the ramp, for its communities complete together.
func (r *reading) groupValues(metric store.Metric, end time.Time) ([]values, error) {
	sums, err := r.rows.UnitSums(r.ctx, metric, r.members(end))
	if err != nil {
		return nil, err
	}
	entries := make(map[string]opening)
	for _, o := range r.openings {
		entries[o.Unit] = o
	}
	found := make(map[int]*values)
	for _, s := range sums {
		entry := entries[s.Unit]
		v := found[entry.step]
		if v == nil {
			v = &values{at: entry.Entry.Add(r.window), clusters: true}
			found[entry.step] = v
		}
		arm := index(s.Arm)
		v.groups[arm] = append(v.groups[arm], stats.Cluster{Sum: s.Sum, Size: float64(s.N), PriorSum: s.PriorSum, PriorSize: float64(s.PriorN)})
		if s.N > 0 {
			v.users[arm].Units++
		}
		v.users[arm].Users += s.N
		v.users[arm].Missing += s.Members - s.N
	}
	return inOrder(found), nil
}

// groups lists the communities, with what of the primary metric each has had by now.
func (r *reading) groups() error {
	if r.Spec.Unit != experiment.Community {
		return nil
	}
	metric, err := store.MetricNamed(r.Spec.Metrics.Primary.Name, store.Mean, store.Share, store.Score)
	if err != nil {
		return err
	}
	sums, err := r.rows.UnitSums(r.ctx, metric, r.members(r.end))
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
		g := Group{Community: o.Unit, Arm: o.Arm, Entered: o.Entry.UTC(), Completed: !o.Entry.Add(r.window).After(r.end), Members: r.sizes[o.Unit], Exposed: came[o.Unit]}
		if u := valued[o.Unit]; u.N > 0 {
			mean := u.Sum / float64(u.N)
			g.Mean = &mean
		}
		r.report.Groups = append(r.report.Groups, g)
	}
	return nil
}

func inOrder(found map[int]*values) (looks []values) {
	for _, v := range found {
		looks = append(looks, *v)
	}
	slices.SortFunc(looks, func(a, b values) int { return a.at.Compare(b.at) })
	return looks
}

func index(arm experiment.Arm) int {
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
	}
}

// compare estimates both arms, with what their past foretold taken out.
func (v *values) compare() (stats.Adjusted, error) {
	if v.clusters {
		return stats.ClusterCUPED(v.groups[0], v.groups[1])
	}
	return stats.CUPED(v.history[0], v.history[1])
}

// units are those of the smaller arm.
func (v *values) units() int64 { return min(v.users[0].Units, v.users[1].Units) }

// point is the effect as it stands, with its interval where a confidence sequence says one.
func (v *values) point(sequence stats.Sequence) (Point, error) {
	adjusted, err := v.compare()
	if err != nil {
		return Point{}, err
	}
	d, err := stats.Difference(adjusted.Control, adjusted.Treatment)
	if err != nil {
		return Point{}, err
	}
	p := Point{At: v.at.UTC(), Units: d.N, Difference: d.Value}
	if v.units() < sequenceFrom {
		return p, nil
	}
	i, err := sequence.Interval(d)
	if err == nil {
		p.Interval = known(i)
	} else if unsaid(err) {
		err = nil
	}
	return p, err
}

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
