package experiment_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"warble/shared/experiment"
)

func TestPropertiesOfEachPhase(t *testing.T) {
	t.Parallel()
	only := func(is func(experiment.Phase) bool) (names string) {
		for _, p := range experiment.Phases {
			if is(p) {
				names += " " + string(p)
			}
		}
		return strings.TrimSpace(names)
	}
	for want, is := range map[string]func(experiment.Phase) bool{
		"Warming Running Paused Promoting": experiment.Phase.Live,
		"Running Paused":                   experiment.Phase.Runs,
		"Promoting Concluded Archived":     experiment.Phase.Over,
	} {
		if got := only(is); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestADraftStartsByItsWishes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		wishes experiment.Wishes
		wanted bool
		at     time.Time
	}{
		{experiment.Wishes{}, false, time.Time{}},
		{experiment.Wishes{Start: true}, true, time.Time{}},
		{experiment.Wishes{StartAt: "2026-12-01T09:00:00Z"}, true, now},
		{experiment.Wishes{StartAt: "2026-12-01T10:00:01+01:00"}, false, now.Add(time.Second)},
		{experiment.Wishes{StartAt: "2026-12-02T09:00:00Z", Start: true}, true, time.Time{}},
		{experiment.Wishes{StartAt: "tomorrow"}, false, time.Time{}},
	} {
		if wanted, at := c.wishes.Begins(now); wanted != c.wanted || !at.Equal(c.at) {
			t.Errorf("%+v: %t %s, want %t %s", c.wishes, wanted, at, c.wanted, c.at)
		}
	}
}

// Experiments on different Services without a layer are independent. In a layer they must have the same kind of unit.
func TestConflictingExperimentsCannotBothBeLive(t *testing.T) {
	t.Parallel()
	visitors := experiment.Identity{Kind: experiment.ByVisitor}
	for name, c := range map[string]struct {
		change func(a, b *experiment.Rules)
		want   []string
	}{
		"on other Services":                 {func(_, b *experiment.Rules) { b.Layer.Name = "" }, nil},
		"on one Service":                    {func(_, b *experiment.Rules) { b.Layer.Name, b.Services = "", []string{"like", "tweet"} }, []string{"services: tweet is in the experiment b"}},
		"no layer, each":                    {func(a, b *experiment.Rules) { a.Layer.Name, b.Layer.Name = "", "" }, nil},
		"the same slots":                    {func(*experiment.Rules, *experiment.Rules) {}, []string{"layer.slots: 0 to 10000 of l overlap those of the experiment b, 0 to 10000"}},
		"other slots of the layer":          {func(a, b *experiment.Rules) { a.Layer.To, b.Layer.From = 5000, 5000 }, nil},
		"one slot of both":                  {func(a, b *experiment.Rules) { a.Layer.To, b.Layer.From = 5001, 5000 }, []string{"layer.slots: 0 to 5001"}},
		"other units in the layer":          {func(a, b *experiment.Rules) { a.Layer.To, b.Layer.From, b.Unit = 5000, 5000, experiment.Community }, []string{"layer: l has the unit user here, and community in the experiment b"}},
		"users and visitors in the layer":   {func(a, b *experiment.Rules) { a.Layer.To, b.Layer.From, b.Identity = 5000, 5000, visitors }, []string{"layer: the units of l are users of Warble here, and visitors by the cookie warble_visitor in the experiment b"}},
		"requests, which are in no layer":   {func(_, b *experiment.Rules) { b.Unit = experiment.Request }, nil},
		"everything that there is":          {func(_, b *experiment.Rules) { b.Unit, b.Services = experiment.Community, []string{"tweet"} }, []string{"services: tweet", "layer: l has the unit user", "layer.slots: "}},
		"requests, and on one Service":      {func(_, b *experiment.Rules) { b.Unit, b.Services = experiment.Request, []string{"tweet"} }, []string{"services: tweet"}},
		"another layer with the same slots": {func(_, b *experiment.Rules) { b.Layer.Name = "other" }, nil},
	} {
		a, b := rules("a", 5000), rules("b", 5000)
		a.Services, b.Services = []string{"tweet"}, []string{"like"}
		c.change(a, b)
		err := a.Conflict(b)
		if (err == nil) != (len(c.want) == 0) || (b.Conflict(a) == nil) != (err == nil) {
			t.Errorf("%s: %v, and the other way round %v: want %q", name, err, b.Conflict(a), c.want)
		}
		if missing := slices.ContainsFunc(c.want, func(want string) bool { return err == nil || !strings.Contains(err.Error(), want) }); missing {
			t.Errorf("%s: %v: want %q", name, err, c.want)
		}
	}
}

func TestWrongRulesAreRefused(t *testing.T) {
	t.Parallel()
	const ms = experiment.Duration(time.Millisecond)
	for want, change := range map[string]func(*experiment.Rules){
		"":                         func(*experiment.Rules) {},
		`name: "Likes"`:            func(r *experiment.Rules) { r.Name = "Likes" },
		`unit: "country"`:          func(r *experiment.Rules) { r.Unit = "country" },
		"layer.slots: 7 to 7":      func(r *experiment.Rules) { r.Layer.From, r.Layer.To = 7, 7 },
		"layer.slots: 0 to 10001":  func(r *experiment.Rules) { r.Layer.To = 10_001 },
		"open: 5001 slots":         func(r *experiment.Rules) { r.Open.Control = 5001 },
		"open: -1 slots":           func(r *experiment.Rules) { r.Open.Control = -1 },
		"salt: missing: expected ": func(r *experiment.Rules) { r.Salt = "" },
		"baseline: [5000 1000]: ":  func(r *experiment.Rules) { r.Baseline = []int{5000, 1000} },
		"baseline: [1000 5001]: ":  func(r *experiment.Rules) { r.Baseline = []int{1000, 5001} },
		"bounds: [500ms 250ms]: ":  func(r *experiment.Rules) { r.Bounds = []experiment.Duration{500 * ms, 250 * ms} },
	} {
		r := rules("likes", 5000)
		change(r)
		if err := r.Check(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
