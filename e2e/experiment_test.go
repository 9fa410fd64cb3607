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
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if err := e.remove(ctx); err != nil {
			t.Error(err)
		}
		for name, s := range before {
			if err := patchNow(ctx, name, change{"replace", "/spec", s.Spec}); err != nil {
				t.Error(err)
			}
			if _, err := kubectl(ctx, "", "wait", "--for=condition=Ready", "--timeout=150s", "ksvc/"+name); err != nil {
				t.Error(err)
			}
		}
	})
	return e
}

// remove ends the experiment, where it has not ended, and takes it away. A deletion alone would wait for steer's turn.
func (e *trial) remove(ctx context.Context) error {
	said, failed := e.command(ctx, "stop", e.name, "--timeout=2m").CombinedOutput() // it may have ended, or never been made
	if _, err := kubectl(ctx, "", "delete", "experiment", e.name, "--ignore-not-found", "--wait=false"); err != nil {
		return err
	}
	for {
		switch left, err := kubectl(ctx, "", "get", "experiment", e.name, "--ignore-not-found", "--output=name"); {
		case err != nil:
			return fmt.Errorf("%s is still there: %w; its stop: %v %s", e.name, err, failed, said)
		case left == "":
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// command is the tool, which finds the database that the cluster has.
func (e *trial) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.tool, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+os.Getenv("DATABASE_DIRECT_URL"))
	return cmd
}

// kn runs a verb, and returns its exit code and all that it says.
func (e *trial) kn(args ...string) (code int, said string) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 6*time.Minute)
	defer cancel()
	cmd := e.command(ctx, args...)
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

// answeredBy is how many requests each edge has sent to an arm; one that does not say is left out.
func (e *trial) answeredBy(edges []string) map[string]float64 {
	e.t.Helper()
	counted := make(map[string]float64)
	for _, pod := range edges {
		text, err := kubectl(e.t.Context(), "", "get", "--raw=/api/v1/namespaces/"+namespace+"/pods/"+pod+":2112/proxy/metrics")
		if err != nil {
			continue // it starts, or ends
		}
		counted[pod] = 0
		for line := range strings.Lines(text) {
			series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
			if !strings.HasPrefix(series, "warble_experiment_requests_total{") || !strings.Contains(series, `experiment="`+e.name+`"`) {
				continue
			}
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				e.t.Fatalf("%s: %v", line, err)
			}
			counted[pod] += n
		}
	}
	return counted
}

// ownTag has a Service's untouched traffic followed by a tag of somebody's own, and returns all of it.
func ownTag(t *testing.T, name string) []traffic {
	t.Helper()
	found := []traffic{{Latest: true, Percent: 100}, {RevisionName: serviceOf(t, name).Status.LatestReadyRevisionName, Tag: "mine"}}
	if err := patchNow(t.Context(), name, change{"add", "/spec/traffic", found}); err != nil {
		t.Fatal(err)
	}
	untilReady(t, name)
	return found
}

// keepsOwnTag wants the tag of ownTag to be there, and to lead where it led.
func keepsOwnTag(t *testing.T, name string, found []traffic) {
	t.Helper()
	own := found[len(found)-1]
	for where, all := range map[string][]traffic{"spec": specTraffic(t, name), "status": serviceOf(t, name).Status.Traffic} {
		if !slices.ContainsFunc(all, func(t traffic) bool { return t.Tag == own.Tag && t.RevisionName == own.RevisionName }) {
			t.Errorf("the tag %s of %s is gone from its %s: %v", own.Tag, name, where, all)
		}
	}
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
	found := ownTag(t, "tweet")

	var requests []func() (answer, error)
	for _, m := range people[:12] {
		id := m.post("before the experiment")
		requests = append(requests, reading(m.user, id)[:2]...)
	}
	within(t, "two edges", readyLimit, func() bool { return len(pods(t, "edge")) >= 2 }) // as its manifest has it
	l := start(t, requests...)
	e.must("plan", "-f", e.file, "--anyway")
	e.must("start", "-f", e.file, "--anyway")
	for i, percent := range e.spec.Ramp.Steps {
		if i > 0 {
			e.must("step", e.name)
		}
		people.inForce(e, e.rules(percent))
		if i == 1 { // another edge in the place of one knows what that knew
			run(t, "delete", "pod", "--wait=false", pods(t, "edge")[0])
			people.see(e, e.rules(percent), 1)
			within(t, "another edge", readyLimit, func() bool { return len(e.answeredBy(pods(t, "edge"))) >= 2 })
		}
		before := e.answeredBy(pods(t, "edge"))
		t.Logf("%d%%: %v of %d users", percent, people.see(e, e.rules(percent), 4), len(people))
		edges := 0
		for pod, n := range e.answeredBy(pods(t, "edge")) {
			if n > before[pod] {
				edges++
			}
		}
		if edges < 2 {
			t.Errorf("%d%%: answers came from %d edges, want two: %v, and before %v", percent, edges, e.answeredBy(pods(t, "edge")), before)
		}
	}
	e.must("pause", e.name)
	people.see(e, e.rules(50), 1)
	e.must("resume", e.name)
	e.must("status", e.name)
	keepsOwnTag(t, "tweet", found)
	e.must("rollback", e.name, "-m", "the test is over")
	people.inForce(e, e.rules(0))
	for _, m := range people {
		m.arm = ""
	}
	people.see(e, e.rules(0), 1)
	t.Logf("%d requests meanwhile, none failed", l.stop())
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
	id, found, l := e.startUnderLoad()
	e.must("promote", e.name)
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.everyoneLikes(id, found)
}

// startUnderLoad starts the experiment while a user reads and posts, with a tag of somebody's own on tweet. It returns one of
// the user's tweets and the traffic of tweet.
func (e *trial) startUnderLoad() (id string, found []traffic, l *load) {
	e.t.Helper()
	found = ownTag(e.t, "tweet")
	ada := register(e.t, "")
	id = ada.post("ada's")
	l = start(e.t, append(reading(ada, id), func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	e.must("start", "-f", e.file, "--anyway")
	return id, found, l
}

// everyoneLikes checks that what has won is everyone's: no arm serves, and of tweet's traffic what was found is left.
func (e *trial) everyoneLikes(tweet string, found []traffic) {
	t := e.t
	t.Helper()
	bob := register(t, "")
	eventually(t, "likes for everyone", readyLimit, func() bool {
		return bob.do("POST", bob.path("/likes"), object("tweet_id", tweet)).status == http.StatusOK
	})
	for _, name := range experimented {
		s := untilReady(t, name)
		want := []traffic{{Latest: true, Percent: 100}}
		if name == "tweet" {
			keepsOwnTag(t, name, found)
			want = found
		}
		if diff := cmp.Diff(want, specTraffic(t, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if latest := s.Status.LatestReadyRevisionName; strings.Contains(latest, e.name) {
			t.Errorf("%s is still served by an arm, %s", name, latest)
		}
	}
}

// A treatment that cannot run never gets anybody, and is named. Whoever then deletes the experiment, instead of stopping it,
// has the Service as it was found within the minute that steer takes to come.
func TestClusterExperimentWithATreatmentThatCrashes(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) {
		s.Services = []string{"like"}
		s.Treatment.Env["FEATURES"] = "hearts"
	})
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, reading(ada, id)...)
	code, said := e.kn("start", "-f", e.file, "--anyway", "--timeout=4m")
	if code == 0 || !strings.Contains(said, "the treatment of like, revision like-"+e.name+"-treatment-") || !strings.Contains(said, "FEATURES") {
		t.Errorf("exit code %d: it does not name what crashes, and why", code)
	}
	if a := ada.do("GET", "/2/tweets/"+id+"/liking_users", ""); a.header.Get("X-Variant") != "" {
		t.Errorf("a user is in the arm %q", a.header.Get("X-Variant"))
	}
	run(t, "delete", "experiment", e.name, "--wait=false")
	within(t, "the end of "+e.name, 5*time.Minute, func() bool {
		return run(t, "get", "experiment", e.name, "--ignore-not-found", "--output=name") == ""
	})
	t.Logf("%d requests meanwhile, none failed", l.stop())
	if diff := cmp.Diff([]traffic{{Latest: true, Percent: 100}}, specTraffic(t, "like")); diff != "" {
		t.Error(diff)
	}
	if latest := untilReady(t, "like").Status.LatestReadyRevisionName; strings.Contains(latest, e.name) {
		t.Errorf("like is still served by an arm, %s", latest)
	}
	if code, said := e.kn("report", e.name, "-o", "json"); code != 0 && code != 3 || !strings.Contains(said, "it was deleted") {
		t.Errorf("exit code %d: its record does not say that it was deleted", code)
	}
}

// Of the treatment's requests some fail: steer ends that by itself, and the record says why.
func rolledBackByAGuardrail(t *testing.T) {
	e := try(t, func(s *experiment.Spec) {
		s.Treatment.Env["FAULTS"] = "error=5%"
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}
	})
	people := gather(t, []string{""}, 20)
	t.Parallel()
	e.must("start", "-f", e.file, "--anyway")
	people.untilRolledBack(e, func(m *member) { _, _ = m.try("GET", m.path("/tweets"), "") }) // some are to fail
}

// The same with a plain canary, which moves Knative's own percent and assigns nobody.
func canaryRolledBackByAGuardrail(t *testing.T) {
	e := try(t, func(s *experiment.Spec) {
		*s = experiment.Spec{
			Services: []string{"users"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FAULTS": "error=20%"}}, Unit: experiment.Request,
			Layer: experiment.LayerShare{Name: e2eLayer}, Ramp: experiment.Ramp{Steps: []int{20}, Hold: experiment.Hold{Time: experiment.Duration(time.Hour)}},
			Metrics: experiment.Metrics{Guardrails: []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}},
		}
	})
	people := gather(t, []string{""}, 8)
	t.Parallel()
	e.must("start", "-f", e.file, "--anyway")
	treatment := ""
	within(t, "20 percent", readyLimit, func() bool {
		return slices.ContainsFunc(serviceOf(t, "users").Status.Traffic, func(t traffic) bool {
			treatment = t.RevisionName
			return t.Tag == experiment.Tag(e.name, experiment.Treatment) && t.Percent == 20
		})
	})
	const requests = 500
	n := 0
	for range requests { // drills are for those with a token, so none of these fails
		a := (&user{t: t}).do("GET", "/communities", "")
		if a.status != http.StatusOK || a.header.Get("X-Variant") != "" {
			t.Errorf("%d, of the arm %q: %s", a.status, a.header.Get("X-Variant"), a.body)
		}
		if a.header.Get("X-Revision") == treatment {
			n++
		}
	}
	if n < requests/10 || n > 3*requests/10 {
		t.Errorf("%d of %d requests got the treatment, want about 20 percent", n, requests)
	}
	people.untilRolledBack(e, func(m *member) { _, _ = m.try("GET", "/2/users/me", "") })
	if diff := cmp.Diff([]traffic{{Latest: true, Percent: 100}}, specTraffic(t, "users")); diff != "" {
		t.Error(diff)
	}
}

// untilRolledBack has everyone do something over and over until steer has ended the experiment.
func (c crowd) untilRolledBack(e *trial, do func(*member)) {
	e.t.Helper()
	began := time.Now()
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, m := range c {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(pause(len(c))):
					do(m)
				}
			}
		})
	}
	const limit = 15 * time.Minute
	phase := ""
	for phase != "Concluded" && time.Since(began) < limit {
		time.Sleep(5 * time.Second)
		phase = run(e.t, "get", "experiment", e.name, "--output=jsonpath={.status.phase}")
	}
	close(done)
	all.Wait()
	because := run(e.t, "get", "experiment", e.name, "--output=jsonpath={.status.because}")
	if phase != "Concluded" || !strings.HasPrefix(because, "rolled back: ") || !strings.Contains(because, experiment.ErrorShare) {
		e.t.Fatalf("%s after %s, because %q", phase, time.Since(began).Round(time.Second), because)
	}
	e.t.Logf("rolled back after %s: %s", time.Since(began).Round(time.Second), because)
}

const e2eLayer = "e2e"
