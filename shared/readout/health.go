package readout

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/stats"
	"warble/shared/store"
)

const (
	// mostCrossed is the largest share of users who may have been seen in both arms, or served by something other than
	// their arm.
	mostCrossed = .01
	// fewActive is how many buckets of units must have requests in one arm before it is a fault that the other arm has no
	// requests. By chance this happens once in 65 thousand times. It must be so rare because the check is repeated for weeks.
	fewActive = 16
	// silence is how long an arm may be without requests while the other has some. It is also how long both arms may be
	// without requests after the start.
	silence = 30 * time.Minute
)

// checkHealth checks whether the rows can be trusted.
func (r *reading) checkHealth() error {
	checks := []func([]store.Exposed) (Check, error){r.checkTraffic}
	if r.Spec.Unit != experiment.Request {
		checks = append(checks, r.checkSampleRatio, r.checkAssignment)
		if !r.foreign() { // otherwise nobody knows who was never exposed
			checks = append(checks, r.checkNeverExposed) // compares what checkAssignment has recorded
		}
		checks = append(checks, r.checkServed, r.checkCrossed)
		if !r.observational() && !r.foreign() { // a guest's pods report nothing
			checks = append(checks, r.checkPods)
		}
	}
	for _, check := range checks {
		c, err := check(r.exposed)
		if err != nil {
			return err
		}
		r.report.Health = append(r.report.Health, c)
	}
	return nil
}

// checkTraffic checks that both arms get requests: in total and, while the experiment runs, recently. An arm without
// requests is a fault only if enough units have requests in the other arm, because all requests of one person are in the
// same arm.
func (r *reading) checkTraffic([]store.Exposed) (Check, error) {
	c := Check{Name: "traffic", State: OK}
	requests, err := r.rows.Requests(r.ctx, r.Name, r.end.Add(-silence), r.end)
	if err != nil {
		return c, err
	}
	var all, recent, active, recently experiment.Counts
	for _, a := range requests {
		add(&all, a.Arm, a.Requests)
		add(&recent, a.Arm, a.Recent)
		add(&active, a.Arm, a.Active)
		add(&recently, a.Arm, a.RecentActive)
	}
	users := r.report.Units.Users
	c.Detail = fmt.Sprintf("%s requests to control, %s to treatment", figures.Whole(all.Control), figures.Whole(all.Treatment))
	starved := func(counts, active experiment.Counts) bool {
		return counts.Min() == 0 && max(active.Control, active.Treatment) >= fewActive
	}
	switch {
	case starved(all, active) || r.phase == experiment.Running && starved(recent, recently):
		c.State = Red
		c.Detail += fmt.Sprintf("; in the last %s, %s to control, %s to treatment: one arm gets no requests", silence, figures.Whole(recent.Control), figures.Whole(recent.Treatment))
	case starved(users, users) && r.Spec.Unit == experiment.User:
		c.State, c.Detail = Red, fmt.Sprintf("%s exposed to control, %s to treatment: nobody is exposed to one arm", figures.Count(users.Control, r.Spec.Noun()), figures.Whole(users.Treatment))
	case all == experiment.Counts{} && r.end.Sub(r.begin) > silence:
		c.State, c.Detail = Red, "no request has reached either arm since the start"
	case all == experiment.Counts{}:
		c.State = Unknown
	}
	return c, nil
}

// checkSampleRatio counts the randomised units in the order in which they were first exposed.
func (r *reading) checkSampleRatio(exposed []store.Exposed) (Check, error) {
	c := Check{Name: "sample ratio", State: Unknown, Detail: "nothing was randomised"}
	if r.observational() {
		return c, nil
	}
	batches, err := r.batches(exposed)
	if err != nil {
		return c, err
	}
	test, err := stats.NewSampleRatio([]float64{1, 1}, r.PlannedUnits)
	if err != nil {
		return c, err
	}
	var all experiment.Counts
	for _, n := range batches {
		if err := test.Add(n.Control, n.Treatment); err != nil {
			return c, err
		}
		all = experiment.Counts{Control: all.Control + n.Control, Treatment: all.Treatment + n.Treatment}
	}
	if all == (experiment.Counts{}) {
		c.Detail = "nobody has been exposed yet"
		return c, nil
	}
	c.State = OK
	c.Detail = fmt.Sprintf("%s exposed in control, %s in treatment, %s expected in each: p %s, valid at any look",
		figures.Count(all.Control, r.Spec.Noun()), figures.Whole(all.Treatment), figures.Decimal(float64(all.Control+all.Treatment)/2), figures.P(test.P()))
	if r.foreign() {
		c.Detail += "; if an edge dies, the exposures of its last 10 s are lost, in both arms alike"
	}
	if r.report.Method.Ended || r.phase.Over() { // one more test before anything is decided
		final, err := stats.ChiSquare([]int64{all.Control, all.Treatment}, []float64{1, 1})
		if err != nil {
			return c, err
		}
		c.Detail += fmt.Sprintf(", chi-square %s (p %s) at the end", figures.Decimal(final.Statistic), figures.P(final.P))
		if final.P <= stats.SampleRatioAlarm {
			c.State = Red
		}
	}
	if test.P() <= stats.SampleRatioAlarm {
		c.State = Red
	}
	return c, nil
}

// batches returns the number of randomised units per arm, for each look in which some were first exposed, in order.
func (r *reading) batches(exposed []store.Exposed) (batches []experiment.Counts, err error) {
	looks := r.looks()
	found := make(map[int]*experiment.Counts)
	count := func(look int, arm experiment.Arm, n int64) {
		if found[look] == nil {
			found[look] = new(experiment.Counts)
		}
		add(found[look], arm, n)
	}
	if r.Spec.Unit == experiment.Community {
		units, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
		if err != nil {
			return nil, err
		}
		for _, u := range units {
			count(int(u.First.Sub(looks.Start)/looks.Every), u.Arm, 1)
		}
	} else {
		for _, e := range exposed {
			count(e.Look, e.Arm, e.Users)
		}
	}
	for _, look := range slices.Sorted(maps.Keys(found)) {
		batches = append(batches, *found[look])
	}
	return batches, nil
}

// checkAssignment computes the arm of every stored unit again. If users are the unit, it also computes the arm of everybody
// who might be exposed, and records who has been assigned, for checkNeverExposed.
func (r *reading) checkAssignment([]store.Exposed) (Check, error) {
	c := Check{Name: "assignment", State: OK}
	count := r.countWrongUnits
	if r.Spec.Unit == experiment.User && !r.foreign() {
		count = r.countWrongUsers
	}
	units, wrong, err := count()
	if err != nil {
		return c, err
	}
	source := "their hash with the salt"
	if r.observational() {
		source = "the list"
	}
	c.Detail = fmt.Sprintf("%s, all in the arm that %s gives", figures.Count(units, r.Spec.Noun()), source)
	if wrong > 0 {
		c.State, c.Detail = Red, fmt.Sprintf("%s of %s do not belong in the stored arm", figures.Whole(wrong), figures.Count(units, r.Spec.Noun()))
	} else if units == 0 {
		c.State, c.Detail = Unknown, "nobody has been exposed yet"
	}
	return c, nil
}

// countWrongUsers counts the exposed users, and those whose stored arm or unit is wrong. It records every user who has been
// assigned.
func (r *reading) countWrongUsers() (users, wrong int64, err error) {
	openSlots, openedAt := r.openSlots(), make([]time.Time, 0, len(r.steps))
	for _, s := range r.steps {
		openedAt = append(openedAt, s.At)
	}
	err = r.rows.Candidates(r.ctx, r.Name, r.Spec.Audience.Communities, r.end, func(u store.Candidate) {
		arm, unit, slot := r.rules.Place(u.UserID, u.Community)
		if arm != "" {
			step := experiment.Step(slot, openSlots)
			r.addArrival(arm, unit, openedAt[step], u.Registered(), u.First)
		}
		if exposed := u.Arm != ""; !exposed {
			return
		}
		users++
		if arm != u.Arm || unit != u.Unit {
			wrong++
		}
	})
	return users, wrong, err
}

// countWrongUnits counts the exposed units, and those whose stored arm is wrong.
func (r *reading) countWrongUnits() (units, wrong int64, err error) {
	exposed, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
	if err != nil {
		return 0, 0, err
	}
	for _, u := range exposed {
		units++
		if r.foreign() {
			if r.placeForeign(u.Unit) != u.Arm {
				wrong++
			}
			continue
		}
		if arm, unit := r.rules.Assign(0, u.Unit); arm != u.Arm || unit != u.Unit {
			wrong++
		}
	}
	return units, wrong, nil
}

// placeForeign returns the arm of a unit that does not belong to Warble. It ignores the audience, because only the edge
// knows whether the unit belongs to it.
func (r *reading) placeForeign(unit string) experiment.Arm {
	rules := r.rules
	rules.Audience = nil
	arm, _ := rules.PlaceForeign(unit, "")
	return arm
}

// exposureLimit is how long after its assignment a unit should have been exposed.
const exposureLimit = time.Hour

// arrival is an assigned unit whose time to be exposed is over. Units are compared within a cohort: those for whom one step
// opened, or those who registered on one day. People who have just registered are active, but others may have left for
// good, so pairs from different cohorts would differ for this reason. Within a cohort, units are in the order of a hash,
// which depends on nothing else.
type arrival struct {
	// cohort is twice the Unix time of the step; or twice that of the day of registration, plus 1, so that a step comes before
	// those who register on its day.
	cohort int64
	order  uint64
	failed bool // no user of the unit was exposed in time
}

// addArrival records a unit if its hour after the assignment is over. A unit is assigned when its step opens, or when it
// registers after that.
func (r *reading) addArrival(arm experiment.Arm, unit string, opened, registered, first time.Time) {
	assigned, cohort := opened, 2*opened.Unix()
	if registered.After(opened) {
		assigned, cohort = registered, 2*registered.Truncate(day).Unix()+1
	}
	if due := assigned.Add(exposureLimit); !due.After(r.end) {
		hash := fnv.New64a()
		_, _ = io.WriteString(hash, unit) // writing to a hash cannot fail
		r.arrivals[armIndex(arm)] = append(r.arrivals[armIndex(arm)], arrival{cohort, hash.Sum64(), first.IsZero() || first.After(due)})
	}
}

// eachPair pairs the units of control and treatment, cohort by cohort. For each pair it calls each, and says which of the two
// failed to be exposed. If one arm has more units of a cohort, the rest is left out.
func (r *reading) eachPair(each func(control, treatment bool)) {
	a, b := r.arrivals[0], r.arrivals[1]
	for len(a) > 0 && len(b) > 0 {
		switch x, y := a[0], b[0]; {
		case x.cohort < y.cohort:
			a = a[1:]
		case x.cohort > y.cohort:
			b = b[1:]
		default:
			each(x.failed, y.failed)
			a, b = a[1:], b[1:]
		}
	}
}

// checkNeverExposed compares how many of the assigned units were not exposed in time. If the feature keeps people from
// coming, the two arms have different kinds of people. Each unit counts once and units are compared in pairs, so that all
// looks belong to one sequential test.
func (r *reading) checkNeverExposed([]store.Exposed) (Check, error) {
	c := Check{Name: "never exposed", State: Unknown, Detail: "an arm has no units yet"}
	if r.Spec.Unit == experiment.Community {
		exposed, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
		if err != nil {
			return c, err
		}
		first := make(map[string]time.Time)
		for _, u := range exposed {
			first[u.Unit] = u.First
		}
		for _, o := range r.openings {
			r.addArrival(o.Arm, o.Unit, o.Entry, time.Time{}, first[o.Unit])
		}
	}
	var failed [2]int64
	for arm := range r.arrivals {
		slices.SortFunc(r.arrivals[arm], func(a, b arrival) int {
			return cmp.Or(cmp.Compare(a.cohort, b.cohort), cmp.Compare(a.order, b.order))
		})
		for _, unit := range r.arrivals[arm] {
			if unit.failed {
				failed[arm]++
			}
		}
	}
	if min(len(r.arrivals[0]), len(r.arrivals[1])) == 0 {
		return c, nil
	}
	test, err := stats.NewEqualShares(1, 1)
	if err != nil {
		return c, err
	}
	r.eachPair(func(control, treatment bool) {
		test.Add(false, control)
		test.Add(true, treatment)
	})
	c.State = OK
	c.Detail = fmt.Sprintf("%s of %s in control, %s of %s in treatment were not exposed within an hour of their assignment: p %s, valid at any look",
		figures.Whole(failed[0]), figures.Count(int64(len(r.arrivals[0])), r.Spec.Noun()), figures.Whole(failed[1]), figures.Whole(int64(len(r.arrivals[1]))), figures.P(test.P()))
	if test.P() <= stats.EqualSharesAlarm {
		c.State = Red
	}
	return c, nil
}

const (
	// The check warns if one arm has more than mostPods times the pods of the other.
	mostPods = 2
	// fewPodPeriods is the number of count periods below which the arms are not compared.
	fewPodPeriods = 200
)

// checkPods compares the number of pods in the arms. Both revisions should be scaled in the same way: a revision that is
// kept warm, or has spare capacity, is faster for this reason alone. The check only warns, because a treatment may really
// need more pods.
func (r *reading) checkPods([]store.Exposed) (Check, error) {
	c := Check{Name: "autoscaling", State: OK}
	n, err := r.rows.PodPeriods(r.ctx, r.Name, r.end)
	if err != nil {
		return c, err
	}
	c.Detail = fmt.Sprintf("pods served in %s periods of 10 s in control, in %s in treatment", figures.Whole(n.Control), figures.Whole(n.Treatment))
	switch more := max(n.Control, n.Treatment); {
	case n.Control+n.Treatment < fewPodPeriods:
		c.State = Unknown
	case more > mostPods*n.Min():
		c.State = Warning
		c.Detail += ": compare the scaling settings of both revisions"
	}
	return c, nil
}

func (r *reading) checkServed(exposed []store.Exposed) (Check, error) {
	return r.checkShare("served as assigned", exposed, func(e store.Exposed) int64 { return e.Misled }, "were first served by something other than their arm"), nil
}

func (r *reading) checkCrossed(exposed []store.Exposed) (Check, error) {
	return r.checkShare("one arm each", exposed, func(e store.Exposed) int64 { return e.Crossed }, "were seen in both arms, and count in the first"), nil
}

func (r *reading) checkShare(name string, exposed []store.Exposed, counted func(store.Exposed) int64, what string) Check {
	var users, some int64
	for _, e := range exposed {
		users, some = users+e.Users, some+counted(e)
	}
	c := Check{Name: name, State: OK, Detail: fmt.Sprintf("%s of %s %s", figures.Whole(some), figures.Count(users, r.Spec.Identity.Person()), what)}
	switch {
	case users == 0:
		c.State, c.Detail = Unknown, "nobody has been exposed yet"
	case float64(some) > mostCrossed*float64(users):
		c.State = Red
		c.Detail += fmt.Sprintf(" (%s; the limit is %s)", figures.Percent(float64(some)/float64(users)), figures.Percent(mostCrossed))
	case some > 0:
		c.State = Warning
	}
	return c
}
