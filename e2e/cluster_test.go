//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"warble/shared/experiment"
)

// The tests called TestCluster change a deployment and put it back, so none is parallel: they run before the others are
// let go, which then find it as it was.

// cluster is what such a test begins with.
func cluster(t testing.TB) {
	t.Helper()
	needsCluster(t)
	if err := warble.cluster.generous(t.Context()); err != nil {
		t.Fatal(err)
	}
	explain(t)
}

// needsCluster fails a test without a cluster. It is enough for a test that sends only a few requests.
func needsCluster(t testing.TB) {
	t.Helper()
	if warble.url == "" || warble.run != nil || os.Getenv("KUBECONFIG") == "" {
		t.Fatal("it needs a cluster: expected KUBECONFIG, and the ingress in WARBLE_URL and WARBLE_HOST, as `make e2e-cluster` sets them")
	}
	if !strings.HasSuffix(warble.host, "."+domain()) || domain() == "" {
		t.Fatalf("WARBLE_HOST is %q: expected edge.%s.DOMAIN", warble.host, namespace)
	}
}

// explain has a test that fails end with what the edge and steer, and what stands before each in its pod, had to complain
// of meanwhile: an answer of 5xx names no reason to the client.
func explain(t testing.TB) {
	t.Helper()
	began := time.Now().UTC().Format(time.RFC3339)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, name := range []string{"edge", "steer"} {
			text, err := kubectl(ctx, "", "logs", "--selector=serving.knative.dev/service="+name, "--all-containers", "--prefix", "--ignore-errors",
				"--since-time="+began, "--tail=-1", "--max-log-requests=20")
			if err != nil {
				t.Logf("no log of %s: %v", name, err)
			}
			t.Logf("%s complains since %s:\n%s", name, began, strings.Join(complaints(text), ""))
		}
	})
}

// complaints returns the lines of a log with the level warning or higher; only the last 60 if there are more.
func complaints(logs string) (lines []string) {
	const most = 60
	for line := range strings.Lines(logs) {
		for _, level := range []string{`"level":"warn"`, `"level":"error"`, `"level":"fatal"`, `"severity":"WARNING"`, `"severity":"ERROR"`} {
			if strings.Contains(line, level) {
				lines = append(lines, line)
				break
			}
		}
	}
	return lines[max(0, len(lines)-most):]
}

// domain returns the domain of public hosts.
func domain() string {
	_, domain, _ := strings.Cut(warble.host, "."+namespace+".")
	return domain
}

// Tests that mostly wait run in parallel, each with its own Services: a guardrail needs minutes, and each stage of a promotion takes a minute.
// No other test runs meanwhile, because some requests fail on purpose.
func TestClusterTakesItsTime(t *testing.T) {
	cluster(t)
	t.Run("a treatment is promoted under load", promotedUnderLoad)
	t.Run("a treatment is promoted by git", promotedByGit)
	t.Run("a hotfix is kept after a rollback and a stop", hotfixIsKept)
	t.Run("a function that is scraped scales to zero", scalesToZeroWhileItIsScraped)
	t.Run("a guardrail ends an experiment of users", rolledBackByAGuardrail)
	t.Run("a guardrail ends a canary", canaryRolledBackByAGuardrail)
}

// A node continues to serve without its API server, because no request needs it. Everyone in an experiment keeps their arm, and the
// experiment continues when the server is back.
func TestClusterServesWithoutTheAPIServer(t *testing.T) {
	cluster(t)
	const away = 30 * time.Second
	w := inside(t)
	e := newExperiment(t, func(s *experiment.Spec) { s.Services, s.Salt = []string{"timeline"}, "pinned" })
	people := registerCrowd(t, []string{""}, 8)
	id := people[0].post("before the experiment")
	e.mustKn("start", "-f", e.file, "--anyway")
	people.waitForRules(e, e.rules(50))
	requests := reading(people[0].user, id)
	revisions := make(map[experiment.Arm]string)
	for _, arm := range []experiment.Arm{experiment.Control, experiment.Treatment} {
		revisions[arm] = e.revisions(arm)["timeline"]
	}
	for _, m := range people {
		revision := revisions[m.assigned(e.rules(50))]
		requests = append(requests, func() (answer, error) {
			a, err := m.try("GET", m.path("/tweets"), "")
			if got := a.header.Get("X-Revision"); a.status == http.StatusOK && got != revision {
				err = fmt.Errorf("%s is served by %s, want %s", m.id, got, revision)
			}
			return a, err
		})
	}
	signal := func(s string) {
		if _, err := execute(context.Background(), "", "e2e/cluster/signal.sh", "kube-apiserver", s); err != nil {
			t.Error(err)
		}
	}
	back := sync.OnceFunc(func() { signal("CONT") })
	defer back()
	l := start(t, requests...)
	signal("STOP")
	time.Sleep(away)
	eventually(t, "requests enough to prove something", readyLimit, func() bool { return t.Failed() || l.sent.Load() >= int64(away/time.Second) })
	if t.Failed() {
		return
	}
	back()
	returned := time.Now()
	l.stop()
	within(t, "the API server's return", readyLimit, func() bool {
		_, err := kubectl(t.Context(), "", "get", "--raw=/readyz")
		return err == nil
	})
	w.route(t, "/witness")
	within(t, "a new route", readyLimit, func() bool { return (&user{t: t}).do("GET", "/witness", "").status == http.StatusOK })
	t.Logf("a new route %s after its return", time.Since(returned).Round(100*time.Millisecond))
	if o := e.object(); o.Status.Phase != experiment.Running {
		t.Errorf("it is %s, because %q", o.Status.Phase, o.Status.Because)
	}
	people.checkArms(e, e.rules(50), 1)
	e.mustKn("stop", e.name)
	people.waitForRules(e, e.rules(0))
	e.checkServicesUnchanged()
}

// load is requests that must not fail, until it is stopped.
type load struct {
	t    *testing.T
	done chan struct{}
	once sync.Once
	all  sync.WaitGroup
	sent atomic.Int64
	late atomic.Int64 // for which the machine had no time: see outOfTime
}

// start runs each request over and over, one after the other, once each has been answered: what was at zero is there then.
func start(t *testing.T, requests ...func() (answer, error)) *load {
	return startOne(t, 1, requests...)
}

// startOne is start with one in so many of the requests, for what has others beside it.
func startOne(t *testing.T, in time.Duration, requests ...func() (answer, error)) *load {
	t.Helper()
	for _, request := range requests {
		a, err := request()
		for deadline := time.Now().Add(readyLimit); err == nil && time.Now().Before(deadline) && wait(t, a); {
			a, err = request()
		}
		if err != nil || a.status >= 300 {
			t.Fatalf("%d %s %v", a.status, a.body, err)
		}
	}
	l := &load{t: t, done: make(chan struct{})}
	t.Cleanup(func() { l.stop() })
	const most = 20_000
	for _, request := range requests {
		l.all.Go(func() {
			for range most {
				select {
				case <-l.done:
					return
				default:
				}
				switch a, err := request(); {
				case err == nil && outOfTime(a):
					l.late.Add(1)
				case err != nil || a.status != http.StatusOK && a.status != http.StatusCreated:
					t.Errorf("%d %s %v after %s", a.status, a.body, err, a.took)
				}
				l.sent.Add(1)
				time.Sleep(in * pause(len(requests)))
			}
		})
	}
	return l
}

// pause is what each of some askers waits between two requests, so that all of them together send at most 100 a second: load,
// not a flood, for the cluster is on the same cores, and where it has no time its autoscaler starts pods that take the rest.
func pause(askers int) time.Duration { return time.Duration(askers) * 10 * time.Millisecond }

// stop ends it. Where the machine had no time for more than one in a hundred, something hangs.
func (l *load) stop() (sent int64) {
	l.t.Helper()
	l.once.Do(func() {
		close(l.done)
		l.all.Wait()
		if late, sent := l.late.Load(), l.sent.Load(); late > 0 {
			l.t.Logf("%d of %d requests were out of time", late, sent)
			if late > 2 && late*100 > sent {
				l.t.Errorf("%d of %d requests were out of time, want one in a hundred at most", late, sent)
			}
		}
	})
	return l.sent.Load()
}

// reading is what a user asks of functions that have a database and one that has not.
func reading(u *user, id string) []func() (answer, error) {
	return []func() (answer, error){
		func() (answer, error) { return u.try("GET", "/2/tweets/"+id, "") },
		func() (answer, error) { return u.try("GET", u.path("/tweets"), "") },
		func() (answer, error) { return u.try("GET", "/auth/validate", "") },
	}
}

// witness is what the tests have inside of the cluster: see e2e/witness.
type witness struct{ host string }

// inside applies the witness once; TestMain takes it away.
func inside(t testing.TB) witness {
	t.Helper()
	if err := warble.cluster.witness(t.Context()); err != nil {
		t.Fatal(err)
	}
	untilReady(t, "witness")
	w := witness{"witness." + namespace + "." + domain()}
	eventually(t, "the witness", readyLimit, func() bool { return ask(t, w.host, "/witness").status == http.StatusOK })
	return w
}

// fetched is what a URL answers inside.
type fetched struct {
	Status  int
	Header  http.Header
	Body    string
	Seconds []float64
}

func (w witness) fetch(t testing.TB, from, times string) fetched {
	t.Helper()
	return decode[fetched](t, ask(t, w.host, "/fetch?times="+times+"&url="+url.QueryEscape(from)), http.StatusOK)
}

// events are those that it took and that are about one of the subjects, or of one of them as a user.
func (w witness) events(t *testing.T, subjects ...string) (found []event.Event) {
	t.Helper()
	var all []event.Event
	if a := ask(t, w.host, "/events"); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	} else if err := json.Unmarshal([]byte(a.body), &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		for _, subject := range subjects {
			if e.Subject() == subject || e.Extensions()["partitionkey"] == subject {
				found = append(found, e)
			}
		}
	}
	return found
}

// route has the edge send a path to the witness, until the test ends.
func (w witness) route(t *testing.T, routes string) {
	t.Helper()
	annotate := func(ctx context.Context, routes string) error {
		_, err := kubectl(ctx, "", "annotate", "--overwrite", "ksvc/witness", "warble.dev/routes="+routes)
		return err
	}
	t.Cleanup(func() {
		if err := annotate(context.Background(), "none"); err != nil {
			t.Error(err)
		}
	})
	if err := annotate(t.Context(), routes); err != nil {
		t.Fatal(err)
	}
}

// fixtures are what the tests of a cluster need there: limits that let all requests of one address through, and, once it
// is asked for, the witness. restore takes both away. Not for two tests at once.
type fixtures struct {
	env     []map[string]any // the edge's before
	applied bool
}

// limits are the edge's, and generousLimit lets all requests of one address through.
var limits = []string{"RATE_LIMIT_READ", "RATE_LIMIT_WRITE", "RATE_LIMIT_AUTH"}

const generousLimit = "1000000/1m"

// generous sets the limits, once a run. Those that a run which was killed has left are nobody's: restore takes them away too.
func (c *fixtures) generous(ctx context.Context) error {
	if c.env != nil {
		return nil
	}
	text, err := kubectl(ctx, "", "get", "ksvc", "edge", "--output=json")
	if err != nil {
		return err
	}
	var edge service
	if err := json.Unmarshal([]byte(text), &edge); err != nil {
		return err
	}
	env, err := edge.variables()
	if err != nil {
		return err
	}
	c.env = slices.DeleteFunc(env, func(v map[string]any) bool { return v["value"] == generousLimit })
	next := c.env
	for _, limit := range limits {
		next = set(next, limit, generousLimit)
	}
	if err := patchNow(ctx, "edge", change{"replace", envPath, next}); err != nil {
		return err
	}
	return c.settled(ctx)
}

func (c *fixtures) settled(ctx context.Context) error {
	for deadline := time.Now().Add(readyLimit); time.Now().Before(deadline); time.Sleep(pollEvery) {
		text, err := kubectl(ctx, "", "get", "ksvc", "edge", "--output=json")
		if err != nil {
			return err
		}
		var edge service
		if err := json.Unmarshal([]byte(text), &edge); err != nil || edge.ready() {
			return err
		}
	}
	return fmt.Errorf("the edge is not ready after %s", readyLimit)
}

func (c *fixtures) witness(ctx context.Context) error {
	if c.applied {
		return nil
	}
	objects, err := execute(ctx, "", "go", "tool", "-modfile=tools/ko/go.mod", "ko", "resolve", "--base-import-paths", "--sbom=none", "-f", "e2e/witness/service.yaml")
	if err != nil {
		return err
	}
	c.applied = true
	_, err = kubectl(ctx, objects, "apply", "-f", "-")
	return err
}

func (c *fixtures) restore(ctx context.Context) error {
	if c.applied {
		if _, err := kubectl(ctx, "", "delete", "ksvc/witness"); err != nil {
			return err
		}
	}
	if c.env == nil {
		return nil
	}
	if err := patchNow(ctx, "edge", change{"replace", envPath, c.env}); err != nil {
		return fmt.Errorf("the edge keeps the limits of the tests: %w", err)
	}
	return c.settled(ctx)
}
