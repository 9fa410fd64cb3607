package readout

import (
	"fmt"
	"math"
	"time"

	"warble/shared/experiment"
	"warble/shared/figures"
	"warble/shared/stats"
	"warble/shared/store"
)

const (
	// mostCrossed is the share of users that may have been seen in both arms, or been served by what they were not assigned.
	mostCrossed = .01
	// fewRequests are too few to miss any of, and so are those of fewUsers: one person's are all in one arm.
	fewRequests = 50
	fewUsers    = 10
	// silence is how long an arm may be without requests while the other has some, and how long both may after the start.
	silence = 30 * time.Minute
)

// health checks whether the rows can be believed.
func (r *reading) health() error {
	checks := []func([]store.Exposed) (Check, error){r.traffic}
	if r.Spec.Unit != experiment.Request {
		checks = append(checks, r.sampleRatio, r.rehash, r.neverExposed, misled, crossed) // what rehash has counted, neverExposed compares
		if !r.observational() {
			checks = append(checks, r.autoscaling)
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

// traffic wants requests in both arms: in all, and of late while the experiment runs.
func (r *reading) traffic([]store.Exposed) (Check, error) {
	c := Check{Name: "traffic", State: OK}
	requests, err := r.rows.Requests(r.ctx, r.Name, r.end.Add(-silence), r.end)
	if err != nil {
		return c, err
	}
	var all, recent experiment.Counts
	for _, a := range requests {
		add(&all, a.Arm, a.Requests)
		add(&recent, a.Arm, a.Recent)
	}
	users := r.report.Units.Users
	c.Detail = fmt.Sprintf("%s requests to control, %s to treatment", figures.Whole(all.Control), figures.Whole(all.Treatment))
	enough := int64(fewRequests)
	switch {
	case r.Spec.Unit == experiment.Request: // at 1 percent, 50 requests may well be all in the control
		enough = max(enough, 1000/int64(r.Spec.Ramp.Steps[0]))
	case users.Control+users.Treatment < fewUsers:
		enough = math.MaxInt64
	}
	starved := func(counts experiment.Counts) bool {
		return counts.Min() == 0 && counts.Control+counts.Treatment >= enough
	}
	switch {
	case starved(all) || r.phase == experiment.Running && starved(recent):
		c.State = Red
		c.Detail += fmt.Sprintf(", %s and %s of them in the last %s: an arm is not reached", figures.Whole(recent.Control), figures.Whole(recent.Treatment), silence)
	case starved(users) && r.Spec.Unit == experiment.User:
		c.State, c.Detail = Red, fmt.Sprintf("%s users exposed to control, %s to treatment: an arm is not reached", figures.Whole(users.Control), figures.Whole(users.Treatment))
	case all == experiment.Counts{} && r.end.Sub(r.begin) > silence:
		c.State, c.Detail = Red, "no request has reached either arm since the start"
	case all == experiment.Counts{}:
		c.State = Unknown
	}
	return c, nil
}

// sampleRatio counts what is randomised, by when it was first exposed.
func (r *reading) sampleRatio(exposed []store.Exposed) (Check, error) {
	c := Check{Name: "sample ratio", State: Unknown, Detail: "nothing was randomised"}
	if r.observational() {
		return c, nil
	}
	looks := r.looks()
	counts := make([]experiment.Counts, len(r.report.Exposures))
	if r.Spec.Unit == experiment.Community {
		units, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
		if err != nil {
			return c, err
		}
		for _, u := range units {
			add(&counts[inside(int(u.First.Sub(looks.Start)/looks.Every), len(counts))], u.Arm, 1)
		}
	} else {
		for _, e := range exposed {
			add(&counts[inside(e.Look, len(counts))], e.Arm, e.Users)
		}
	}
	test, err := stats.NewSampleRatio([]float64{1, 1}, stats.SampleRatioConcentration)
	if err != nil {
		return c, err
	}
	var all experiment.Counts
	for _, n := range counts {
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
	c.Detail = fmt.Sprintf("%s exposed in control, %s in treatment, %s expected in each: p %s at any look",
		figures.Count(all.Control, string(r.Spec.Unit)), figures.Whole(all.Treatment), figures.Decimal(float64(all.Control+all.Treatment)/2), figures.P(test.P()))
	if r.phase.Over() {
		final, err := stats.ChiSquare([]int64{all.Control, all.Treatment}, []float64{1, 1})
		if err != nil {
			return c, err
		}
		c.Detail += fmt.Sprintf(", chi-square %s (p %s) in the end", figures.Decimal(final.Statistic), figures.P(final.P))
		if final.P <= stats.SampleRatioAlarm {
			c.State = Red
		}
	}
	if test.P() <= stats.SampleRatioAlarm {
		c.State = Red
	}
	return c, nil
}

func inside(look, looks int) int { return max(0, min(look, looks-1)) }

// rehash assigns every stored unit again, and where users are the unit whoever might be one, for how many are assigned.
func (r *reading) rehash([]store.Exposed) (Check, error) {
	c := Check{Name: "assignment", State: OK}
	var units, wrong int64
	if r.Spec.Unit == experiment.User {
		if err := r.rows.Candidates(r.ctx, r.Name, r.Spec.Audience.Communities, r.end, func(u store.Candidate) {
			should, of := r.rules.Assign(u.UserID, u.Community)
			if should != "" {
				add(&r.assigned, should, 1)
			}
			if u.Arm == "" {
				return
			}
			units++
			if should != u.Arm || of != u.Unit {
				wrong++
			} else {
				add(&r.came, should, 1)
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
			if should, of := r.rules.Assign(0, u.Unit); should != u.Arm || of != u.Unit {
				wrong++
			}
		}
	}
	how := "hash with the salt to"
	if r.observational() {
		how = "are listed for"
	}
	c.Detail = fmt.Sprintf("all of %s %s the stored arm", figures.Count(units, string(r.Spec.Unit)), how)
	if wrong > 0 {
		c.State, c.Detail = Red, fmt.Sprintf("%s of %s do not belong in the stored arm", figures.Whole(wrong), figures.Count(units, string(r.Spec.Unit)))
	} else if units == 0 {
		c.State, c.Detail = Unknown, "nobody has been exposed yet"
	}
	return c, nil
}

// neverAlarm is the p-value at which being exposed depends on the arm.
const neverAlarm = .001

// neverExposed compares how many assigned units nobody of was exposed: a feature that keeps people from coming leaves the
// control with other people than the treatment. Users come every day, and each look at them is a test of its own; so it
// warns until the planned end, and is red only there.
func (r *reading) neverExposed([]store.Exposed) (Check, error) {
	c := Check{Name: "never exposed", State: Unknown}
	assigned, seen := r.assigned, r.came
	if r.Spec.Unit == experiment.Community {
		exposed, err := r.rows.ExposedUnits(r.ctx, r.Name, r.end)
		if err != nil {
			return c, err
		}
		came := make(map[string]bool)
		for _, u := range exposed {
			came[u.Unit] = true
		}
		for _, o := range r.openings {
			add(&assigned, o.Arm, 1)
			if came[o.Unit] {
				add(&seen, o.Arm, 1)
			}
		}
	}
	never := experiment.Counts{Control: max(0, assigned.Control-seen.Control), Treatment: max(0, assigned.Treatment-seen.Treatment)}
	test, err := stats.FisherExact(stats.Proportion{Successes: never.Control, N: assigned.Control}, stats.Proportion{Successes: never.Treatment, N: assigned.Treatment})
	if unsaid(err) {
		c.Detail = "an arm has no units yet"
		return c, nil
	} else if err != nil {
		return c, err
	}
	c.State = OK
	c.Detail = fmt.Sprintf("%s of %s in control, %s of %s in treatment: p %s", figures.Whole(never.Control), figures.Count(assigned.Control, string(r.Spec.Unit)), figures.Whole(never.Treatment), figures.Whole(assigned.Treatment), figures.P(test.P))
	switch {
	case test.P >= neverAlarm:
	case r.Spec.Unit == experiment.User && (r.ended.IsZero() || r.ended.After(r.end)):
		c.State = Warning
	default:
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
func (r *reading) autoscaling([]store.Exposed) (Check, error) {
	c := Check{Name: "autoscaling", State: OK}
	n, err := r.rows.PodWindows(r.ctx, r.Name, r.end)
	if err != nil {
		return c, err
	}
	c.Detail = fmt.Sprintf("pods served %s windows of 10 s in control, %s in treatment", figures.Whole(n.Control), figures.Whole(n.Treatment))
	switch more := max(n.Control, n.Treatment); {
	case n.Control+n.Treatment < fewPodWindows:
		c.State = Unknown
	case more > mostPods*n.Min():
		c.State = Warning
		c.Detail += ": compare how the revisions of both are scaled"
	}
	return c, nil
}

func misled(exposed []store.Exposed) (Check, error) {
	return share("served as assigned", exposed, func(e store.Exposed) int64 { return e.Misled }, "were first served by something else than their arm"), nil
}

func crossed(exposed []store.Exposed) (Check, error) {
	return share("one arm each", exposed, func(e store.Exposed) int64 { return e.Crossed }, "were seen in both arms, and count by their first"), nil
}

func share(name string, exposed []store.Exposed, of func(store.Exposed) int64, what string) Check {
	var users, some int64
	for _, e := range exposed {
		users, some = users+e.Users, some+of(e)
	}
	c := Check{Name: name, State: OK, Detail: fmt.Sprintf("%s of %s %s", figures.Whole(some), figures.Count(users, "user"), what)}
	switch {
	case users == 0:
		c.State, c.Detail = Unknown, "nobody has been exposed yet"
	case float64(some) > mostCrossed*float64(users):
		c.State = Red
		c.Detail += fmt.Sprintf(" (%s, %s are borne)", figures.Percent(float64(some)/float64(users)), figures.Percent(mostCrossed))
	case some > 0:
		c.State = Warning
	}
	return c
}
