package rollout

import (
	"cmp"
	"slices"

	"warble/shared/experiment"
)

// arrangement is what an experiment wants of a Service's traffic. The zero arrangement is that of a Service whose
// experiment is there and asks for nothing: everything stays where it was found, pinned, so that a new revision has no
// traffic for being new.
type arrangement struct {
	arms    bool   // a tag leads to each arm
	percent int64  // of all requests to each arm, besides: unit request
	winner  string // the revision that has all requests; empty where they stay as they were found
	latest  bool   // what was found to follow the newest revision does again
}

// targets is the traffic of a Service of the named experiment: what was found, with what others have changed of it
// meanwhile, arranged. It depends on nothing else, and arranging what is arranged changes nothing.
//
// Targets that have a tag are whoever's set it: they stay, are added and go as present says, but what of them was found
// to have a percentage has it. All else is the experiment's until it ends.
func (a arrangement) targets(name string, found ServiceStatus, present []Target) []Target {
	next := found.merged(name, present)
	follows := false // whether what had requests followed the newest revision
	for i := range next {
		t := &next[i]
		follows = follows || t.Latest && t.Percent > 0
		if t.Latest && !a.latest && (t.Percent > 0 || tagged(found.Traffic, t.Tag) != nil) {
			t.Latest, t.Revision = false, found.Revision
		}
	}
	if a.winner != "" {
		next = slices.DeleteFunc(next, func(t Target) bool { return t.Tag == "" })
		for i := range next {
			next[i].Percent = 0
		}
		all := Target{Revision: a.winner, Percent: 100}
		if a.latest && follows {
			all = Target{Latest: true, Percent: 100}
		}
		next = slices.Insert(next, 0, all)
	}
	if !a.arms {
		return next
	}
	scale(next, 100-2*a.percent)
	return append(next,
		Target{Tag: experiment.Tag(name, experiment.Control), Revision: found.Control, Percent: a.percent},
		Target{Tag: experiment.Tag(name, experiment.Treatment), Revision: found.Treatment, Percent: a.percent})
}

// merged is the traffic as it was found, and the tags as they are now.
func (s ServiceStatus) merged(name string, present []Target) []Target {
	var next []Target
	for _, t := range s.Traffic {
		if t.Tag == "" {
			next = append(next, t)
			continue
		}
		switch now := tagged(present, t.Tag); {
		case now == nil && t.Percent == 0:
			continue // somebody took it away
		case now == nil:
			t.Tag = ""
		case now.Latest:
			t.Latest, t.Revision = true, ""
		case now.Revision != s.Revision || !t.Latest: // else it has only been pinned
			t.Latest, t.Revision = false, now.Revision
		}
		next = append(next, t)
	}
	for _, t := range present {
		if t.Tag == "" || tagged(s.Traffic, t.Tag) != nil || ofArm(name, t.Tag) {
			continue
		}
		t.Percent = 0 // what it takes would be missing where the rest comes back
		next = append(next, t)
	}
	return next
}

func ofArm(name, tag string) bool {
	return tag == experiment.Tag(name, experiment.Control) || tag == experiment.Tag(name, experiment.Treatment)
}

func tagged(targets []Target, tag string) *Target {
	if tag == "" {
		return nil
	}
	for i := range targets {
		if targets[i].Tag == tag {
			return &targets[i]
		}
	}
	return nil
}

// scale gives targets whose percentages have a sum of 100 one of total, each its part. What rounding leaves goes to the
// first of those that have any, one percent each.
func scale(targets []Target, total int64) {
	var had []*Target
	left := total
	for i := range targets {
		if t := &targets[i]; t.Percent > 0 {
			had = append(had, t)
			t.Percent = t.Percent * total / 100
			left -= t.Percent
		}
	}
	for i := range left {
		had[i].Percent++
	}
}

// same tells whether two Services' traffic is the same, in whatever order.
func same(a, b []Target) bool {
	order := func(x, y Target) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.Revision, y.Revision), cmp.Compare(x.Percent, y.Percent))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}
