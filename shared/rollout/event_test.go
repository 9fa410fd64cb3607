package rollout_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// Each transition is an Event, with the phase or the conclusion as its reason. kubectl describe shows why, and who.
func TestEveryTransitionIsAnEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  experiment.End
		last []rollout.Event
	}{
		"promoted":    {experiment.Promoted, []rollout.Event{{Reason: "Promoted", Message: "Concluded, promoted: everyone has the treatment"}}},
		"rolled back": {experiment.RolledBack, []rollout.Event{{Reason: "RolledBack", Message: "Concluded, rolled back: a person has rolled it back", Warning: true}}},
		"stopped":     {experiment.Stopped, []rollout.Event{{Reason: "Stopped", Message: "Concluded, stopped: a person has stopped it"}}},
	} {
		w := begin(t)
		w.until("likes", atStep(0))
		w.wish("likes", func(s *experiment.Wishes) { s.Paused, s.Why = true, "the weekend" })
		w.until("likes", inPhase(experiment.Paused))
		w.wish("likes", func(s *experiment.Wishes) { s.Paused, s.Why = false, "" })
		w.until("likes", inPhase(experiment.Running))
		w.end("likes", c.end)
		w.until("likes", swept)
		w.wish("likes", func(s *experiment.Wishes) { s.Archive = true })
		w.until("likes", inPhase(experiment.Archived))
		if len(w.events) != len(w.transitions["likes"]) {
			t.Errorf("%s: %d Events of %d transitions: %+v", name, len(w.events), len(w.transitions["likes"]), w.events)
		}
		want := []rollout.Event{
			{Reason: "Warming", Message: "Warming: a person has started it"},
			{Reason: "Running", Message: "Running, step 1/3 10%: every arm answers"},
			{Reason: "Paused", Message: "Paused, step 1/3 10%: the weekend"},
			{Reason: "Running", Message: "Running, step 1/3 10%: a person has resumed it"},
		}
		promoting := func(e rollout.Event) bool { return e.Reason == "Promoting" }
		if n := len(w.events); (c.end == experiment.Promoted) != slices.ContainsFunc(w.events, promoting) {
			t.Errorf("%s: %d Events: %+v", name, n, w.events)
		}
		want = append(append(want, c.last...), rollout.Event{Reason: "Archived", Message: "Archived: a person has archived it"})
		if diff := cmp.Diff(want, slices.DeleteFunc(slices.Clone(w.events), promoting)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// While a person has to act, one Event says so, not one each minute, and no other when the message changes.
func TestAnExperimentThatIsStuckIsOneEvent(t *testing.T) {
	t.Parallel()
	w := begin(t)
	for _, name := range services {
		w.services[name].Latest = false
		w.turn()
		w.pass(time.Minute)
		w.turn()
	}
	want := []rollout.Event{{Reason: "Refused", Message: "refused: like: its newest revision does not have all of its traffic: expected 100 percent, because the arms are copies of it", Warning: true}}
	if diff := cmp.Diff(want, w.events); diff != "" {
		t.Error(diff)
	}
}
