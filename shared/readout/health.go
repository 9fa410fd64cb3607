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
	// mostCrossed is the share of users that may have been seen in both arms, or been served by what they were not assigned.
	mostCrossed = .01
	// fewActive are the buckets of units that must have come to one arm for none to be missed in the other: by chance that happens
	// once in 65 thousand times, and it is looked at for weeks.
	fewActive = 16
	// silence is how long an arm may be without requests while the other has some, and how long both may after the start.
	silence = 30 * time.Minute
)

// health checks whether the rows can be believed.
func (r *reading) checkHealth() error {
	checks := []func([]store.Exposed) (Check, error){r.checkTraffic}
	if r.Spec.Unit != experiment.Request {
		checks = append(checks, r.checkSampleRatio, r.checkAssignment)
		if !r.foreign() { // else nobody knows who has never come
			checks = append(checks, r.checkNeverExposed) // compares what rehash has counted
		}
		checks = append(checks, r.checkServed, r.checkCrossed)
		if !r.observational() && !r.foreign() { // of a guest's pods nobody hears
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

// traffic wants requests in both arms: in all, and of late while the experiment runs. An arm without any is a fault where units
// enough have come to the other, for one person's requests are all in one arm.
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

// sampleRatio counts what is randomised, in the order of its first exposures.
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
	if r.report.Method.Ended || r.phase.Over() { // one look more, before anything is decided
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

// batches are the randomised units by arm, in the order of the looks in which they were first exposed.
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

// rehash assigns every stored unit again, and where users are the unit whoever might be one, for how many are assigned.
func (r *reading) checkAssignment([]store.Exposed) (Check, error) {
	c := Check{Name: "assignment", State: OK}
	var units, wrong int64
	if r.Spec.Unit == experiment.User && !r.foreign() {
		opens, opened := r.openSlots(), make([]time.Time, 0, len(r.steps))
		for _, s := range r.steps {
			opened = append(opened, s.At)
		}
		if err := r.rows.Candidates(r.ctx, r.Name, r.Spec.Audience.Communities, r.end, func(u store.Candidate) {
			should, of, slot := r.rules.Place(u.UserID, u.Community)
			if should != "" {
				r.addArrival(should, of, opened[experiment.Step(slot, opens)], u.Registered(), u.First)
			}
			if u.Arm == "" {
				return
			}
			units++
			if should != u.Arm || of != u.Unit {
				wrong++
			}
		}); err != nil {
			return c, err
		}
	} else {
		exposed, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
		if err != nil {
			return c, err
		}
		for _, u := range exposed {
			units++
			if r.foreign() {
				if should := r.placeForeign(u.Unit); should != u.Arm {
					wrong++
				}
				continue
			}
			if should, of := r.rules.Assign(0, u.Unit); should != u.Arm || of != u.Unit {
				wrong++
			}
		}
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

// placeForeign is the arm of a unit that is no user of Warble's. Whether it was of the audience, only the edge has seen.
func (r *reading) placeForeign(unit string) experiment.Arm {
	rules := r.rules
	rules.Audience = nil
	arm, _ := rules.PlaceForeign(unit, "")
	return arm
}

// comes is how long after its assignment a unit is looked at, once: whether anybody of it has been exposed by then.
const comes = time.Hour

// arrival is a unit of an arm, an hour after it was assigned. Units are compared within a cohort, those for whom a step opened, or
// who registered on one day: people who have just registered come, and others may have left for good, so that pairs across would
// differ by what they are. Within it they are in the order of a hash, which depends on nothing.
type arrival struct {
	cohort int64 // the day of the assignment, Unix; a step is before those who register on its day
	order  uint64
	failed bool // nobody of it had been exposed
}

// arrive counts a unit once its hour is over. It was assigned when a step opened, or when it registered after that.
func (r *reading) addArrival(arm experiment.Arm, unit string, opened, registered, first time.Time) {
	assigned, cohort := opened, 2*opened.Unix()
	if registered.After(opened) {
		assigned, cohort = registered, 2*registered.Truncate(day).Unix()+1
	}
	if due := assigned.Add(comes); !due.After(r.end) {
		hash := fnv.New64a()
		_, _ = io.WriteString(hash, unit) // a hash takes anything
		r.arrivals[armIndex(arm)] = append(r.arrivals[armIndex(arm)], arrival{cohort, hash.Sum64(), first.IsZero() || first.After(due)})
	}
}

// pairs calls each with the failures of one unit of either arm, cohort by cohort; what an arm has more of is left out.
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

// neverExposed compares how many of the assigned units have not come: a feature that keeps people from coming leaves the
// control with other people than the treatment. Each unit counts once, and they are compared in pairs, so that every look is
// one of the same test.
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
	// mostPods is how many times the pods of the other arm one may have.
	mostPods = 2
	// fewPodWindows are too few to tell.
	fewPodWindows = 200
)

// autoscaling compares how many pods served the arms, whose revisions are to scale alike: one that is kept warm, or has room
// to spare, is faster for that. It only warns, for a treatment may also need more of them.
func (r *reading) checkPods([]store.Exposed) (Check, error) {
	c := Check{Name: "autoscaling", State: OK}
	n, err := r.rows.PodWindows(r.ctx, r.Name, r.end)
	if err != nil {
		return c, err
	}
	c.Detail = fmt.Sprintf("pods served in %s periods of 10 s in control, in %s in treatment", figures.Whole(n.Control), figures.Whole(n.Treatment))
	switch more := max(n.Control, n.Treatment); {
	case n.Control+n.Treatment < fewPodWindows:
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

func (r *reading) checkShare(name string, exposed []store.Exposed, of func(store.Exposed) int64, what string) Check {
	var users, some int64
	for _, e := range exposed {
		users, some = users+e.Users, some+of(e)
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
