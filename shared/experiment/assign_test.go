package experiment_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/stats"
)

// rules of an experiment that takes users, with so many slots in each arm.
func rules(name string, open int) *experiment.Rules {
	return &experiment.Rules{
		Name: name, Unit: experiment.User, Salt: name + " salt", Layer: experiment.Layer{Name: "l", To: experiment.Slots},
		Open: experiment.Open{Control: open, Treatment: open},
	}
}

// At each step of a ramp, the arms have their shares. A step only adds units: nobody changes or loses their arm.
func TestTheArmsHaveTheirSharesAtEachStep(t *testing.T) {
	t.Parallel()
	r := rules("likes", 0)
	before := make([]experiment.Arm, many+1)
	for _, percent := range []int{1, 5, 10, 25, 50} {
		r.Open = experiment.Open{Control: percent * 100, Treatment: percent * 100}
		counts := make(map[experiment.Arm]int)
		for id := int64(1); id <= many; id++ {
			arm, unit := r.Assign(id, "")
			counts[arm]++
			if before[id] != "" && arm != before[id] {
				t.Fatalf("at %d%%, user %d went from %s to %q", percent, id, before[id], arm)
			}
			before[id] = arm
			if arm != "" && unit != strconv.FormatInt(id, 10) || arm == "" && unit != "" {
				t.Fatalf("the unit of user %d in %q is %q", id, arm, unit)
			}
		}
		share := float64(percent) / 100
		within(t, fmt.Sprintf("control at %d%%", percent), counts[experiment.Control], share)
		within(t, fmt.Sprintf("treatment at %d%%", percent), counts[experiment.Treatment], share)
		if percent == 50 && counts[""] != 0 {
			t.Errorf("at 50%%, %d users are in neither arm", counts[""])
		}
	}
}

// A baseline counts a unit for the arm that it will have from the step that opens its slot. While the baseline is counted, nobody
// has an arm.
func TestABaselineCountsForTheLaterArm(t *testing.T) {
	t.Parallel()
	steps := []int{1000, 2500, 5000}
	r := rules("likes", 0)
	r.Audience, r.Baseline = []string{"gophers"}, steps
	for id := int64(1); id <= 10_000; id++ {
		if arm, _ := r.Assign(id, "gophers"); arm != "" {
			t.Fatalf("user %d is in %s already", id, arm)
		}
		arm, unit, step := r.Foresee(id, "gophers")
		for i, open := range steps {
			then := *r
			then.Open = experiment.Open{Control: open, Treatment: open}
			want, _ := then.Assign(id, "gophers")
			if got := map[bool]experiment.Arm{i >= step: arm}[true]; got != want || unit != strconv.FormatInt(id, 10) {
				t.Fatalf("user %d, unit %q, of step %d: %q at step %d, want %q", id, unit, step, got, i, want)
			}
		}
	}
	if arm, unit, _ := r.Foresee(1, "sres"); arm != "" || unit != "" {
		t.Errorf("%s is foreseen for somebody who is not of the audience", arm)
	}
	if arm, _, _ := rules("likes", 5000).Foresee(1, ""); arm != "" {
		t.Errorf("%s is foreseen without a baseline", arm)
	}
}

func TestControlHasSlotsFrom0UpAndTreatmentFromTheTopDown(t *testing.T) {
	t.Parallel()
	r := rules("likes", 0)
	r.Open = experiment.Open{Control: 300, Treatment: 200}
	for id := int64(1); id <= 20_000; id++ {
		want := experiment.Arm("")
		switch slot := experiment.Slot(r.Salt, strconv.FormatInt(id, 10)); {
		case slot < 300:
			want = experiment.Control
		case slot > 9799:
			want = experiment.Treatment
		}
		if arm, _ := r.Assign(id, ""); arm != want {
			t.Fatalf("user %d is in %q, want %q", id, arm, want)
		}
	}
}

// Two experiments of a layer have no unit in common, at every step, and together they have all units.
func TestExperimentsOfALayerHaveNoUnitInCommon(t *testing.T) {
	t.Parallel()
	a, b := rules("a", 5000), rules("b", 5000)
	a.Layer.To, b.Layer.From = 3000, 3000
	inA := 0
	for id := int64(1); id <= many; id++ {
		first, _ := a.Assign(id, "")
		second, _ := b.Assign(id, "")
		if (first == "") == (second == "") {
			t.Fatalf("user %d is in %q of a and %q of b", id, first, second)
		}
		if first != "" {
			inA++
		}
	}
	within(t, "a", inA, .3)
}

// The arm of a unit in one layer says nothing about its arm in another, and its slot in the layer says nothing about its arm.
func TestLayersAreIndependent(t *testing.T) {
	t.Parallel()
	const units = 20_000
	a, b := rules("a", 3000), rules("b", 3000)
	a.Layer, b.Layer = experiment.Layer{Name: "a", To: 5000}, experiment.Layer{Name: "b", To: 5000}
	b.Salt, a.Salt = "a", "b" // the layers' names
	index := map[experiment.Arm]int{"": 0, experiment.Control: 1, experiment.Treatment: 2}
	shares := []float64{.7, .15, .15} // half of them are in the layer's part, and 30 % of those in each arm
	observed, weights := make([]int64, 9), make([]float64, 9)
	for i := range weights {
		weights[i] = shares[i/3] * shares[i%3]
	}
	for id := int64(1); id <= units; id++ {
		first, _ := a.Assign(id, "")
		second, _ := b.Assign(id, "")
		observed[3*index[first]+index[second]]++
	}
	test, err := stats.ChiSquare(observed, weights)
	if err != nil || test.P < .001 {
		t.Errorf("%v: chi-square %.2f, p %.5f, %v", observed, test.Statistic, test.P, err)
	}
	t.Logf("chi-square %.2f, p %.3f", test.Statistic, test.P)
}

// Who is assigned depends on the audience, the list, the unit, and what is known about the user.
func TestOnlyTheAudienceIsAssigned(t *testing.T) {
	t.Parallel()
	list := &experiment.List{Control: []string{"rustaceans"}, Treatment: []string{"gophers", "7"}}
	all := experiment.Open{Control: 5000, Treatment: 5000}
	for name, tt := range map[string]struct {
		change func(*experiment.Rules)
		user   int64
		in     string // the community
		want   string // arm unit
	}{
		"a community":                          {func(r *experiment.Rules) { r.Unit = experiment.Community }, 7, "gophers", "treatment gophers"},
		"another user of it":                   {func(r *experiment.Rules) { r.Unit = experiment.Community }, 8, "gophers", "treatment gophers"},
		"a user":                               {func(*experiment.Rules) {}, 7, "gophers", "treatment 7"},
		"a user, no community":                 {func(*experiment.Rules) {}, 7, "", "treatment 7"},
		"no community":                         {func(r *experiment.Rules) { r.Unit = experiment.Community }, 7, "", " "},
		"nobody":                               {func(*experiment.Rules) {}, 0, "", " "},
		"a community, for each of its members": {func(r *experiment.Rules) { r.Unit = experiment.Community }, 0, "gophers", "treatment gophers"},
		"requests":                             {func(r *experiment.Rules) { r.Unit = experiment.Request }, 7, "gophers", " "},
		"nothing open":                         {func(r *experiment.Rules) { r.Open = experiment.Open{} }, 7, "gophers", " "},
		"in the audience":                      {func(r *experiment.Rules) { r.Audience = []string{"rustaceans", "gophers"} }, 7, "gophers", "treatment 7"},
		"outside of it":                        {func(r *experiment.Rules) { r.Audience = []string{"rustaceans"} }, 7, "gophers", " "},
		"an audience, and no community":        {func(r *experiment.Rules) { r.Audience = []string{"rustaceans"} }, 7, "", " "},
		"outside of the layer's part":          {func(r *experiment.Rules) { r.Layer.To = experiment.LayerSlot("l", "7") }, 7, "", " "},
		"the last slot of it":                  {func(r *experiment.Rules) { r.Layer.To = experiment.LayerSlot("l", "7") + 1 }, 7, "", "treatment 7"},
		"the first slot of it":                 {func(r *experiment.Rules) { r.Layer.From = experiment.LayerSlot("l", "7") }, 7, "", "treatment 7"},
		"one past it":                          {func(r *experiment.Rules) { r.Layer.From = experiment.LayerSlot("l", "7") + 1 }, 7, "", " "},
		"a listed community":                   {func(r *experiment.Rules) { r.Unit, r.List = experiment.Community, list }, 7, "gophers", "treatment gophers"},
		"another":                              {func(r *experiment.Rules) { r.Unit, r.List = experiment.Community, list }, 7, "rustaceans", "control rustaceans"},
		"one that is not listed":               {func(r *experiment.Rules) { r.Unit, r.List = experiment.Community, list }, 7, "pythonistas", " "},
		"a listed user":                        {func(r *experiment.Rules) { r.List = list }, 7, "rustaceans", "treatment 7"},
		"a list, and nothing open":             {func(r *experiment.Rules) { r.List, r.Open = list, experiment.Open{} }, 7, "gophers", " "},
		"a list, outside of the audience":      {func(r *experiment.Rules) { r.List, r.Audience = list, []string{"gophers"} }, 7, "rustaceans", " "},
	} {
		r := rules("likes", 0)
		r.Salt, r.Open = "s", all
		tt.change(r)
		arm, unit := r.Assign(tt.user, tt.in)
		if got := string(arm) + " " + unit; got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// Each bucket has its share of the units of both arms, and a unit's bucket is its slot modulo 32.
func TestBucketsDivideTheArmsEvenly(t *testing.T) {
	t.Parallel()
	r := rules("likes", 1000)
	counts := make(map[experiment.Arm][]int)
	for id := int64(1); id <= many; id++ {
		arm, unit := r.Assign(id, "")
		if arm == "" {
			continue
		}
		if counts[arm] == nil {
			counts[arm] = make([]int, experiment.Buckets)
		}
		bucket := r.Bucket(unit)
		if want := experiment.Slot(r.Salt, unit) % 32; bucket != want {
			t.Fatalf("user %d is in bucket %d, want %d", id, bucket, want)
		}
		counts[arm][bucket]++
	}
	for _, arm := range experiment.Arms {
		for bucket, n := range counts[arm] {
			slots := 31.25 // of the 1000 of an arm
			if share := float64(n) / many * experiment.Slots; math.Abs(share-slots) > 6 {
				t.Errorf("%s, bucket %d: %.1f slots' units, want about %.0f", arm, bucket, share, slots)
			}
		}
	}
}

// Bounds has each bound of the guardrails once, in rising order.
func TestBoundsAreThoseOfTheGuardrails(t *testing.T) {
	t.Parallel()
	const ms = experiment.Duration(time.Millisecond)
	metrics := experiment.Metrics{Guardrails: []experiment.Guardrail{
		{Name: experiment.SlowShare, Over: 500 * ms}, {Name: experiment.ErrorShare}, {Name: experiment.SlowShare, Over: 250 * ms}, {Name: experiment.SlowShare, Over: 500 * ms},
	}}
	if diff := cmp.Diff([]experiment.Duration{250 * ms, 500 * ms}, metrics.Bounds()); diff != "" {
		t.Error(diff)
	}
}

func TestAssigningAllocatesAtMostTheUnit(t *testing.T) { //nolint:paralleltest // it counts what all allocate
	gophers := strings.Repeat("g", 40) // as long as a community's slug may be
	for name, tt := range map[string]struct {
		unit experiment.Unit
		open int
		want float64
	}{
		"a community": {experiment.Community, 5000, 0}, "a user": {experiment.User, 5000, 1},
		"a user of no arm": {experiment.User, 1, 0}, "nothing open": {experiment.User, 0, 0},
	} {
		r := rules("likes", tt.open)
		r.Unit = tt.unit
		if n := testing.AllocsPerRun(100, func() { r.Assign(1<<62, gophers) }); n != tt.want {
			t.Errorf("%s: %g allocations, want %g", name, n, tt.want)
		}
	}
}
