package rollout

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTargets(t *testing.T) {
	t.Parallel()
	latest := []Target{{Latest: true, Percent: 100}}
	control, treatment := Target{Tag: "likes-control", Revision: "c"}, Target{Tag: "likes-treatment", Revision: "t"}
	with := func(target Target, percent int64) Target { target.Percent = percent; return target }
	for name, c := range map[string]struct {
		found, present []Target
		arrangement    arrangement
		want           []Target
	}{
		"pinned":            {latest, latest, arrangement{}, []Target{{Revision: "r", Percent: 100}}},
		"tagged":            {latest, latest, arrangement{arms: true}, []Target{{Revision: "r", Percent: 100}, control, treatment}},
		"untagged":          {latest, []Target{{Revision: "r", Percent: 100}, control, treatment}, arrangement{latest: true}, latest},
		"a canary":          {latest, latest, arrangement{arms: true, percent: 20}, []Target{{Revision: "r", Percent: 60}, with(control, 20), with(treatment, 20)}},
		"half and half":     {latest, latest, arrangement{arms: true, percent: 50}, []Target{{Revision: "r"}, with(control, 50), with(treatment, 50)}},
		"won":               {latest, latest, arrangement{arms: true, winner: "t"}, []Target{{Revision: "t", Percent: 100}, control, treatment}},
		"won, and followed": {latest, latest, arrangement{latest: true, winner: "n"}, latest},
		"won, and named":    {[]Target{{Revision: "r", Percent: 100}}, nil, arrangement{latest: true, winner: "n"}, []Target{{Revision: "n", Percent: 100}}},
		"a split": {
			[]Target{{Latest: true, Percent: 67}, {Revision: "o", Percent: 33}}, nil, arrangement{arms: true, percent: 10},
			[]Target{{Revision: "r", Percent: 54}, {Revision: "o", Percent: 26}, with(control, 10), with(treatment, 10)},
		},
		"another's tag that follows the newest is pinned, and follows again": {
			[]Target{{Latest: true, Percent: 100}, {Tag: "next", Latest: true}}, []Target{{Revision: "r", Percent: 100}, {Tag: "next", Revision: "r"}, control},
			arrangement{latest: true}, []Target{{Latest: true, Percent: 100}, {Tag: "next", Latest: true}},
		},
		"a tag that somebody has set meanwhile stays": {
			latest, []Target{{Revision: "r", Percent: 100}, {Tag: "mine", Revision: "x"}, control, treatment}, arrangement{latest: true},
			[]Target{{Latest: true, Percent: 100}, {Tag: "mine", Revision: "x"}},
		},
		"a tag that somebody has moved meanwhile stays where it is": {
			[]Target{{Latest: true, Percent: 100}, {Tag: "mine", Revision: "x"}}, []Target{{Revision: "r", Percent: 100}, {Tag: "mine", Revision: "y"}}, arrangement{latest: true},
			[]Target{{Latest: true, Percent: 100}, {Tag: "mine", Revision: "y"}},
		},
		"a tag that somebody has taken away stays away": {
			[]Target{{Latest: true, Percent: 100}, {Tag: "mine", Revision: "x"}}, []Target{{Revision: "r", Percent: 100}}, arrangement{latest: true}, latest,
		},
		"one with a percentage leaves that": {
			[]Target{{Latest: true, Percent: 90}, {Tag: "mine", Revision: "x", Percent: 10}}, []Target{{Revision: "r", Percent: 100}}, arrangement{},
			[]Target{{Revision: "r", Percent: 90}, {Revision: "x", Percent: 10}},
		},
		"what somebody has undone": {latest, latest, arrangement{}, []Target{{Revision: "r", Percent: 100}}},
	} {
		s := ServiceStatus{Name: "like", Traffic: c.found, Revision: "r", Control: "c", Treatment: "t"}
		if diff := cmp.Diff(c.want, c.arrangement.targets("likes", s, c.present)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Whatever is found and whatever is wanted: percentages have a sum of 100, arranging twice is arranging once, others' tags
// stay, and where all is over everything is as it was found.
func TestTargetsOfAnything(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		var found []Target
		left := int64(100)
		for i := range 1 + random.IntN(6) {
			target := Target{Revision: fmt.Sprint("r", random.IntN(4)), Percent: random.Int64N(left + 1)}
			if random.IntN(3) == 0 {
				target.Revision, target.Latest = "", true
			}
			if random.IntN(2) == 0 {
				target.Tag = fmt.Sprint("tag", i)
			} else if target.Percent == 0 {
				continue
			}
			left -= target.Percent
			found = append(found, target)
		}
		found = append(found, Target{Revision: "last", Percent: left})
		s := ServiceStatus{Name: "like", Traffic: found, Revision: "now", Control: "c", Treatment: "t"}
		present := found
		for range 4 {
			a := arrangement{arms: true, percent: int64(random.IntN(51))}
			if random.IntN(3) == 0 {
				a = arrangement{arms: random.IntN(2) == 0, winner: "t"}
			}
			present = a.targets("likes", s, present)
			var sum int64
			for _, target := range present {
				sum += target.Percent
				if target.Latest {
					t.Fatalf("%+v of %v: %v follows the newest revision", a, found, present)
				}
			}
			for _, target := range found {
				if target.Tag != "" && tagged(present, target.Tag) == nil {
					t.Fatalf("%+v of %v: %v has no %s", a, found, present, target.Tag)
				}
			}
			if again := a.targets("likes", s, present); sum != 100 || !same(again, present) {
				t.Fatalf("%+v of %v: %v, %d percent, and again %v", a, found, present, sum, again)
			}
		}
		if got := (arrangement{latest: true}).targets("likes", s, present); !same(got, found) {
			t.Fatalf("found %v, left %v", found, got)
		}
	}
}
