package readout

import (
	"cmp"
	"slices"
	"time"

	"warble/shared/experiment"
	"warble/shared/store"
)

// frame is the times of an experiment, which everything else is counted by.
type frame struct {
	store.Started
	at       time.Time // of the report
	begin    time.Time // of the first step, zero before it
	end      time.Time // up to which rows count
	settled  time.Time // windows that are over by then count: end, less the lag of the events that may still come
	lag      time.Duration
	steps    []Step
	phase    experiment.Phase
	rules    experiment.Rules // with as many slots as were ever open
	window   time.Duration
	alpha    float64
	ended    time.Time     // the planned end, by time; zero while the last step is not reached
	expected time.Time     // the planned end, if every step takes its hold and no longer
	every    time.Duration // between two looks, fixed at the start
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
			f.end = minTime(f.end, t.At)
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
	f.every = between(time.Duration(len(s.Spec.Ramp.Steps))*hold + f.window)
	last := f.steps[len(f.steps)-1]
	f.expected = last.At.Add(hold + f.window)
	left := 0
	for _, percent := range s.Spec.Ramp.Steps {
		if percent > last.Percent {
			left++
		}
	}
	if left == 0 {
		f.ended = f.expected
	}
	f.expected = f.expected.Add(time.Duration(left) * hold)
	return f
}

// rulesAt are the rules by which units were assigned at a step.
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

// foreign tells whether the units are no users of Warble's: what is known of them is their exposures and events.
func (f *frame) foreign() bool { return f.Spec.Identity.Foreign() }

// plannedLooks is about how many there are until the planned end.
const plannedLooks = 60

// between is the time between two looks, a span that people count in. It goes by what was planned, and not by how long an
// experiment has run: a grid of looks that grew coarser would lose a look at which something was seen.
func between(planned time.Duration) time.Duration {
	spans := []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, day, 7 * day, 28 * day}
	for _, every := range spans {
		if planned <= plannedLooks*every {
			return every
		}
	}
	return spans[len(spans)-1]
}

func (f *frame) looks() store.Looks { return store.Looks{Start: f.begin, Every: f.every, End: f.end} }

// opening is a community of an arm, and the step at which it entered.
type opening struct {
	store.Opening
	step int
}

// openings are the communities that the experiment has taken, each at the first step whose rules took it, in the order of
// their entry.
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

// opens are how many slots each arm has had, step by step.
func (f *frame) opens() (slots []int) {
	for _, s := range f.steps {
		slots = append(slots, s.Percent*experiment.Slots/100)
	}
	return slots
}

// reachable counts the communities that any step could take.
func (f *frame) reachable(communities []string) (n int64) {
	rules := f.rulesAt(50)
	for _, slug := range communities {
		if arm, _ := rules.Assign(0, slug); arm != "" {
			n++
		}
	}
	return n
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
