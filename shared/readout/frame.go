package readout

import (
	"cmp"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/store"
)

// frame has the times of an experiment, which determine what is counted.
type frame struct {
	store.Started
	at        time.Time     // of the report
	begin     time.Time     // first step; zero before it
	end       time.Time     // rows after it do not count
	settled   time.Time     // windows that are over by then have a value: end minus lag
	lag       time.Duration // how long events may still arrive
	steps     []Step
	phase     experiment.Phase
	rules     experiment.Rules // with the largest number of slots that was ever open
	window    time.Duration
	alpha     float64
	endByTime time.Time     // the planned end by time; zero until the last step is reached
	expected  time.Time     // the planned end if every remaining step takes exactly its hold
	every     time.Duration // time between two looks, fixed at the start
}

func newFrame(s store.Started, now time.Time) frame {
	f := frame{Started: s, at: now, end: now, phase: experiment.Draft, window: time.Duration(s.Spec.Metrics.Window), alpha: cmp.Or(s.Spec.Alpha, .05)}
	var most int
	for _, t := range s.Transitions {
		if t.At.After(now) {
			break
		}
		f.phase = t.Phase
		if t.Phase.Over() {
			f.end = earlier(f.end, t.At)
			continue
		}
		if t.Percent > 0 && (len(f.steps) == 0 || t.Percent > f.steps[len(f.steps)-1].Percent) {
			f.steps = append(f.steps, Step{t.At, t.Percent})
			most = t.Percent
		}
	}
	for i := range s.Metrics {
		f.lag = max(f.lag, s.Metrics[i].Lag())
	}
	f.settled = f.end.Add(-f.lag)
	f.rules = f.rulesAt(most)
	if len(f.steps) == 0 {
		return f
	}
	f.begin = f.steps[0].At
	hold := s.Spec.Ramp.Hold.Least()
	f.every = lookInterval(time.Duration(len(s.Spec.Ramp.Steps))*hold + f.window)
	last := f.steps[len(f.steps)-1]
	f.expected = last.At.Add(hold + f.window)
	left := 0
	for _, percent := range s.Spec.Ramp.Steps {
		if percent > last.Percent {
			left++
		}
	}
	if left == 0 {
		f.endByTime = f.expected
	}
	f.expected = f.expected.Add(time.Duration(left) * hold)
	return f
}

// rulesAt returns the rules by which units are assigned if percent of the slots are open in each arm.
func (f *frame) rulesAt(percent int) experiment.Rules {
	open := percent * experiment.Slots / 100
	r := experiment.Rules{
		Name: f.Name, Unit: f.Spec.Unit, Identity: f.Spec.Identity, Audience: f.Spec.Audience.Communities, Salt: f.Salt,
		Open:  experiment.Open{Control: open, Treatment: open},
		Layer: experiment.Layer{Name: f.Spec.Layer.Name, To: experiment.Slots},
	}
	if slots := f.Spec.Layer.Slots; len(slots) == 2 {
		r.Layer.From, r.Layer.To = slots[0], slots[1]
	}
	if f.observational() {
		r.List = f.Spec.List
	}
	return r
}

func (f *frame) observational() bool { return f.Spec.Assignment == "list" && f.Spec.List != nil }

// foreign reports whether the units do not belong to Warble. Then only their exposures and events are known.
func (f *frame) foreign() bool { return f.Spec.Identity.Foreign() }

// plannedLooks is the approximate number of looks until the planned end.
const plannedLooks = 60

// lookInterval returns the time between two looks. It is a round span of time. It depends on the planned length of the
// experiment, not on how long it has run: if looks became rarer later, a look at which an effect was already seen would be
// lost.
func lookInterval(planned time.Duration) time.Duration {
	spans := []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, day, 7 * day, 28 * day}
	for _, every := range spans {
		if planned <= plannedLooks*every {
			return every
		}
	}
	return spans[len(spans)-1]
}

func (f *frame) looks() store.Looks { return store.Looks{Start: f.begin, Every: f.every, End: f.end} }

// opening is a community in an arm, with the step at which it entered.
type opening struct {
	store.Opening
	step int
}

// openings returns the communities that have entered, in the order of their entry. A community enters at the first step
// whose rules give it an arm.
func (f *frame) openings(communities []string) (found []opening) {
	for _, slug := range communities {
		for i, step := range f.steps {
			rules := f.rulesAt(step.Percent)
			if arm, unit := rules.Assign(0, slug); arm != "" {
				found = append(found, opening{store.Opening{Unit: unit, Arm: arm, Entry: step.At}, i})
				break
			}
		}
	}
	slices.SortStableFunc(found, func(a, b opening) int { return a.Entry.Compare(b.Entry) })
	return found
}

// openSlots returns the number of open slots per arm, for each step so far.
func (f *frame) openSlots() (slots []int) {
	for _, s := range f.steps {
		slots = append(slots, s.Percent*experiment.Slots/100)
	}
	return slots
}

// reachable counts the communities that can enter at any step.
func (f *frame) reachable(communities []string) (n int64) {
	rules := f.rulesAt(50)
	for _, slug := range communities {
		if arm, _ := rules.Assign(0, slug); arm != "" {
			n++
		}
	}
	return n
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
