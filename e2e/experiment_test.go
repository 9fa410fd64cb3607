//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/rollout"
	"warble/shared/store"
)

// experimented are the Services of most experiments in these tests.
var experimented = []string{"like", "timeline", "tweet"}

// experimentRun is an experiment of one test, with a random name.
type experimentRun struct {
	t    *testing.T
	name string
	file string
	tool string // kn-experiment, as built here
	spec experiment.Spec
	as   string // the user whose rights the verbs have; empty for the kubeconfig's

	before map[string]service
}

// newExperiment writes the file of an experiment. When the test ends, it deletes the experiment, and restores each Service that a promotion
// has written.
func newExperiment(t *testing.T, with func(*experiment.Spec)) *experimentRun {
	t.Helper()
	if os.Getenv("DATABASE_DIRECT_URL") == "" {
		t.Fatal("this test needs the database: expected DATABASE_DIRECT_URL, which e2e/cluster/env.sh sets")
	}
	folder := t.TempDir()
	e := &experimentRun{t: t, name: "e2e-" + strings.ToLower(rand.Text()[:6]), file: filepath.Join(folder, "experiment.yaml"), tool: filepath.Join(folder, "kn-experiment")}
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
		e.as = "" // that user's rights are gone
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

// checkServicesUnchanged checks that nobody has written a field of the experiment's Services.
func (e *experimentRun) checkServicesUnchanged() {
	e.t.Helper()
	for name, before := range e.before {
		if now := serviceOf(e.t, name); now.Metadata.Generation != before.Metadata.Generation {
			e.t.Errorf("%s was written: generation %d, and %d before the experiment", name, now.Metadata.Generation, before.Metadata.Generation)
		}
	}
}

// remove deletes the experiment, and waits until everything that it owns is deleted too.
func (e *experimentRun) remove(ctx context.Context) error {
	said, failed := e.command(ctx, "stop", e.name, "--timeout=2m").CombinedOutput() // fails if it has ended, or was never created
	if _, err := kubectl(ctx, "", "delete", "experiment", e.name, "--ignore-not-found", "--wait=false"); err != nil {
		return err
	}
	for {
		switch left, err := kubectl(ctx, "", "get", "experiments,configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name"); {
		case err != nil:
			return fmt.Errorf("objects of %s still exist: %w; its stop: %v %s", e.name, err, failed, said)
		case left == "":
			return nil
		}
		time.Sleep(pollEvery)
	}
}

// command returns a command of the tool, with the cluster's database.
func (e *experimentRun) command(ctx context.Context, args ...string) *exec.Cmd {
	if e.as != "" {
		args = append(args, "--as="+e.as)
	}
	cmd := exec.CommandContext(ctx, e.tool, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+os.Getenv("DATABASE_DIRECT_URL"))
	return cmd
}

// kn runs a verb, and returns its exit code and its output.
func (e *experimentRun) kn(args ...string) (code int, said string) {
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

// mustKn runs a verb, and fails the test if the verb fails. It returns the output.
func (e *experimentRun) mustKn(args ...string) string {
	e.t.Helper()
	code, said := e.kn(args...)
	if code != 0 {
		e.t.Fatalf("kn experiment %s: exit code %d", strings.Join(args, " "), code)
	}
	return said
}

// revisions returns the revisions of an arm that the edges use, by Service.
func (e *experimentRun) revisions(arm experiment.Arm) map[string]string {
	e.t.Helper()
	found := make(map[string]string)
	for _, at := range e.object().Status.Assign.Services {
		found[at.Name] = at.Side(arm).Revision
	}
	return found
}

// object reads the experiment from the cluster.
func (e *experimentRun) object() (o rollout.Experiment) {
	e.t.Helper()
	if err := json.Unmarshal([]byte(run(e.t, "get", "experiment", e.name, "--output=json")), &o); err != nil {
		e.t.Fatal(err)
	}
	return o
}

// condition returns the status of one of the experiment's conditions, empty if it has no such condition.
func (e *experimentRun) condition(kind string) string {
	e.t.Helper()
	for _, c := range e.object().Status.Conditions {
		if c.Type == kind {
			return string(c.Status)
		}
	}
	return ""
}

// answeredBy returns how many requests each edge has sent to the arms. An edge that does not answer is left out.
func (e *experimentRun) answeredBy(edges []string) map[string]float64 {
	e.t.Helper()
	counted := make(map[string]float64)
	for _, pod := range edges {
		text, err := kubectl(e.t.Context(), "", "get", "--raw=/api/v1/namespaces/"+namespace+"/pods/"+pod+":2112/proxy/metrics")
		if err != nil {
			continue // it is starting or ending
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

// crowd are users of several communities.
type crowd []*member

type member struct {
	*user
	community string
	arm       string // the arm of an earlier answer, which must not change; empty before
}

// assigned returns the arm that the rules assign to the user.
func (m *member) assigned(r experiment.Rules) experiment.Arm {
	m.t.Helper()
	id, err := strconv.ParseInt(m.id, 10, 64)
	if err != nil {
		m.t.Error(err)
	}
	arm, _ := r.Assign(id, m.community)
	return arm
}

// registerCrowd registers the same number of users in each community.
func registerCrowd(t *testing.T, communities []string, each int) crowd {
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

// checkArms makes everyone request their timeline a number of times, from all edges. It checks that each answer comes from the arm that the
// rules assign, that the arm's revision has answered, and that nobody has changed arms. It returns the number of users in each arm.
func (c crowd) checkArms(e *experimentRun, r experiment.Rules, times int) (inArm map[string]int) {
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
				want := m.assigned(r)
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

// rules returns the rules with a percentage of the slots open in each arm.
func (e *experimentRun) rules(percent int) experiment.Rules {
	return experiment.Rules{
		Name: e.name, Services: e.spec.Services, Unit: e.spec.Unit, Audience: e.spec.Audience.Communities, Salt: e.spec.Salt,
		Layer: experiment.Layer{To: experiment.Slots},
		Open:  experiment.Open{Control: percent * experiment.Slots / 100, Treatment: percent * experiment.Slots / 100},
	}
}

// waitForRules waits until the edges use the rules, which takes each of them up to 2 s. It returns when the last answer by other rules came.
func (c crowd) waitForRules(e *experimentRun, r experiment.Rules) (last time.Time) {
	e.t.Helper()
	began := time.Now()
	last = began
	eventually(e.t, "the edges", readyLimit, func() bool {
		for _, m := range c[:min(len(c), 40)] {
			if a := m.do("GET", m.path("/tweets"), ""); a.header.Get("X-Variant") != string(m.assigned(r)) {
				last = time.Now()
				return false
			}
		}
		return true
	})
	e.t.Logf("in force after another %s", last.Sub(began).Round(100*time.Millisecond))
	return last
}

// addCommunities creates communities for one test.
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

// 300 users in 60 communities use Warble during a whole experiment that is rolled back. Meanwhile an edge is replaced, and somebody applies
// the manifests of Service and experiment again and again, like Flux. The person who moves the experiment has the ClusterRole
// warble-experimenter, and no other right.
func TestClusterExperimentKeepsEveryoneInOneArm(t *testing.T) {
	cluster(t)
	communities := addCommunities(t, 60)
	people := registerCrowd(t, communities, 5)
	e := newExperiment(t, func(s *experiment.Spec) {
		s.Unit, s.Salt, s.Audience.Communities = experiment.Community, "pinned", communities
		s.Ramp.Steps, s.PromoteBy = []int{10, 25, 50}, "git"
	})
	var requests []func() (answer, error)
	for _, m := range people[:12] {
		id := m.post("before the experiment")
		requests = append(requests, reading(m.user, id)[:2]...)
	}
	within(t, "two edges", readyLimit, func() bool { return len(pods(t, "edge")) >= 2 }) // the minimum in its manifest
	l := start(t, requests...)
	e.mustKn("plan", "-f", e.file, "--anyway")
	e.as = experimenter(t)
	began := time.Now()
	e.mustKn("start", "-f", e.file, "--anyway")
	checkFigure(t, "from the start to Running", time.Since(began), 30*time.Second)
	flux := reapply(t, e, "tweet")
	for i, percent := range e.spec.Ramp.Steps {
		if i > 0 {
			e.mustKn("step", e.name)
		}
		people.waitForRules(e, e.rules(percent))
		if i == 1 { // a new edge assigns the same arms as the one that it replaces
			run(t, "delete", "pod", "--wait=false", pods(t, "edge")[0])
			people.checkArms(e, e.rules(percent), 1)
			within(t, "another edge", readyLimit, func() bool { return len(e.answeredBy(pods(t, "edge"))) >= 2 })
		}
		before := e.answeredBy(pods(t, "edge"))
		t.Logf("%d%%: %v of %d users", percent, people.checkArms(e, e.rules(percent), 4), len(people))
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
	e.mustKn("pause", e.name)
	people.checkArms(e, e.rules(50), 1)
	flux.again()
	if o := e.object(); o.Status.Phase != experiment.Paused || !o.Spec.Paused {
		t.Errorf("its pause was undone: it is %s", o.Status.Phase)
	}
	e.mustKn("resume", e.name)
	e.mustKn("status", e.name)
	if ready, stalled := e.condition("Ready"), e.condition("Stalled"); ready != "True" || stalled != "" {
		t.Errorf("it runs, and Ready is %q, Stalled %q", ready, stalled)
	}
	began = time.Now()
	rollback := e.inBackground("rollback", e.name, "-m", "the test is over")
	last := people.waitForRules(e, e.rules(0)) // without waiting for steer
	checkFigure(t, "from the wish to end it to the last answer of an arm", last.Sub(began), 2*time.Second)
	if err := rollback.Wait(); err != nil {
		t.Error(err)
	}
	for _, m := range people {
		m.arm = ""
	}
	people.checkArms(e, e.rules(0), 1)
	within(t, "the arms' end", readyLimit, func() bool {
		return run(t, "get", "configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name") == ""
	})
	flux.again()
	t.Logf("applied %d times meanwhile", flux.stop())
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.checkServicesUnchanged()
	if o := e.object(); o.Status.Conclusion != experiment.WasRolledBack || o.Spec.End != experiment.RolledBack {
		t.Errorf("its rollback was undone: %+v", o.Status)
	}
	code, said := e.kn("report", e.name, "-o", "json")
	if code != 0 && code != 3 || !strings.Contains(said, `"Concluded"`) {
		t.Errorf("exit code %d: its report does not say how it ended", code)
	}
}

// applier applies the manifests of an experiment and of its Services again and again, until it is stopped.
type applier struct {
	t     *testing.T
	done  chan struct{}
	once  sync.Once
	all   sync.WaitGroup
	times atomic.Int64

	mu       sync.Mutex
	file     string            // the experiment's
	services map[string]string // by name
}

// reapply applies every 2 s what a person has in Git: Services as they are, and the experiment as `start --dry-run` prints it. It has its
// own field manager.
func reapply(t *testing.T, e *experimentRun, services ...string) *applier {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := e.command(ctx, "start", "-f", e.file, "--dry-run=client", "-o", "yaml")
	file, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{t: t, done: make(chan struct{}), file: string(file), services: make(map[string]string)}
	for _, name := range services {
		a.set(name, e.before[name].template(t))
	}
	t.Cleanup(func() { a.stop() })
	a.all.Go(func() {
		for {
			if _, err := kubectl(context.Background(), a.text(), "apply", "--server-side", "--force-conflicts", "--field-manager=somebody-who-applies", "--filename=-"); err != nil {
				t.Errorf("applying the manifests again: %v", err)
			}
			a.times.Add(1)
			select {
			case <-a.done:
				return
			case <-time.After(2 * time.Second):
			}
		}
	})
	return a
}

// set gives a Service another template from now on.
func (a *applier) set(service string, template []byte) {
	a.t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service",
		"metadata": map[string]any{"name": service, "namespace": namespace}, "spec": map[string]any{"template": json.RawMessage(template)},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.services[service] = string(text)
}

func (a *applier) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(slices.Concat([]string{a.file}, slices.Collect(maps.Values(a.services))), "\n---\n")
}

// again waits until everything has been applied once more.
func (a *applier) again() {
	a.t.Helper()
	before := a.times.Load()
	within(a.t, "another application of the manifests", readyLimit, func() bool { return a.times.Load() >= before+2 }) // the first may be under way
}

func (a *applier) stop() (times int64) {
	a.once.Do(func() { close(a.done) })
	a.all.Wait()
	return a.times.Load()
}

// checkFigure logs a time that docs/scaling.md states, with its bound. It fails only at six times the bound, and not within a minute,
// because the cluster, the load and other work share two cores here.
func checkFigure(t testing.TB, what string, took, bound time.Duration) {
	t.Helper()
	t.Logf("figure: %s: %s, bound %s", what, took.Round(10*time.Millisecond), bound)
	if took > max(6*bound, time.Minute) {
		t.Errorf("%s: %s, want %s or so", what, took, bound)
	}
}

// template returns a Service's template.
func (s service) template(t *testing.T) []byte {
	t.Helper()
	var spec struct{ Template json.RawMessage }
	if err := json.Unmarshal(s.Spec, &spec); err != nil {
		t.Fatal(err)
	}
	return spec.Template
}

// After a promotion everyone has the treatment, and no request fails meanwhile. A new revision of a Service during the experiment, such as a
// hotfix, reaches the untouched immediately, and everyone keeps it after the promotion. Two controllers move the experiment, and one of them
// is killed again and again: each transition is still recorded once.
func promotedUnderLoad(t *testing.T) {
	e := newExperiment(t, func(s *experiment.Spec) { s.Services = []string{"like", "tweet"} })
	t.Parallel()
	id, l := e.startUnderLoad()
	image := e.hotfix("tweet")
	hotfix := untilReady(t, "tweet").Status.LatestReadyRevisionName
	within(t, "the hotfix for the untouched", readyLimit, func() bool {
		return (&user{t: t}).do("GET", "/2/tweets/"+id, "").header.Get("X-Revision") == hotfix
	})
	within(t, "the condition BaseDrifted", readyLimit, func() bool { return e.condition("BaseDrifted") == "True" })
	e.mustKn("rebase", e.name)
	for name, revision := range e.revisions(experiment.Treatment) {
		if name == "tweet" && !strings.HasSuffix(revision, "-00002") {
			t.Errorf("the treatment of tweet is %s, want its second revision, of the hotfix", revision)
		}
	}
	another := e.inBackground("run", "--every=2s")
	killed := e.keepKilling("steer")
	e.mustKn("promote", e.name, "--anyway", "--timeout=15m")
	t.Logf("steer was killed %d times", killed())
	if err := another.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	_ = another.Wait() // its error is the signal
	e.checkRecordedOnce()
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.checkPromoted(id)
	e.checkHotfix("tweet", image)
}

// hotfix gives a Service of the experiment a new image, as `kn service update --image` does, and returns it. newExperiment restores the
// Service.
func (e *experimentRun) hotfix(service string) (image string) {
	e.t.Helper()
	image, err := execute(e.t.Context(), "", "go", "tool", "-modfile=tools/ko/go.mod", "ko", "build", "--base-import-paths", "--sbom=none",
		"--image-label=hotfix="+e.name, "./functions/"+service)
	if err != nil {
		e.t.Fatal(err)
	}
	if before := run(e.t, "get", "ksvc", service, imageOutput); before == image {
		e.t.Fatalf("%s has the image %s already", service, image)
	}
	if err := patchNow(e.t.Context(), service, change{"replace", "/spec/template/spec/containers/0/image", image}); err != nil {
		e.t.Fatal(err)
	}
	return image
}

// imageOutput makes kubectl print the image of a Service's template.
const imageOutput = "--output=jsonpath={.spec.template.spec.containers[0].image}"

// checkHotfix checks that a Service still has the image of hotfix.
func (e *experimentRun) checkHotfix(service, image string) {
	e.t.Helper()
	if now := run(e.t, "get", "ksvc", service, imageOutput); now != image {
		e.t.Errorf("the hotfix of %s is gone: the image is %s, want %s", service, now, image)
	}
}

// A hotfix of a Service's image during an experiment reaches the untouched immediately, and does not change an arm. After a rollback and
// after a stop, everyone has it. Meanwhile somebody applies the experiment's file again and again, like Flux, which undoes neither end.
// promotedUnderLoad checks the hotfix after a promotion.
func hotfixIsKept(t *testing.T) {
	t.Parallel()
	people := registerCrowd(t, []string{""}, 24)
	const opinion = `{"score": 4}`
	for _, verb := range []string{"rollback", "stop"} {
		e := newExperiment(t, func(s *experiment.Spec) { s.Services, s.Ramp.Steps, s.Salt = []string{"feedback"}, []int{30}, "pinned" })
		e.mustKn("start", "-f", e.file, "--anyway")
		flux := reapply(t, e)
		var treated, untouched *member
		for _, m := range people {
			switch m.assigned(e.rules(30)) {
			case experiment.Treatment:
				treated = m
			case "":
				untouched = m
			}
		}
		if treated == nil || untouched == nil {
			t.Fatalf("%d users, and nobody is in the treatment, or nobody is untouched", len(people))
		}
		revision := func(m *member) string {
			return m.do("POST", "/feedback", opinion).header.Get("X-Revision")
		}
		treatment := e.revisions(experiment.Treatment)["feedback"]
		within(t, "the treatment", readyLimit, func() bool { return revision(treated) == treatment })
		var requests []func() (answer, error)
		for _, m := range []*member{treated, untouched} {
			requests = append(requests, func() (answer, error) { return m.try("POST", "/feedback", opinion) })
		}
		l := startOne(t, 4, requests...)
		generation := serviceOf(t, "feedback").Metadata.Generation
		image := e.hotfix("feedback")
		hotfix := untilReady(t, "feedback").Status.LatestReadyRevisionName
		within(t, "the hotfix for the untouched", readyLimit, func() bool { return revision(untouched) == hotfix })
		if got := revision(treated); got != treatment {
			t.Errorf("a user of the treatment is served by %s, want %s", got, treatment)
		}
		e.mustKn(verb, e.name)
		within(t, "the hotfix for everyone", readyLimit, func() bool { return revision(treated) == hotfix })
		flux.again()
		t.Logf("%s: applied %d times; %d requests meanwhile, none failed", verb, flux.stop(), l.stop())
		if o := e.object(); o.Status.Phase != experiment.Concluded || !o.Spec.End.Closes() {
			t.Errorf("its end was undone: it is %s, and spec.end is %q", o.Status.Phase, o.Spec.End)
		}
		e.checkHotfix("feedback", image)
		if now := serviceOf(t, "feedback").Metadata.Generation; now != generation+1 {
			t.Errorf("feedback is of generation %d, want %d: only the hotfix may write it", now, generation+1)
		}
	}
}

// keepKilling kills a function's processes twice a minute until stop is called. stop returns how often it has killed one.
func (e *experimentRun) keepKilling(name string) (stop func() (times int)) {
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

// checkRecordedOnce checks that the report has each transition of the experiment once.
func (e *experimentRun) checkRecordedOnce() {
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
		if h.Phase == string(experiment.Promoting) { // its stages have the same text
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

// startUnderLoad starts the experiment while a user reads tweets and posts. Both are requests to the Service tweet, because other Services
// may fail on purpose meanwhile. It returns one of the user's tweets.
func (e *experimentRun) startUnderLoad() (id string, l *load) {
	e.t.Helper()
	ada := register(e.t, "")
	id = ada.post("ada's")
	l = startOne(e.t, 4, append(reading(ada, id)[:1], func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	e.mustKn("start", "-f", e.file, "--anyway")
	return id, l
}

// checkPromoted checks that everyone has the treatment, and that the Services' own revisions serve it.
func (e *experimentRun) checkPromoted(tweet string) {
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

// A treatment that cannot run never gets traffic, and start names it. If somebody then deletes the experiment instead of stopping it, its
// arms are deleted too, and the report says so.
func TestClusterExperimentWithATreatmentThatCrashes(t *testing.T) {
	cluster(t)
	e := newExperiment(t, func(s *experiment.Spec) {
		s.Services = []string{"like"}
		s.Treatment.Env["FEATURES"] = "hearts"
	})
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, reading(ada, id)...)
	code, said := e.kn("start", "-f", e.file, "--anyway", "--timeout=90s")
	if code == 0 || !strings.Contains(said, "the treatment of like, revision "+e.name+"-like-treatment-00001") || !strings.Contains(said, "FEATURES") {
		t.Errorf("exit code %d: the output does not name the crashing revision and the reason", code)
	}
	if a := ada.do("GET", "/2/tweets/"+id+"/liking_users", ""); a.header.Get("X-Variant") != "" {
		t.Errorf("a user is in the arm %q", a.header.Get("X-Variant"))
	}
	run(t, "delete", "experiment", e.name, "--wait=false")
	within(t, "the end of its arms", readyLimit, func() bool {
		return run(t, "get", "configurations.serving,routes.serving", "--selector=warble.dev/experiment="+e.name, "--output=name") == ""
	})
	t.Logf("%d requests meanwhile, none failed", l.stop())
	e.checkServicesUnchanged()
	within(t, "the record of its deletion", readyLimit, func() bool { // steer checks experiments each minute
		code, said := e.kn("report", e.name, "-o", "json")
		return (code == 0 || code == 3) && strings.Contains(said, "it was deleted")
	})
}

// If a treatment fails every request, the edges suspend the experiment after a few answers, and steer rolls it back, without waiting for a
// guardrail.
func TestClusterATreatmentThatFailsIsSuspended(t *testing.T) {
	cluster(t)
	e := newExperiment(t, func(s *experiment.Spec) {
		s.Services = []string{"timeline"}
		s.Treatment.Env = map[string]experiment.Value{"FAULTS": "error=100%"}
	})
	people := registerCrowd(t, []string{""}, 40)
	e.mustKn("start", "-f", e.file, "--anyway")
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
	checkFigure(t, "from the first answer of a failing treatment to its rollback", time.Since(began), 15*time.Second)
	t.Logf("%d answers failed", failed)
	if because := e.object().Status.Because; !strings.HasPrefix(because, "rolled back: the treatment fails") {
		t.Errorf("because %q", because)
	}
	const most = 2 * 20 // 8 to 12 for each of two edges, and the requests under way
	if failed > most {
		t.Errorf("%d answers failed, want %d at most", failed, most)
	}
	e.checkServicesUnchanged()
}

// If somebody deletes the arms by hand, no request fails, and the arms are made again.
func TestClusterDeletedArmsAreMadeAgain(t *testing.T) {
	cluster(t)
	e := newExperiment(t, func(s *experiment.Spec) { s.Services, s.Salt = []string{"timeline"}, "pinned" })
	people := registerCrowd(t, []string{""}, 12)
	e.mustKn("start", "-f", e.file, "--anyway")
	people.waitForRules(e, e.rules(50))
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
	e.mustKn("stop", e.name)
	e.checkServicesUnchanged()
}

// From the last step on, some of the treatment's requests fail. Steer rolls the experiment back by itself, and the report says why. The
// difference between the arms during the baseline is subtracted.
func rolledBackByAGuardrail(t *testing.T) {
	e := newExperiment(t, func(s *experiment.Spec) {
		s.Services, s.Ramp.Steps = []string{"timeline"}, []int{20, 50}
		s.Metrics.Baseline = new(experiment.Duration(2 * time.Minute))
		s.Metrics.Guardrails = []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}
	})
	people := registerCrowd(t, []string{""}, 20)
	t.Parallel()
	e.mustKn("start", "-f", e.file, "--anyway")
	var reads []func() (answer, error)
	for _, m := range people {
		reads = append(reads, func() (answer, error) { return m.try("GET", m.path("/tweets"), "") })
	}
	l := startOne(t, 4, reads...)
	if a := people[0].do("GET", people[0].path("/tweets"), ""); a.header.Get("X-Variant") != "" {
		t.Errorf("answered by the %s before the first step", a.header.Get("X-Variant"))
	}
	within(t, "the first step, after the baseline", 2*time.Minute+readyLimit, func() bool { return e.object().Status.Phase == experiment.Running })
	time.Sleep(2 * time.Minute) // a first step without harm
	l.stop()
	faultless := e.revisions(experiment.Treatment)["timeline"]
	const fault = `[{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "FAULTS", "value": "error=10%"}}]` // too few errors for a tripwire
	run(t, "patch", "configurations.serving", e.name+"-timeline-treatment", "--type=json", "--patch="+fault)
	within(t, "a treatment that fails", readyLimit, func() bool { // until then nobody else sends requests, so that the last step is harmed from its start
		for _, m := range people {
			if a, err := m.try("GET", m.path("/tweets"), ""); err == nil && (a.status >= http.StatusInternalServerError || a.header.Get("X-Variant") == string(experiment.Treatment) && a.header.Get("X-Revision") != faultless) {
				return true
			}
		}
		return false
	})
	e.mustKn("step", e.name)
	people.untilRolledBack(e, func(m *member) { _, _ = m.try("GET", m.path("/tweets"), "") }) // some fail on purpose
	if g := e.report(t).Guardrails[0]; g.Baseline == nil {
		t.Errorf("the guardrail has no baseline: %+v", g.GuardrailStep)
	}
}

// The same with a canary, with the unit request: the edges send a random share of all requests to the arms, and Knative splits that share in
// half.
func canaryRolledBackByAGuardrail(t *testing.T) {
	e := newExperiment(t, func(s *experiment.Spec) {
		*s = experiment.Spec{
			Services: []string{"users"}, Treatment: experiment.Treated{Env: map[string]experiment.Value{"FAULTS": "error=10%"}}, Unit: experiment.Request,
			Ramp:    experiment.Ramp{Steps: []int{20}, Hold: experiment.Hold{Time: new(experiment.Duration(time.Hour))}},
			Metrics: experiment.Metrics{Guardrails: []experiment.Guardrail{{Name: experiment.ErrorShare, Margin: .005}}},
		}
	})
	people := registerCrowd(t, []string{""}, 8)
	t.Parallel()
	e.mustKn("start", "-f", e.file, "--anyway")
	treatment := e.revisions(experiment.Treatment)["users"]
	const requests = 500
	n := 0
	for range requests { // FAULTS applies only to requests with a token, so none of these fails
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
	e.checkServicesUnchanged()
}

// untilRolledBack makes everyone call do again and again until steer has rolled the experiment back because of its error share.
func (c crowd) untilRolledBack(e *experimentRun, do func(*member)) {
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

// labelOf returns the label of a guardrail's metric.
func labelOf(t testing.TB, name string) string {
	t.Helper()
	m, err := store.MetricNamed(name, store.Ratio)
	if err != nil {
		t.Fatal(err)
	}
	return m.Label
}
