package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
	"warble/shared/token"
)

// openTo returns the rules of an experiment on services. All users are in it, half of them in each arm.
func openTo(name string, unit experiment.Unit, services ...string) experiment.Rules {
	r := experiment.Rules{
		Name: name, Generation: 3, Services: services, Exposure: services, Unit: unit, Salt: name,
		Layer: experiment.Layer{Name: "engagement", To: experiment.Slots}, Open: experiment.Open{Control: 5000, Treatment: 5000},
		Reach: make(map[string]experiment.Reach),
	}
	for _, service := range services {
		side := func(arm experiment.Arm) experiment.Side {
			return experiment.Side{Host: string(arm) + "-" + name + "-" + service, Revision: service + "-" + string(arm)}
		}
		r.Reach[service] = experiment.Reach{Host: name + "-" + service, Control: side(experiment.Control), Treatment: side(experiment.Treatment)}
	}
	return r
}

// targetsOf returns targets for Services of these names.
func targetsOf(services ...string) (targets []*target) {
	for _, service := range services {
		targets = append(targets, &target{name: service, url: &url.URL{Scheme: "http", Host: service}, routes: []string{"/" + service}})
	}
	return targets
}

// TestOfTwoConflictingExperimentsTheFirstIsInForce and the other is refused completely, with the reason.
func TestOfTwoConflictingExperimentsTheFirstIsInForce(t *testing.T) {
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
			*r = openTo("threads", experiment.Community, "timeline", "tweet")
			r.Layer.Name = "reading"
		})}, first, "threads: services: tweet is in the experiment likes"},
		"a Service in one that is not open": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Open = experiment.Open{} }), other(func(r *experiment.Rules) {
			*r = openTo("threads", experiment.Community, "tweet")
		})}, map[string]string{"tweet": "threads"}, ""},
		"slots in two": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer = lower }), other(func(r *experiment.Rules) {
			r.Layer = experiment.Layer{Name: "engagement", From: 4999, To: 5001}
		})}, first, "threads: layer.slots: 4999 to 5001 of engagement overlap those of the experiment likes, 0 to 5000"},
		"slots side by side": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer = lower }), other(func(r *experiment.Rules) { r.Layer = upper })}, both, ""},
		"two layers":         {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name = "reading" })}, both, ""},
		"no layers":          {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer.Name = "" }), other(func(r *experiment.Rules) { r.Layer.Name = "" })}, both, ""},
		"two kinds of unit in one layer": {[]experiment.Rules{likes(func(r *experiment.Rules) { r.Layer = lower }), other(func(r *experiment.Rules) {
			r.Layer, r.Unit = upper, experiment.User
		})}, first, "threads: layer: engagement has the unit user here, and community in the experiment likes"},
		"requests are in no layer": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Unit, r.Salt = experiment.Request, "" })}, both, ""},
		"an unknown unit": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Unit = "session" })}, first,
			`threads: unit: "session": expected community or user or request`},
		"a name that is none": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Name = "thr=eads;" })}, first, `thr=eads;: name: "thr=eads;": expected`},
		"no slots of the layer": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer = experiment.Layer{Name: "reading", From: 7, To: 7} })}, first,
			"threads: layer.slots: 7 to 7: expected a range within 0 to 10000"},
		"more than all slots": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name, r.Open.Control = "reading", 5001 })}, first,
			"threads: open: 5001 slots of control and 5000 of treatment: expected 10000 together at most"},
		"no salt": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name, r.Salt = "reading", "" })}, first, "threads: salt: missing"},
		"a list needs no salt": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) {
			r.Layer.Name, r.Salt, r.List = "reading", "", &experiment.List{Treatment: []string{"gophers"}}
		})}, both, ""},
		"arms that are nowhere": {[]experiment.Rules{likes(same), other(func(r *experiment.Rules) { r.Layer.Name, r.Reach = "reading", nil })}, first,
			"threads: slots are open, but there is no address for the arms of timeline"},
	} {
		table, err := newTable(view{targets: targetsOf("like", "tweet", "timeline"), experiments: tt.experiments}, nil, new(tripwires))
		got := make(map[string]string)
		for service, to := range table.targets {
			if to.experiment != nil {
				got[service] = to.experiment.Name
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

// TestATableKeepsItsExperiments: a target may be in two tables, for example because its Service now has an error. In the next table
// it has that table's experiment. A request in progress still sees the previous experiment.
func TestATableKeepsItsExperiments(t *testing.T) {
	t.Parallel()
	wires := new(tripwires)
	first, err := newTable(view{targets: targetsOf("like"), experiments: []experiment.Rules{openTo("likes", experiment.User, "like")}}, nil, wires)
	if err != nil {
		t.Fatal(err)
	}
	second, err := newTable(view{targets: slices.Collect(maps.Values(first.targets))}, first, wires)
	if err != nil {
		t.Fatal(err)
	}
	if first.targets["like"].experiment == nil || second.targets["like"].experiment != nil {
		t.Errorf("before %v, now %v", first.targets["like"].experiment, second.targets["like"].experiment)
	}
}

// TestTheRevisionShowsTheArmIfTheUnitIsARequest and an answer without a revision belongs to no arm.
func TestTheRevisionShowsTheArmIfTheUnitIsARequest(t *testing.T) {
	t.Parallel()
	table, err := newTable(view{targets: targetsOf("like"), experiments: []experiment.Rules{openTo("canary", experiment.Request, "like")}}, nil, new(tripwires))
	if err != nil {
		t.Fatal(err)
	}
	exp := table.targets["like"].experiment
	for revision, want := range map[string]experiment.Arm{"like-control": experiment.Control, "like-treatment": experiment.Treatment, "": "", "like-00001": ""} {
		if got := exp.answeringArm(http.Header{headerRevision: {revision}}); got != want {
			t.Errorf("%q is of %q, want %q", revision, got, want)
		}
	}
	if side, _ := exp.assign(&token.Claims{UserID: 1}); side != nil {
		t.Errorf("a user is assigned to %s", side.name)
	}
}

// TestThePhaseOfEachExperimentIsAMetric, also if the experiment is not in force.
func TestThePhaseOfEachExperimentIsAMetric(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	registerMetrics(edge.telemetry, edge.routes, nil)
	likes, drafted := openTo("likes", experiment.User, "like"), openTo("threads", experiment.User, "timeline")
	likes.Phase, drafted.Phase, drafted.Open = experiment.Running, experiment.Draft, experiment.Open{}
	edge.writeExperiments(t, []experiment.Rules{likes, drafted})
	for _, want := range []string{`warble_experiment_info{experiment="likes",phase="Running"} 1`, `warble_experiment_info{experiment="threads",phase="Draft"} 1`} {
		if metrics := scrape(t, edge.telemetry); !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("no metric %s: %s", want, metrics)
		}
	}
	likes.Phase = experiment.Promoting
	edge.writeExperiments(t, []experiment.Rules{likes})
	if metrics := scrape(t, edge.telemetry); strings.Count(metrics, "\nwarble_experiment_info{") != 1 || !strings.Contains(metrics, `phase="Promoting"`) {
		t.Errorf("want one of likes: %s", metrics)
	}
}

// slowestExperiment returns an experiment and a user that take the longest to assign: a community with the longest name, among a
// hundred others.
func slowestExperiment(tb testing.TB, unit experiment.Unit) (*routedExperiment, *token.Claims) {
	tb.Helper()
	rules := openTo("likes", unit, "like", "timeline", "tweet")
	for i := range 99 {
		rules.Audience = append(rules.Audience, fmt.Sprintf("%040d", i))
	}
	community := strings.Repeat("g", 40)
	rules.Audience = append(rules.Audience, community)
	table, err := newTable(view{targets: targetsOf(rules.Services...), experiments: []experiment.Rules{rules}}, nil, new(tripwires))
	if err != nil {
		tb.Fatal(err)
	}
	return table.targets["tweet"].experiment, &token.Claims{UserID: 1 << 62, Community: community}
}

// TestAssigningAllocatesOnlyTheHeader and the user's id in it. A user without an arm costs no allocation.
func TestAssigningAllocatesOnlyTheHeader(t *testing.T) { //nolint:paralleltest // it counts what all allocate
	for unit, want := range map[experiment.Unit]float64{experiment.Community: 1, experiment.User: 2} {
		exp, claims := slowestExperiment(t, unit)
		header, text := make(http.Header), ""
		header[headerExperiment], header[headerVariant] = nil, nil
		got := testing.AllocsPerRun(100, func() {
			side, assignment := exp.assign(claims)
			side.setHeaders(header)
			text = assignment.String()
		})
		if got != want || !strings.HasPrefix(text, "likes=") || header.Get(headerExperiment) != "likes" {
			t.Errorf("%s: %g allocations, want %g; %q", unit, got, want, text)
		}
		claims.Community = "elsewhere"
		if got := testing.AllocsPerRun(100, func() { exp.assign(claims) }); got != 0 {
			t.Errorf("%s: %g allocations for nothing", unit, got)
		}
	}
}

// BenchmarkAssign measures what an experiment costs each request. make bench judges it, by CPU time, because other work on the machine
// changes the time that passes.
func BenchmarkAssign(b *testing.B) {
	for _, unit := range []experiment.Unit{experiment.Community, experiment.User} {
		b.Run(string(unit), func(b *testing.B) {
			exp, claims := slowestExperiment(b, unit)
			header := make(http.Header)
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				side, assignment := exp.assign(claims)
				side.setHeaders(header)
				_ = assignment.String()
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
