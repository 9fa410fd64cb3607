package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"warble/shared/experiment"
)

// testTripwire is a tripwire that keeps its reports.
type testTripwire struct {
	tripwire
	reported []experiment.Suspension
	now      time.Time
}

func newTestTripwire() *testTripwire {
	w := &testTripwire{now: noon}
	w.experiment = "likes"
	w.onChange = func(s experiment.Suspension) { w.reported = append(w.reported, s) }
	return w
}

func (w *testTripwire) addTreatmentAnswer(user int64, failed bool) {
	w.addArmAnswer(experiment.Treatment, recipient{user: user}, failed, w.now)
}

func (w *testTripwire) verdict() experiment.Fault {
	if len(w.reported) == 0 {
		return "nothing reported"
	}
	return w.reported[len(w.reported)-1].Fault
}

// TestATreatmentThatFailsEveryRequestIsSuspended after 8 to 12 answers. Then the untouched's answers show that the treatment was
// the cause.
func TestATreatmentThatFailsEveryRequestIsSuspended(t *testing.T) {
	t.Parallel()
	w := newTestTripwire()
	answers := 0
	for user := int64(1); !w.isSuspended(); user++ {
		w.addTreatmentAnswer(user%10+1, true)
		answers++
		w.addArmAnswer(experiment.Control, recipient{user: 100 + user}, false, w.now)
		if answers > 12 {
			t.Fatal("it is not suspended after 12 answers that failed")
		}
	}
	if answers < 8 || w.verdict() != experiment.FaultUnknown || w.reported[0].Users < 4 || w.reported[0].Errors != int64(answers) {
		t.Errorf("after %d answers: %+v", answers, w.reported)
	}
	for range 7 {
		w.addUntouchedAnswer(true, false, w.now)
	}
	w.addUntouchedAnswer(false, true, w.now) // for somebody who is in neither arm
	if w.verdict() != experiment.FaultUnknown {
		t.Error("the cause is reported before 8 answers, or 5 s")
	}
	w.now = w.now.Add(5 * time.Second)
	w.addUntouchedAnswer(true, false, w.now)
	if w.verdict() != experiment.FaultTreatment || !w.isSuspended() || w.reported[len(w.reported)-1].Untouched != 8 {
		t.Errorf("%+v", w.reported)
	}
	for range 100 {
		w.addUntouchedAnswer(true, false, w.now)
	}
	if !w.isSuspended() || len(w.reported) != 2 {
		t.Errorf("it ends the suspension before the rollback, or reports the cause more than once: %+v", w.reported)
	}
}

// TestNothingIsSuspendedIfTheControlFailsToo: a second without the database would be over before the untouched could be judged.
func TestNothingIsSuspendedIfTheControlFailsToo(t *testing.T) {
	t.Parallel()
	w := newTestTripwire()
	for user := range int64(50) {
		w.addTreatmentAnswer(user, true)
		w.addArmAnswer(experiment.Control, recipient{user: 100 + user}, true, w.now)
	}
	if w.isSuspended() {
		t.Errorf("%+v", w.reported)
	}
}

// TestATreatmentWithFewRequestsIsJudgedAfterAMinute, by a single answer.
func TestATreatmentWithFewRequestsIsJudgedAfterAMinute(t *testing.T) {
	t.Parallel()
	w := newTestTripwire()
	for user := int64(1); !w.isSuspended(); user++ {
		w.now = w.now.Add(time.Minute)
		w.addTreatmentAnswer(user%10+1, true)
		if w.now.Sub(noon) > 25*time.Minute {
			t.Fatal("it is not suspended within 25 minutes")
		}
	}
	w.now = w.now.Add(time.Minute)
	w.addUntouchedAnswer(true, false, w.now)
	if w.verdict() != experiment.FaultTreatment {
		t.Errorf("%+v", w.reported)
	}
}

// TestAnOutageOfTheDatabaseIsNotBlamedOnTheTreatment: everything fails, nothing is rolled back, and afterwards the experiment
// continues. The arms get equal or unequal shares of requests, and the treatment may fail up to a second before the others.
func TestAnOutageOfTheDatabaseIsNotBlamedOnTheTreatment(t *testing.T) {
	t.Parallel()
	tripped := 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newTestTripwire()
		share := []float64{.5, .33, .2}[seed%3] // the treatment's share of the requests to both arms
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
				w.addUntouchedAnswer(false, is(lag), at)
			case w.isSuspended():
				suspended = true
				w.addUntouchedAnswer(true, is(lag), at)
			case random.Float64() < share:
				w.addTreatmentAnswer(user, is(0))
			default:
				w.addArmAnswer(experiment.Control, recipient{user: user}, is(lag), at)
			}
			if w.verdict() == experiment.FaultTreatment {
				t.Fatalf("seed %d: rolled back %s after the database went away: %+v", seed, at.Sub(away), w.reported)
			}
		}
		if w.isSuspended() {
			t.Fatalf("seed %d: still suspended: %+v", seed, w.reported)
		}
		if suspended {
			tripped++
		}
	}
	if tripped < 10 {
		t.Errorf("suspended %d times of 300: it proves little", tripped)
	}
}

// TestUsersForWhomEverythingFailsTripNothing: everything fails for one in a hundred users, in both arms, on an edge with few
// requests. It also tests a feature that fails five percent of requests, which guardrails must detect.
func TestUsersForWhomEverythingFailsTripNothing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 7))
	w := newTestTripwire()
	for range 300_000 {
		w.now = w.now.Add(time.Second)
		user := random.Int64N(1000)
		w.addTreatmentAnswer(user, user%100 == 0)
	}
	for range 300_000 {
		w.addTreatmentAnswer(random.Int64N(1000), random.Float64() < .05)
	}
	if w.isSuspended() || len(w.reported) != 0 {
		t.Errorf("%+v", w.reported)
	}
}

// TestATreatmentThatFailsAThirdOfRequestsIsSuspended: the tripwire must detect this.
func TestATreatmentThatFailsAThirdOfRequestsIsSuspended(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 3))
	w := newTestTripwire()
	for answers := 0; !w.isSuspended(); answers++ {
		w.addTreatmentAnswer(random.Int64N(1000), random.Float64() < .35)
		if answers > 2000 {
			t.Fatal("it is not suspended after 2000 answers of which a third failed")
		}
	}
}

// TestATripwireStaysWithItsExperiment checks that an experiment keeps its tripwire when anything else changes, and that the
// tripwire is forgotten with the experiment.
func TestATripwireStaysWithItsExperiment(t *testing.T) {
	t.Parallel()
	wires := new(tripwires)
	rules := []experiment.Rules{openTo("likes", experiment.User, "like")}
	table := func(r []experiment.Rules) *tripwire {
		routed, refused := routeExperiments(r, wires)
		if len(refused) > 0 {
			t.Fatal(refused)
		}
		if routed["like"] == nil {
			return nil
		}
		return routed["like"].tripwire
	}
	first := table(rules)
	rules[0].Open = experiment.Open{Control: 100, Treatment: 100}
	if table(rules) != first {
		t.Error("another step is another tripwire")
	}
	rules[0].ArmedAt = time.Unix(1, 0)
	second := table(rules)
	if second == first || second == nil {
		t.Error("arms that were made again have the tripwire of those before them")
	}
	rules[0].Salt = "another"
	if other := table(rules); other == second || other == nil {
		t.Error("another experiment of the name has its tripwire")
	}
	if table(nil) != nil || len(wires.all) != 0 {
		t.Errorf("%d stay", len(wires.all))
	}
}
