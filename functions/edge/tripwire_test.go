package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"warble/shared/experiment"
)

// tried is a tripwire, and what it has said.
type tried struct {
	tripwire
	said []experiment.Suspension
	now  time.Time
}

func newTried() *tried {
	w := &tried{now: noon}
	w.experiment = "likes"
	w.say = func(s experiment.Suspension) { w.said = append(w.said, s) }
	return w
}

func (w *tried) treated(user int64, failed bool) {
	w.answered(experiment.Treatment, who{user: user}, failed, w.now)
}

func (w *tried) verdict() experiment.Fault {
	if len(w.said) == 0 {
		return "nothing said"
	}
	return w.said[len(w.said)-1].Verdict
}

// TestATreatmentThatFailsEveryRequestIsSuspended after 8 to 12 answers, and the untouched's answers say that it is its fault.
func TestATreatmentThatFailsEveryRequestIsSuspended(t *testing.T) {
	t.Parallel()
	w := newTried()
	answers := 0
	for user := int64(1); !w.off(); user++ {
		w.treated(user%10+1, true)
		answers++
		w.answered(experiment.Control, who{user: 100 + user}, false, w.now)
		if answers > 12 {
			t.Fatal("it is not suspended after 12 answers that failed")
		}
	}
	if answers < 8 || w.verdict() != experiment.FaultUnknown || w.said[0].Users < 4 || w.said[0].Errors != int64(answers) {
		t.Errorf("after %d answers: %+v", answers, w.said)
	}
	for range 7 {
		w.untouched(true, false, w.now)
	}
	w.untouched(false, true, w.now) // of somebody who is in neither arm
	if w.verdict() != experiment.FaultUnknown {
		t.Error("whose fault it is is said before 8 answers, or 5 s")
	}
	w.now = w.now.Add(5 * time.Second)
	w.untouched(true, false, w.now)
	if w.verdict() != experiment.FaultTreatment || !w.off() || w.said[len(w.said)-1].Untouched != 8 {
		t.Errorf("%+v", w.said)
	}
	for range 100 {
		w.untouched(true, false, w.now)
	}
	if !w.off() || len(w.said) != 2 {
		t.Errorf("it goes on before it is rolled back, or says more than once whose fault it is: %+v", w.said)
	}
}

// TestWhereTheControlFailsAsWellNobodyIsSuspended: a second without the database is over before anybody could be asked.
func TestWhereTheControlFailsAsWellNobodyIsSuspended(t *testing.T) {
	t.Parallel()
	w := newTried()
	for user := range int64(50) {
		w.treated(user, true)
		w.answered(experiment.Control, who{user: 100 + user}, true, w.now)
	}
	if w.off() {
		t.Errorf("%+v", w.said)
	}
}

// TestAQuietTreatmentThatFailsIsJudgedAfterAMinute, by one answer.
func TestAQuietTreatmentThatFailsIsJudgedAfterAMinute(t *testing.T) {
	t.Parallel()
	w := newTried()
	for user := int64(1); !w.off(); user++ {
		w.now = w.now.Add(time.Minute)
		w.treated(user%10+1, true)
		if w.now.Sub(noon) > 25*time.Minute {
			t.Fatal("it is not suspended within 25 minutes")
		}
	}
	w.now = w.now.Add(time.Minute)
	w.untouched(true, false, w.now)
	if w.verdict() != experiment.FaultTreatment {
		t.Errorf("%+v", w.said)
	}
}

// TestADatabaseThatIsAwayIsNoTreatmentThatFails: everything fails, nothing is rolled back, and once it is back the experiment
// goes on. Treatment and control are asked alike or unlike, and the treatment may fail up to a second before the others.
func TestADatabaseThatIsAwayIsNoTreatmentThatFails(t *testing.T) {
	t.Parallel()
	tripped := 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newTried()
		share := []float64{.5, .33, .2}[seed%3] // of the treatment among those of both arms
		lag := time.Duration(random.IntN(1000)) * time.Millisecond
		away, back := noon.Add(10*time.Minute), noon.Add(11*time.Minute)
		begin, end, between := noon, noon.Add(15*time.Minute), 100*time.Millisecond
		if seed%2 == 0 { // a busy edge, on which the treatment fails often before the others do
			begin, end, between = away.Add(-10*time.Second), back.Add(20*time.Second), 10*time.Millisecond
		}
		suspended := false
		for at := begin; at.Before(end); at = at.Add(time.Duration(random.ExpFloat64() * float64(between))) {
			w.now = at
			user := 1 + random.Int64N(50)
			is := func(lag time.Duration) bool {
				return at.After(away.Add(lag)) && at.Before(back.Add(lag)) || random.Float64() < .002
			}
			switch {
			case random.Float64() < .5:
				w.untouched(false, is(lag), at)
			case w.off():
				suspended = true
				w.untouched(true, is(lag), at)
			case random.Float64() < share:
				w.treated(user, is(0))
			default:
				w.answered(experiment.Control, who{user: user}, is(lag), at)
			}
			if w.verdict() == experiment.FaultTreatment {
				t.Fatalf("seed %d: rolled back %s after the database went away: %+v", seed, at.Sub(away), w.said)
			}
		}
		if w.off() {
			t.Fatalf("seed %d: still suspended: %+v", seed, w.said)
		}
		if suspended {
			tripped++
		}
	}
	if tripped < 10 {
		t.Errorf("suspended %d times of 300: it proves little", tripped)
	}
}

// TestUsersWhoFailEverywhereTripNothing: one in a hundred, in both arms, on an edge that is asked once in a while; and a
// feature that fails five percent is the guardrails'.
func TestUsersWhoFailEverywhereTripNothing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 7))
	w := newTried()
	for range 300_000 {
		w.now = w.now.Add(time.Second)
		user := random.Int64N(1000)
		w.treated(user, user%100 == 0)
	}
	for range 300_000 {
		w.treated(random.Int64N(1000), random.Float64() < .05)
	}
	if w.off() || len(w.said) != 0 {
		t.Errorf("%+v", w.said)
	}
}

// TestATreatmentThatFailsAThirdOfTheTimeTrips: what the tripwire is to see.
func TestATreatmentThatFailsAThirdOfTheTimeTrips(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 3))
	w := newTried()
	for answers := 0; !w.off(); answers++ {
		w.treated(random.Int64N(1000), random.Float64() < .35)
		if answers > 2000 {
			t.Fatal("it is not suspended after 2000 answers of which a third failed")
		}
	}
}

// TestATripwireStaysWithItsExperiment whatever else changes, and goes with it.
func TestATripwireStaysWithItsExperiment(t *testing.T) {
	t.Parallel()
	wires := new(tripwires)
	rules := []experiment.Rules{openTo("likes", experiment.User, "like")}
	table := func(r []experiment.Rules) *tripwire {
		trials, refused := newTrials(r, wires)
		if len(refused) > 0 {
			t.Fatal(refused)
		}
		if trials["like"] == nil {
			return nil
		}
		return trials["like"].tripwire
	}
	first := table(rules)
	rules[0].Open = experiment.Open{Control: 100, Treatment: 100}
	if table(rules) != first {
		t.Error("another step is another tripwire")
	}
	rules[0].ArmedAt = time.Unix(1, 0)
	second := table(rules)
	if second == first || second == nil {
		t.Error("arms that were made anew have the tripwire of those before them")
	}
	rules[0].Salt = "another"
	if other := table(rules); other == second || other == nil {
		t.Error("another experiment of the name has its tripwire")
	}
	if table(nil) != nil || len(wires.all) != 0 {
		t.Errorf("%d stay", len(wires.all))
	}
}
