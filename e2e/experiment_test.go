//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
)

// experimented are the Services of the experiments here.
var experimented = []string{"like", "timeline", "tweet"}

// trial is an experiment of its own name, which is taken away when the test ends.
type trial struct {
	t    *testing.T
	name string
	file string
	tool string // kn-experiment, as built here
	spec experiment.Spec
}

// try writes an experiment, and puts every Service of it back when the test ends.
func try(t *testing.T, with func(*experiment.Spec)) *trial {
	t.Helper()
	if os.Getenv("DATABASE_DIRECT_URL") == "" {
		t.Fatal("it needs the database: expected DATABASE_DIRECT_URL, as e2e/cluster/env.sh sets it")
	}
	folder := t.TempDir()
	e := &trial{t: t, name: "e2e-" + strings.ToLower(rand.Text()[:6]), file: filepath.Join(folder, "experiment.yaml"), tool: filepath.Join(folder, "kn-experiment")}
	if _, err := execute(t.Context(), "", "go", "build", "-o", e.tool, "./cmd/kn-experiment"); err != nil {
		t.Fatal(err)
	}
	e.spec = experiment.Spec{
		Services: experimented, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FEATURES": "likes"}}, Unit: experiment.User,
		Layer: experiment.LayerShare{Name: e.name}, Ramp: experiment.Ramp{Steps: []int{50}, Hold: experiment.Hold{Time: experiment.Duration(time.Hour)}},
		Metrics: experiment.Metrics{Window: experiment.Duration(time.Hour), Primary: experiment.Primary{Name: "tweets_per_user", MinimumEffect: .05}},
	}
	with(&e.spec)
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "warble.dev/v1alpha1", "kind": "Experiment", "metadata": map[string]string{"name": e.name, "namespace": namespace}, "spec": e.spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	before := make(map[string]service)
	for _, name := range e.spec.Services {
		before[name] = serviceOf(t, name)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if _, err := kubectl(ctx, "", "delete", "experiment", e.name, "--ignore-not-found"); err != nil {
			t.Error(err)
		}
		for name, s := range before {
			if err := patchNow(ctx, name, change{"replace", "/spec", s.Spec}); err != nil {
				t.Error(err)
			}
			if _, err := kubectl(ctx, "", "wait", "--for=condition=Ready", "--timeout=60s", "ksvc/"+name); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

// kn runs a verb, and returns its exit code and all that it says.
func (e *trial) kn(args ...string) (code int, said string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.tool, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+os.Getenv("DATABASE_DIRECT_URL"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	e.t.Logf("kn experiment %s: %s\n%s", strings.Join(args, " "), time.Since(began).Round(100*time.Millisecond), out.String())
	if exited, ok := errors.AsType[*exec.ExitError](err); ok {
		return exited.ExitCode(), out.String()
	} else if err != nil {
		e.t.Fatal(err)
	}
	return 0, out.String()
}

// must is kn, which must not fail.
func (e *trial) must(args ...string) string {
	e.t.Helper()
	code, said := e.kn(args...)
	if code != 0 {
		e.t.Fatalf("kn experiment %s: exit code %d", strings.Join(args, " "), code)
	}
	return said
}

// revisions are those that an arm's tag leads to, by Service.
func (e *trial) revisions(arm experiment.Arm) map[string]string {
	e.t.Helper()
	found := make(map[string]string)
	for _, name := range e.spec.Services {
		for _, target := range serviceOf(e.t, name).Status.Traffic {
			if target.Tag == experiment.Tag(e.name, arm) {
				found[name] = target.RevisionName
			}
		}
	}
	return found
}

// specTraffic is what is wished of a Service.
func specTraffic(t *testing.T, name string) []traffic {
	t.Helper()
	var spec struct{ Traffic []traffic }
	if err := json.Unmarshal(serviceOf(t, name).Spec, &spec); err != nil {
		t.Fatal(err)
	}
	return spec.Traffic
}

// crowd are users, so many of each community.
type crowd []*member

type member struct {
	*user
	community string
	arm       string // that an answer has named; once there is one it stays
}

func gather(t *testing.T, communities []string, each int) crowd {
	t.Helper()
	c := make(crowd, len(communities)*each)
	var all sync.WaitGroup
	const workers = 8
	for w := range workers {
		all.Go(func() {
			for i := w; i < len(c); i += workers {
				community := communities[i/each]
				c[i] = &member{user: register(t, community), community: community}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

// see has everyone ask for their timeline some times, at all the edges there are: each has the arm that the rules say, on
// every request, served by that arm's revision, and whoever had one before still has it.
func (c crowd) see(e *trial, r experiment.Rules, times int) (inArm map[string]int) {
	e.t.Helper()
	serving := map[string]string{"": ""}
	for _, arm := range []experiment.Arm{experiment.Control, experiment.Treatment} {
		serving[string(arm)] = e.revisions(arm)["timeline"]
	}
	var all sync.WaitGroup
	const workers = 8
	for w := range workers {
		all.Go(func() {
			for i := w; i < len(c); i += workers {
				m := c[i]
				id, err := strconv.ParseInt(m.id, 10, 64)
				if err != nil {
					e.t.Error(err)
					return
				}
				want, _ := r.Assign(id, m.community)
				for range times {
					a := m.do("GET", m.path("/tweets"), "")
					arm, revision := a.header.Get("X-Variant"), a.header.Get("X-Revision")
					if a.status != http.StatusOK || arm != string(want) || m.arm != "" && arm != m.arm && want != "" || arm != "" && revision != serving[arm] {
						e.t.Errorf("%s of %s: %d, arm %q by %s; want %q by %s, and before it was %q", m.id, m.community, a.status, arm, revision, want, serving[arm], m.arm)
						return
					}
					m.arm = arm
				}
			}
		})
	}
	all.Wait()
	inArm = make(map[string]int)
	for _, m := range c {
		inArm[m.arm]++
	}
	return inArm
}

// rules are those in force at a percentage of the slots of each arm.
func (e *trial) rules(percent int) experiment.Rules {
	return experiment.Rules{
		Name: e.name, Services: e.spec.Services, Unit: e.spec.Unit, Audience: e.spec.Audience.Communities, Salt: e.spec.Salt,
		Layer: experiment.Layer{Name: e.spec.Layer.Name, To: experiment.Slots},
		Open:  experiment.Open{Control: percent * experiment.Slots / 100, Treatment: percent * experiment.Slots / 100},
	}
}

// inForce waits for the edges to follow: each within 2 s.
func (c crowd) inForce(e *trial, r experiment.Rules) {
	e.t.Helper()
	began := time.Now()
	eventually(e.t, "the edges", readyLimit, func() bool {
		for _, m := range c[:min(len(c), 40)] {
			id, _ := strconv.ParseInt(m.id, 10, 64)
			want, _ := r.Assign(id, m.community)
			if a := m.do("GET", m.path("/tweets"), ""); a.header.Get("X-Variant") != string(want) {
				return false
			}
		}
		return true
	})
	e.t.Logf("in force %s after the verb returned", time.Since(began).Round(100*time.Millisecond))
}

// addCommunities makes communities of this test's own.
func addCommunities(t *testing.T, n int) (slugs []string) {
	t.Helper()
	migrate := filepath.Join(t.TempDir(), "migrate")
	if _, err := execute(t.Context(), "", "go", "build", "-o", migrate, "./cmd/migrate"); err != nil {
		t.Fatal(err)
	}
	prefix := strings.ToLower(rand.Text()[:6])
	for i := range n {
		slug := fmt.Sprintf("%s-%02d", prefix, i)
		if _, err := execute(t.Context(), "", migrate, "communities", "add", slug, slug); err != nil {
			t.Fatal(err)
		}
		slugs = append(slugs, slug)
	}
	return slugs
}

// 300 users in 60 communities, through the whole of an experiment that is lost, while they use Warble.
func TestClusterExperimentKeepsEveryoneInOneArm(t *testing.T) {
	cluster(t)
	communities := addCommunities(t, 60)
	people := gather(t, communities, 5)
	e := try(t, func(s *experiment.Spec) {
		s.Unit, s.Salt, s.Audience.Communities = experiment.Community, "pinned", communities
		s.Ramp.Steps = []int{10, 25, 50}
	})
	own := serviceOf(t, "tweet").Status.LatestReadyRevisionName
	found := []traffic{{Latest: true, Percent: 100}, {RevisionName: own, Tag: "mine"}}
	if err := patchNow(t.Context(), "tweet", change{"add", "/spec/traffic", found}); err != nil {
		t.Fatal(err)
	}
	untilReady(t, "tweet")

	var requests []func() (answer, error)
	for _, m := range people[:12] {
		id := m.post("before the experiment")
		requests = append(requests, reading(m.user, id)[:2]...)
	}
	l := start(t, requests...)
	e.must("plan", "-f", e.file)
	e.must("start", "-f", e.file)
	for i, percent := range e.spec.Ramp.Steps {
		if i > 0 {
			e.must("step", e.name)
		}
		people.inForce(e, e.rules(percent))
		if i == 1 { // replaced edges know what those before them knew
			run(t, append([]string{"delete", "pod", "--wait=false"}, pods(t, "edge")[0])...)
		}
		t.Logf("%d%%: %v of %d users", percent, people.see(e, e.rules(percent), 4), len(people))
	}
	e.must("pause", e.name)
	people.see(e, e.rules(50), 1)
	e.must("resume", e.name)
	e.must("status", e.name)
	if target := slices.IndexFunc(specTraffic(t, "tweet"), func(t traffic) bool { return t.Tag == "mine" && t.RevisionName == own }); target < 0 {
		t.Errorf("the tag mine is gone: %v", specTraffic(t, "tweet"))
	}
	e.must("rollback", e.name, "-m", "the test is over")
	people.inForce(e, e.rules(0))
	for _, m := range people {
		m.arm = ""
	}
	people.see(e, e.rules(0), 1)
	t.Logf("%d requests meanwhile, none failed", l.stop())
	for i := range found {
		found[i].URL = ""
	}
	if diff := cmp.Diff(found, specTraffic(t, "tweet")); diff != "" {
		t.Error(diff)
	}
	code, said := e.kn("report", e.name, "-o", "json")
	if code != 0 && code != 3 || !strings.Contains(said, `"Concluded"`) {
		t.Errorf("exit code %d: its report does not say how it ended", code)
	}
}

// What has won is what everyone has, and nobody's request fails on the way.
func TestClusterExperimentIsPromotedUnderLoad(t *testing.T) {
	cluster(t)
	e := try(t, func(*experiment.Spec) {})
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, append(reading(ada, id), func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	e.must("start", "-f", e.file)
	e.must("promote", e.name)
	t.Logf("%d requests meanwhile, none failed", l.stop())
	bob := register(t, "")
	eventually(t, "likes for everyone", readyLimit, func() bool {
		return bob.do("POST", bob.path("/likes"), object("tweet_id", id)).status == http.StatusOK
	})
	for _, name := range experimented {
		s := untilReady(t, name)
		if diff := cmp.Diff([]traffic{{Latest: true, Percent: 100}}, specTraffic(t, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if latest := s.Status.LatestReadyRevisionName; strings.Contains(latest, e.name) {
			t.Errorf("%s is still served by an arm, %s", name, latest)
		}
	}
}

// A treatment that cannot run never gets anybody, and is named.
func TestClusterExperimentWithATreatmentThatCrashes(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) {
		s.Services = []string{"like"}
		s.Treatment.Env["FEATURES"] = "hearts"
	})
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, reading(ada, id)...)
	code, said := e.kn("start", "-f", e.file, "--timeout=4m")
	if code == 0 || !strings.Contains(said, "the treatment of like, revision like-"+e.name+"-treatment-") || !strings.Contains(said, "FEATURES") {
		t.Errorf("exit code %d: it does not name what crashes, and why", code)
	}
	if a := ada.do("GET", "/2/tweets/"+id+"/liking_users", ""); a.header.Get("X-Variant") != "" {
		t.Errorf("a user is in the arm %q", a.header.Get("X-Variant"))
	}
	e.must("stop", e.name)
	t.Logf("%d requests meanwhile, none failed", l.stop())
}

// Of the treatment's requests five percent fail: steer ends that by itself, and the record says why.
func TestClusterExperimentIsRolledBackByAGuardrail(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) {
		s.Treatment.Env["FAULTS"] = "error=5%"
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}
	})
	people := gather(t, []string{""}, 20)
	e.must("start", "-f", e.file)
	began := time.Now()
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, m := range people {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(50 * time.Millisecond):
					_, _ = m.try("GET", m.path("/tweets"), "") // some are to fail
				}
			}
		})
	}
	const limit = 10 * time.Minute
	phase := ""
	for phase != "Concluded" && time.Since(began) < limit {
		time.Sleep(5 * time.Second)
		phase = run(t, "get", "experiment", e.name, "--output=jsonpath={.status.phase}")
	}
	close(done)
	all.Wait()
	because := run(t, "get", "experiment", e.name, "--output=jsonpath={.status.because}")
	if phase != "Concluded" || !strings.HasPrefix(because, "rolled back: ") || !strings.Contains(because, experiment.ErrorShare) {
		t.Fatalf("%s after %s, because %q", phase, time.Since(began).Round(time.Second), because)
	}
	t.Logf("rolled back after %s: %s", time.Since(began).Round(time.Second), because)
}

// A plain canary moves Knative's own percent, and nobody is assigned.
func TestClusterExperimentAsACanary(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) {
		*s = experiment.Spec{
			Services: []string{"users"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"CANARY": "yes"}}, Unit: experiment.Request,
			Layer: experiment.LayerShare{Name: e2eLayer}, Ramp: experiment.Ramp{Steps: []int{20}, Hold: experiment.Hold{Time: experiment.Duration(time.Hour)}},
			Metrics: experiment.Metrics{Guardrails: []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}},
		}
	})
	e.must("start", "-f", e.file)
	treatment := ""
	within(t, "20 percent", readyLimit, func() bool {
		return slices.ContainsFunc(serviceOf(t, "users").Status.Traffic, func(t traffic) bool {
			treatment = t.RevisionName
			return t.Tag == experiment.Tag(e.name, experiment.Treatment) && t.Percent == 20
		})
	})
	const requests = 500
	n := 0
	for range requests {
		if a := (&user{t: t}).do("GET", "/communities", ""); a.header.Get("X-Revision") == treatment {
			n++
		}
	}
	if n < requests/10 || n > 3*requests/10 {
		t.Errorf("%d of %d requests got the treatment, want about 20 percent", n, requests)
	}
	e.must("stop", e.name)
	if diff := cmp.Diff([]traffic{{Latest: true, Percent: 100}}, specTraffic(t, "users")); diff != "" {
		t.Error(diff)
	}
}

const e2eLayer = "e2e"
