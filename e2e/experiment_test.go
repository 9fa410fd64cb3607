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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
	"warble/shared/store"
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

	before map[string]service
}

// try writes an experiment, which is taken away when the test ends; and a Service that a promotion has written is put back.
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
		Ramp:    experiment.Ramp{Steps: []int{50}, Hold: experiment.Hold{Time: new(experiment.Duration(time.Hour))}},
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
	e.before = make(map[string]service)
	for _, name := range e.spec.Services {
		e.before[name] = serviceOf(t, name)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if err := e.remove(ctx); err != nil {
			t.Error(err)
		}
		for name, s := range e.before {
			generation, err := kubectl(ctx, "", "get", "ksvc", name, "--output=jsonpath={.metadata.generation}")
			if err != nil {
				t.Error(err)
			}
			if generation == strconv.FormatInt(s.Metadata.Generation, 10) {
				continue
			}
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

// untouched wants every Service of the experiment to be as it was: not one field of it has been written.
func (e *trial) untouched() {
	e.t.Helper()
	for name, before := range e.before {
		if now := serviceOf(e.t, name); now.Metadata.Generation != before.Metadata.Generation {
			e.t.Errorf("%s was written: generation %d, and %d before the experiment", name, now.Metadata.Generation, before.Metadata.Generation)
		}
	}
}

// remove takes the experiment away, and waits for all that it owns to go with it.
func (e *trial) remove(ctx context.Context) error {
	said, failed := e.command(ctx, "stop", e.name, "--timeout=2m").CombinedOutput() // it may have ended, or never been made
	if _, err := kubectl(ctx, "", "delete", "experiment", e.name, "--ignore-not-found", "--wait=false"); err != nil {
		return err
	}
	for {
		switch left, err := kubectl(ctx, "", "get", "experiments,configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name"); {
		case err != nil:
			return fmt.Errorf("what %s owns is still there: %w; its stop: %v %s", e.name, err, failed, said)
		case left == "":
			return nil
		}
		time.Sleep(pollEvery)
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

// revisions are those that serve an arm, by Service, as the edges have it.
func (e *trial) revisions(arm experiment.Arm) map[string]string {
	e.t.Helper()
	found := make(map[string]string)
	for _, at := range e.object().Status.Assign.Services {
		found[at.Name] = at.Side(arm).Revision
	}
	return found
}

// object is the experiment as the cluster has it.
func (e *trial) object() (o rollout.Experiment) {
	e.t.Helper()
	if err := json.Unmarshal([]byte(run(e.t, "get", "experiment", e.name, "--output=json")), &o); err != nil {
		e.t.Fatal(err)
	}
	return o
}

// condition is the status of one of its conditions; empty where there is none.
func (e *trial) condition(kind string) string {
	e.t.Helper()
	for _, c := range e.object().Status.Conditions {
		if c.Type == kind {
			return string(c.Status)
		}
	}
	return ""
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
		Layer: experiment.Layer{To: experiment.Slots},
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

// 300 users in 60 communities, through the whole of an experiment that is lost, while they use Warble; an edge is replaced, and
// somebody applies the manifests of Service and experiment over and over, as Flux does.
func TestClusterExperimentKeepsEveryoneInOneArm(t *testing.T) {
	cluster(t)
	communities := addCommunities(t, 60)
	people := gather(t, communities, 5)
	e := try(t, func(s *experiment.Spec) {
		s.Unit, s.Salt, s.Audience.Communities = experiment.Community, "pinned", communities
		s.Ramp.Steps = []int{10, 25, 50}
	})
	var requests []func() (answer, error)
	for _, m := range people[:12] {
		id := m.post("before the experiment")
		requests = append(requests, reading(m.user, id)[:2]...)
	}
	within(t, "two edges", readyLimit, func() bool { return len(pods(t, "edge")) >= 2 }) // as its manifest has it
	l := start(t, requests...)
	e.must("plan", "-f", e.file, "--anyway")
	began := time.Now()
	e.must("start", "-f", e.file, "--anyway")
	t.Logf("running %s after its start", time.Since(began).Round(100*time.Millisecond))
	flux := reapply(t, e)
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
	if ready, stalled := e.condition("Ready"), e.condition("Stalled"); ready != "True" || stalled != "" {
		t.Errorf("it runs, and Ready is %q, Stalled %q", ready, stalled)
	}
	e.must("rollback", e.name, "-m", "the test is over")
	people.inForce(e, e.rules(0))
	for _, m := range people {
		m.arm = ""
	}
	people.see(e, e.rules(0), 1)
	within(t, "the arms' end", readyLimit, func() bool {
		return run(t, "get", "configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name") == ""
	})
	t.Logf("applied %d times meanwhile", flux.stop())
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.untouched()
	if o := e.object(); o.Status.Conclusion != experiment.WasRolledBack || o.Spec.End != experiment.RolledBack {
		t.Errorf("its rollback was undone: %+v", o.Status)
	}
	code, said := e.kn("report", e.name, "-o", "json")
	if code != 0 && code != 3 || !strings.Contains(said, `"Concluded"`) {
		t.Errorf("exit code %d: its report does not say how it ended", code)
	}
}

// applier applies the manifests of an experiment and one of its Services over and over, until it is stopped.
type applier struct {
	done  chan struct{}
	once  sync.Once
	all   sync.WaitGroup
	times int
}

// reapply applies every 2 s, as a manager of its own, what a person has in Git: the Service as it is, and the experiment as
// its file and `start --dry-run` have it.
func reapply(t *testing.T, e *trial) *applier {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := e.command(ctx, "start", "-f", e.file, "--dry-run=client", "-o", "yaml")
	file, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	s := e.before["tweet"]
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service",
		"metadata": map[string]any{"name": "tweet", "namespace": namespace}, "spec": map[string]any{"template": json.RawMessage(s.template(t))},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := string(file) + "\n---\n" + string(manifest)
	a := &applier{done: make(chan struct{})}
	t.Cleanup(func() { a.stop() })
	a.all.Go(func() {
		for {
			if _, err := kubectl(context.Background(), text, "apply", "--server-side", "--force-conflicts", "--field-manager=somebody-who-applies", "--filename=-"); err != nil {
				t.Errorf("who applies again and again meets an error: %v", err)
			}
			a.times++
			select {
			case <-a.done:
				return
			case <-time.After(2 * time.Second):
			}
		}
	})
	return a
}

func (a *applier) stop() int {
	a.once.Do(func() { close(a.done) })
	a.all.Wait()
	return a.times
}

// template is a Service's.
func (s service) template(t *testing.T) []byte {
	t.Helper()
	var spec struct{ Template json.RawMessage }
	if err := json.Unmarshal(s.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	return spec.Template
}

// What has won is what everyone has, and nobody's request fails on the way. A new revision of a Service in the middle, as of a
// hotfix, is what the untouched have at once, and keep after it. Two move the experiment at once, and one of them is killed
// again and again: each of its transitions is recorded once.
func promotedUnderLoad(t *testing.T) {
	e := try(t, func(s *experiment.Spec) { s.Services = []string{"like", "tweet"} })
	t.Parallel()
	id, l := e.startUnderLoad()
	patch(t, "tweet", newRevision("hotfix-"+e.name))
	hotfix := untilReady(t, "tweet").Status.LatestReadyRevisionName
	within(t, "the hotfix for who is in no arm", readyLimit, func() bool {
		return (&user{t: t}).do("GET", "/2/tweets/"+id, "").header.Get("X-Revision") == hotfix
	})
	within(t, "the condition BaseDrifted", readyLimit, func() bool { return e.condition("BaseDrifted") == "True" })
	e.must("rebase", e.name)
	for name, revision := range e.revisions(experiment.Treatment) {
		if name == "tweet" && !strings.HasSuffix(revision, "-00002") {
			t.Errorf("the treatment of tweet is %s, want its second revision, of the hotfix", revision)
		}
	}
	another := e.inBackground("run", "--every=2s")
	killed := e.keepKilling("steer")
	e.must("promote", e.name, "--anyway", "--timeout=15m")
	t.Logf("steer was killed %d times", killed())
	if err := another.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	_ = another.Wait() // by the signal
	e.onceEach()
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.everyoneLikes(id)
	if annotation := run(t, "get", "ksvc/tweet", `--output=jsonpath={.spec.template.metadata.annotations.warble\.dev/journey}`); annotation != "hotfix-"+e.name {
		t.Errorf("the hotfix is gone: %q", annotation)
	}
}

// keepKilling kills a function's processes twice a minute, until it is told to stop; it returns how often one was there.
func (e *trial) keepKilling(name string) (stop func() (times int)) {
	done := make(chan struct{})
	var all sync.WaitGroup
	times := 0
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(30 * time.Second):
				if _, err := execute(context.Background(), "", "e2e/cluster/signal.sh", name, "KILL"); err == nil {
					times++
				}
			}
		}
	})
	return sync.OnceValue(func() int {
		close(done)
		all.Wait()
		return times
	})
}

// onceEach wants each transition of the experiment in its report once.
func (e *trial) onceEach() {
	e.t.Helper()
	var report struct {
		History []struct{ Phase, Reason string }
	}
	code, said := e.kn("report", e.name, "-o", "json")
	if err := json.Unmarshal([]byte(said), &report); err != nil || code != 0 && code != 3 {
		e.t.Errorf("exit code %d: %v", code, err)
	}
	seen := make(map[string]bool)
	for _, h := range report.History {
		if h.Phase == string(experiment.Promoting) { // which has stages of the same words
			continue
		}
		if seen[h.Phase+h.Reason] {
			e.t.Errorf("%s, because %q: recorded twice", h.Phase, h.Reason)
		}
		seen[h.Phase+h.Reason] = true
	}
	if len(seen) < 3 {
		e.t.Errorf("%d transitions, want its start, its steps and its end", len(seen))
	}
}

// startUnderLoad starts the experiment while a user reads tweets and posts, by the one Service that does both: others may fail on
// purpose meanwhile. It returns one of the user's tweets.
func (e *trial) startUnderLoad() (id string, l *load) {
	e.t.Helper()
	ada := register(e.t, "")
	id = ada.post("ada's")
	l = startOne(e.t, 4, append(reading(ada, id)[:1], func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	e.must("start", "-f", e.file, "--anyway")
	return id, l
}

// everyoneLikes checks that what has won is everyone's, by the Services' own revisions.
func (e *trial) everyoneLikes(tweet string) {
	t := e.t
	t.Helper()
	bob := register(t, "")
	eventually(t, "likes for everyone", readyLimit, func() bool {
		return bob.do("POST", bob.path("/likes"), object("tweet_id", tweet)).status == http.StatusOK
	})
	for _, name := range e.spec.Services {
		s := untilReady(t, name)
		if latest := s.Status.LatestReadyRevisionName; strings.Contains(latest, e.name) || len(s.Status.Traffic) != 1 || s.Status.Traffic[0].RevisionName != latest {
			t.Errorf("%s is served by %v, want its newest revision, %s, alone", name, s.Status.Traffic, latest)
		}
	}
}

// A treatment that cannot run never gets anybody, and is named. Whoever then deletes the experiment, instead of stopping it,
// takes its arms away with it, and the record says so.
func TestClusterExperimentWithATreatmentThatCrashes(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) {
		s.Services = []string{"like"}
		s.Treatment.Env["FEATURES"] = "hearts"
	})
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, reading(ada, id)...)
	code, said := e.kn("start", "-f", e.file, "--anyway", "--timeout=90s")
	if code == 0 || !strings.Contains(said, "the treatment of like, revision "+e.name+"-like-treatment-00001") || !strings.Contains(said, "FEATURES") {
		t.Errorf("exit code %d: it does not name what crashes, and why", code)
	}
	if a := ada.do("GET", "/2/tweets/"+id+"/liking_users", ""); a.header.Get("X-Variant") != "" {
		t.Errorf("a user is in the arm %q", a.header.Get("X-Variant"))
	}
	run(t, "delete", "experiment", e.name, "--wait=false")
	within(t, "the end of its arms", readyLimit, func() bool {
		return run(t, "get", "configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name") == ""
	})
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.untouched()
	within(t, "the record of its deletion", readyLimit, func() bool { // steer looks each minute
		code, said := e.kn("report", e.name, "-o", "json")
		return (code == 0 || code == 3) && strings.Contains(said, "it was deleted")
	})
}

// A treatment that fails every request is suspended by the edges in some answers, and steer rolls it back: nobody waits for a
// guardrail.
func TestClusterATreatmentThatFailsIsSuspended(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) {
		s.Services = []string{"timeline"}
		s.Treatment.Env = map[string]experiment.Value{"FAULTS": "error=100%"}
	})
	people := gather(t, []string{""}, 40)
	e.must("start", "-f", e.file, "--anyway")
	began := time.Now()
	failed := 0
	concluded := func() bool {
		for _, m := range people {
			if a, err := m.try("GET", m.path("/tweets"), ""); err != nil || a.status == http.StatusInternalServerError {
				failed++
			}
			time.Sleep(10 * time.Millisecond)
		}
		return e.object().Status.Phase == experiment.Concluded
	}
	within(t, "its rollback", readyLimit, concluded)
	t.Logf("rolled back %s after the first request, %d answers failed", time.Since(began).Round(100*time.Millisecond), failed)
	if because := e.object().Status.Because; !strings.HasPrefix(because, "rolled back: the treatment fails") {
		t.Errorf("because %q", because)
	}
	const most = 2 * 20 // of each of two edges 8 to 12, and some under way
	if failed > most {
		t.Errorf("%d answers failed, want %d at most", failed, most)
	}
	e.untouched()
}

// Arms that somebody takes away by hand cost nobody an answer, and come back.
func TestClusterArmsThatAreTakenAwayComeBack(t *testing.T) {
	cluster(t)
	e := try(t, func(s *experiment.Spec) { s.Services, s.Salt = []string{"timeline"}, "pinned" })
	people := gather(t, []string{""}, 12)
	e.must("start", "-f", e.file, "--anyway")
	people.inForce(e, e.rules(50))
	var requests []func() (answer, error)
	for _, m := range people {
		requests = append(requests, func() (answer, error) { return m.try("GET", m.path("/tweets"), "") })
	}
	l := start(t, requests...)
	run(t, "delete", "configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--wait=false")
	within(t, "the arms", readyLimit, func() bool {
		return len(strings.Fields(run(t, "get", "configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name"))) == 3
	})
	within(t, "everyone's arm", readyLimit, func() bool {
		for _, m := range people {
			if a := m.do("GET", m.path("/tweets"), ""); !strings.HasPrefix(a.header.Get("X-Revision"), e.name+"-timeline-"+a.header.Get("X-Variant")) {
				return false
			}
		}
		return true
	})
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.must("stop", e.name)
	e.untouched()
}

// Of the treatment's requests some fail, from the last step on: steer ends that by itself, and the record says why. What the same
// people had before anybody was treated is taken off.
func rolledBackByAGuardrail(t *testing.T) {
	e := try(t, func(s *experiment.Spec) {
		s.Services, s.Ramp.Steps = []string{"timeline"}, []int{20, 50}
		s.Metrics.Baseline = new(experiment.Duration(2 * time.Minute))
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}
	})
	people := gather(t, []string{""}, 20)
	t.Parallel()
	e.must("start", "-f", e.file, "--anyway")
	var reads []func() (answer, error)
	for _, m := range people {
		reads = append(reads, func() (answer, error) { return m.try("GET", m.path("/tweets"), "") })
	}
	l := startOne(t, 4, reads...)
	if a := people[0].do("GET", people[0].path("/tweets"), ""); a.header.Get("X-Variant") != "" {
		t.Errorf("answered by the %s before the first step", a.header.Get("X-Variant"))
	}
	within(t, "the first step, after the baseline", 2*time.Minute+readyLimit, func() bool { return e.object().Status.Phase == experiment.Running })
	time.Sleep(2 * time.Minute) // of the first step, in which nothing is wrong
	l.stop()
	faultless := e.revisions(experiment.Treatment)["timeline"]
	const fault = `[{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "FAULTS", "value": "error=10%"}}]` // far from what a tripwire sees
	run(t, "patch", "configurations.serving", e.name+"-timeline-treatment", "--type=json", "--patch="+fault)
	within(t, "a treatment that fails", readyLimit, func() bool { // and nobody else asks until then: the whole of the last step is harmed
		for _, m := range people {
			if a, err := m.try("GET", m.path("/tweets"), ""); err == nil && (a.status >= http.StatusInternalServerError || a.header.Get("X-Variant") == string(experiment.Treatment) && a.header.Get("X-Revision") != faultless) {
				return true
			}
		}
		return false
	})
	e.must("step", e.name)
	people.untilRolledBack(e, func(m *member) { _, _ = m.try("GET", m.path("/tweets"), "") }) // some are to fail
	if g := e.report(t).Guardrails[0]; g.Baseline == nil {
		t.Errorf("harm less the baseline: %+v, want a baseline", g.GuardrailStep)
	}
}

// The same with a plain canary, of which requests are the unit: the edges take so many of all, and Knative halves them.
func canaryRolledBackByAGuardrail(t *testing.T) {
	e := try(t, func(s *experiment.Spec) {
		*s = experiment.Spec{
			Services: []string{"users"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FAULTS": "error=10%"}}, Unit: experiment.Request,
			Ramp:    experiment.Ramp{Steps: []int{20}, Hold: experiment.Hold{Time: new(experiment.Duration(time.Hour))}},
			Metrics: experiment.Metrics{Guardrails: []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}},
		}
	})
	people := gather(t, []string{""}, 8)
	t.Parallel()
	e.must("start", "-f", e.file, "--anyway")
	treatment := e.revisions(experiment.Treatment)["users"]
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
	e.untouched()
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
	var status rollout.Status
	for status.Phase != experiment.Concluded && time.Since(began) < limit {
		time.Sleep(5 * time.Second)
		status = e.object().Status
	}
	close(done)
	all.Wait()
	if status.Phase != experiment.Concluded || !strings.HasPrefix(status.Because, "rolled back: ") || !strings.Contains(status.Because, labelOf(e.t, experiment.ErrorShare)) {
		e.t.Fatalf("%s after %s, because %q", status.Phase, time.Since(began).Round(time.Second), status.Because)
	}
	e.t.Logf("rolled back after %s: %s", time.Since(began).Round(time.Second), status.Because)
}

// labelOf is what people read for the name of a guardrail's metric.
func labelOf(t testing.TB, name string) string {
	t.Helper()
	m, err := store.MetricNamed(name, store.Ratio)
	if err != nil {
		t.Fatal(err)
	}
	return m.Label
}
