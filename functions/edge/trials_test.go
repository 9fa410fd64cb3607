package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/token"
)

// openTo are the rules of an experiment on services, whose users are all in it, half of them in each arm.
func openTo(name string, unit experiment.Unit, services ...string) experiment.Rules {
	return experiment.Rules{
		Name: name, Generation: 3, Services: services, Exposure: services, Unit: unit, Salt: name,
		Layer: experiment.Layer{Name: "engagement", To: experiment.Slots}, Open: experiment.Open{Control: 5000, Treatment: 5000},
	}
}

// withArms are targets whose arms of these experiments can be reached.
func withArms(services []string, experiments ...string) (targets []*target) {
	for _, service := range services {
		to := &target{name: service, url: &url.URL{Scheme: "http", Host: service}, routes: []string{"/" + service}, tags: make(map[string]tagged)}
		for _, name := range experiments {
			for _, arm := range []experiment.Arm{experiment.Control, experiment.Treatment} {
				tag := experiment.Tag(name, arm)
				to.tags[tag] = tagged{&url.URL{Scheme: "http", Host: tag + "-" + service}, service + "-" + string(arm)}
			}
		}
		targets = append(targets, to)
	}
	return targets
}

// TestWhatCannotBeInForceTogether: the first stays, and the other is out as a whole and said to be.
func TestWhatCannotBeInForceTogether(t *testing.T) {
	t.Parallel()
	likes := func(change func(*experiment.Rules)) experiment.Rules {
		r := openTo("likes", experiment.Community, "like", "tweet")
		change(&r)
		return r
	}
	other := func(change func(*experiment.Rules)) experiment.Rules {
		r := openTo("threads", experiment.Community, "timeline")
		change(&r)
		return r
	}
	same := func(*experiment.Rules) {}
	lower, upper := experiment.Layer{Name: "engagement", To: 5000}, experiment.Layer{Name: "engagement", From: 5000, To: experiment.Slots}
	both := map[string]string{"like": "likes", "tweet": "likes", "timeline": "threads"}
	first := map[string]string{"like": "likes", "tweet": "likes"}
	for name, tt := range map[string]struct {
		experiments []experiment.Rules
		want        map[string]string
		says        string
	}{
		"a Service in two": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) {
			r.Services, r.Layer = []string{"timeline", "tweet"}, experiment.Layer{Name: "reading", To: experiment.Slots}
		})}, first, "threads: it claims tweet, which is in likes and stays so"},
		"a Service in one that is not open": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Open = experiment.Open{} }), other(func(r *experiment.Rules) {
			r.Services = []string{"tweet"}
		})}, map[string]string{"tweet": "threads"}, ""},
		"slots in two": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer = lower }), other(func(r *experiment.Rules) {
			r.Layer = experiment.Layer{Name: "engagement", From: 4999, To: 5001}
		})}, first, "threads: its slots 4999 to 5001 of the layer engagement overlap with 0 to 5000, which are likes's and stay so"},
		"slots side by side": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer = lower }), other(func(r *experiment.Rules) { r.Layer = upper })}, both, ""},
		"two layers":         {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name = "reading" })}, both, ""},
		"no layers":          {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer.Name = "" }), other(func(r *experiment.Rules) { r.Layer.Name = "" })}, both, ""},
		"two kinds of unit in one layer": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer = lower }), other(func(r *experiment.Rules) {
			r.Layer, r.Unit = upper, experiment.User
		})}, first, "threads: it assigns by user in the layer engagement, in which likes assigns by community"},
		"requests are in no layer": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Unit, r.Salt = experiment.Request, "" })}, both, ""},
		"an unknown unit": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Unit = "session" })}, first,
			`threads: unit "session": expected community, user or request`},
		"a name that is none": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Name = "thr=eads;" })}, first, "thr=eads;: its name: "},
		"no slots of the layer": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer = experiment.Layer{Name: "reading", From: 7, To: 7} })}, first,
			"threads: slots 7 to 7 of a layer: expected a range within 0 to 10000"},
		"more than all slots": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name, r.Open.Control = "reading", 5001 })}, first,
			"threads: 5001 slots of control and 5000 of treatment are open: expected 10000 together at most"},
		"no salt": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name, r.Salt = "reading", "" })}, first, "threads: slots are open, and there is no salt"},
		"a list needs no salt": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) {
			r.Layer.Name, r.Salt, r.List = "reading", "", &experiment.List{Treatment: []string{"gophers"}}
		})}, both, ""},
	} {
		table, err := newTable(view{targets: withArms([]string{"like", "tweet", "timeline"}, "likes", "threads"), experiments: tt.experiments}, nil)
		got := make(map[string]string)
		for service, to := range table.targets {
			if to.trial != nil {
				got[service] = to.trial.Name
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if (tt.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		for _, refused := range refusals(err) {
			if refused.kind != kindExperiment || errors.Unwrap(refused.error) == nil {
				t.Errorf("%s: %+v is not about an experiment", name, refused)
			}
		}
	}
}

// TestAnArmThatIsMissingSomewhereIsMissingEverywhere: one tag of one Service, and nobody is sent to any arm.
func TestAnArmThatIsMissingSomewhereIsMissingEverywhere(t *testing.T) {
	t.Parallel()
	services := []string{"like", "tweet"}
	rules := []experiment.Rules{openTo("likes", experiment.User, services...)}
	tables := map[string]func(targets []*target) []*target{
		"all there":        func(all []*target) []*target { return all },
		"a tag is missing": func(all []*target) []*target { delete(all[1].tags, "likes-control"); return all },
		"a Service is":     func(all []*target) []*target { return all[:1] },
	}
	for name, change := range tables {
		table, err := newTable(view{targets: change(withArms(services, "likes")), experiments: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		trial := table.targets["like"].trial
		for id := int64(1); id <= 20; id++ {
			side, assignment := trial.assign(&token.Claims{UserID: id})
			if side == nil || assignment.Arm != side.arm {
				t.Fatalf("%s: user %d: %+v is not on the side %+v", name, id, assignment, side)
			}
			if whole := name == "all there"; (side.url != nil) != whole || whole && side.url.Host != "likes-"+string(side.arm)+"-like" {
				t.Errorf("%s: user %d goes to %v", name, id, side.url)
			}
		}
	}
}

// TestATableKeepsItsTrials: a target that is in the next table too, as it is where its Service has become wrong, has there
// what is in force then, and a request that is under way sees what was.
func TestATableKeepsItsTrials(t *testing.T) {
	t.Parallel()
	targets := withArms([]string{"like"}, "likes")
	first, err := newTable(view{targets: targets, experiments: []experiment.Rules{openTo("likes", experiment.User, "like")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := newTable(view{targets: slices.Collect(maps.Values(first.targets))}, first)
	if err != nil {
		t.Fatal(err)
	}
	if first.targets["like"].trial == nil || second.targets["like"].trial != nil {
		t.Errorf("before %v, now %v", first.targets["like"].trial, second.targets["like"].trial)
	}
}

// TestByRequestTheRevisionTellsTheArm, and an answer that names none is the treatment's.
func TestByRequestTheRevisionTellsTheArm(t *testing.T) {
	t.Parallel()
	table, err := newTable(view{targets: withArms([]string{"like"}, "canary"), experiments: []experiment.Rules{openTo("canary", experiment.Request, "like")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	trial := table.targets["like"].trial
	for revision, want := range map[string]experiment.Arm{"like-control": experiment.Control, "like-treatment": experiment.Treatment, "": experiment.Treatment, "like-00001": ""} {
		if got := trial.served(http.Header{headerRevision: {revision}}); got != want {
			t.Errorf("%q is of %q, want %q", revision, got, want)
		}
	}
	if side, _ := trial.assign(&token.Claims{UserID: 1}); side != nil {
		t.Errorf("a user is assigned to %s", side.arm)
	}
}

// trialOf is one in which a community of the longest name is assigned among a hundred others, which is the slowest way.
func trialOf(tb testing.TB, unit experiment.Unit) (*trial, *token.Claims) {
	tb.Helper()
	rules := openTo("likes", unit, "like", "timeline", "tweet")
	for i := range 99 {
		rules.Audience = append(rules.Audience, fmt.Sprintf("%040d", i))
	}
	community := strings.Repeat("g", 40)
	rules.Audience = append(rules.Audience, community)
	table, err := newTable(view{targets: withArms(rules.Services, "likes"), experiments: []experiment.Rules{rules}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return table.targets["tweet"].trial, &token.Claims{UserID: 1 << 62, Community: community}
}

// TestAssigningAllocatesTheHeaderOnly, and the id of a user, which is in it. Who is in no arm costs nothing.
func TestAssigningAllocatesTheHeaderOnly(t *testing.T) { //nolint:paralleltest // it counts what all allocate
	for unit, want := range map[experiment.Unit]float64{experiment.Community: 1, experiment.User: 2} {
		trial, claims := trialOf(t, unit)
		header, text := make(http.Header), ""
		header[headerExperiment], header[headerVariant] = nil, nil
		got := testing.AllocsPerRun(100, func() {
			side, assignment := trial.assign(claims)
			side.describe(header)
			text = assignment.String()
		})
		if got != want || !strings.HasPrefix(text, "likes=") || header.Get(headerExperiment) != "likes" {
			t.Errorf("%s: %g allocations, want %g; %q", unit, got, want, text)
		}
		claims.Community = "elsewhere"
		if got := testing.AllocsPerRun(100, func() { trial.assign(claims) }); got != 0 {
			t.Errorf("%s: %g allocations for nothing", unit, got)
		}
	}
}

// BenchmarkAssign is what an experiment costs each request: a microsecond at most.
func BenchmarkAssign(b *testing.B) {
	for _, unit := range []experiment.Unit{experiment.Community, experiment.User} {
		b.Run(string(unit), func(b *testing.B) {
			trial, claims := trialOf(b, unit)
			header := make(http.Header)
			b.ReportAllocs()
			for b.Loop() {
				side, assignment := trial.assign(claims)
				side.describe(header)
				_ = assignment.String()
			}
			if each := b.Elapsed() / time.Duration(b.N); b.N > 1000 && each > time.Microsecond {
				b.Errorf("%s each", each)
			}
		})
	}
}
