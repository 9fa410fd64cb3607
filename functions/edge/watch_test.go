package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingclient "knative.dev/serving/pkg/client/clientset/versioned/typed/serving/v1"

	"warble/shared/clocktest"
	"warble/shared/env"
	"warble/shared/manifest"
	"warble/shared/telemetry"
)

const (
	ns = "warble"
	// inForce is how soon a change in the cluster must take effect.
	inForce = 2 * time.Second
)

// inForceSoon waits until a change in the cluster has taken effect, logs how long that took, and fails if it took longer than
// inForce.
func inForceSoon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	took := clocktest.Took(func() { eventually(t, what, holds) })
	if took > inForce {
		t.Errorf("%s after %s, want %s at most", what, took, inForce)
	}
	t.Logf("%s after %s", what, took)
}

// pod is an edge's view of a cluster.
type pod struct {
	*routes
	watch    *watch
	log      *journal
	replicas atomic.Int64
}

// startPod returns a pod whose watch runs until the test ends. file may be empty.
func startPod(t *testing.T, config *rest.Config, file string) *pod {
	t.Helper()
	p := &pod{log: new(journal)}
	p.routes = &routes{file: file, cluster: true, log: zerolog.New(p.log)}
	var err error
	p.watch, err = newWatch(config, ns, "edge", p.routes, func(replicas int) { p.replicas.Store(int64(replicas)) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.watch.run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return p
}

// targetName returns the name of the function that a GET of path reaches.
func (p *pod) targetName(path string) string {
	to, _ := p.match(httptest.NewRequest(http.MethodGet, path, nil))
	if to == nil {
		return ""
	}
	return to.name
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) count(text string) int { return strings.Count(j.String(), text) }

// operator changes a cluster as people and Knative's controllers do.
type operator struct {
	t       *testing.T
	knative servingclient.ServingV1Interface
	core    coreclient.CoreV1Interface
}

func newOperator(t *testing.T, config *rest.Config) operator {
	t.Helper()
	knative, err := servingclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	core, err := coreclient.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return operator{t, knative, core}
}

// apply creates or changes a Service, as kubectl and Knative's controller together do.
func (o operator) apply(s *servingv1.Service) {
	o.t.Helper()
	services := o.knative.Services(ns)
	written, err := services.Get(o.t.Context(), s.Name, metav1.GetOptions{})
	if err == nil {
		written.Annotations = s.Annotations
		written, err = services.Update(o.t.Context(), written, metav1.UpdateOptions{})
	} else {
		written, err = services.Create(o.t.Context(), s, metav1.CreateOptions{})
	}
	if err != nil {
		o.t.Fatal(err)
	}
	written.Status = s.Status
	if _, err := services.UpdateStatus(o.t.Context(), written, metav1.UpdateOptions{}); err != nil {
		o.t.Fatal(err)
	}
}

func (o operator) remove(name string) {
	o.t.Helper()
	if err := o.knative.Services(ns).Delete(o.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		o.t.Fatal(err)
	}
}

// scale creates a revision with the given number of ready pods.
func (o operator) scale(revision string, replicas int32) {
	o.t.Helper()
	r, err := o.knative.Revisions(ns).Create(o.t.Context(), &servingv1.Revision{
		TypeMeta:   metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Revision"},
		ObjectMeta: metav1.ObjectMeta{Name: revision, Labels: map[string]string{serving.ServiceLabelKey: strings.Split(revision, "-")[0]}},
		Spec:       servingv1.RevisionSpec{PodSpec: corev1.PodSpec{Containers: []corev1.Container{{Image: "edge"}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	r.Status.ActualReplicas = &replicas
	if _, err := o.knative.Revisions(ns).UpdateStatus(o.t.Context(), r, metav1.UpdateOptions{}); err != nil {
		o.t.Fatal(err)
	}
}

// refusalEvents returns the messages of Events about a Service or Experiment.
func (o operator) refusalEvents(name string) (messages []string) {
	o.t.Helper()
	events, err := o.core.Events(ns).List(o.t.Context(), metav1.ListOptions{})
	if err != nil {
		o.t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.InvolvedObject.Name == name && e.Type == corev1.EventTypeWarning && e.Reason == reasons[e.InvolvedObject.Kind] {
			messages = append(messages, e.Message)
		}
	}
	return messages
}

// knativeService returns a Service as Knative has it some time after it was applied. It need not be Ready.
func knativeService(name, annotation string) *servingv1.Service {
	s := &servingv1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{manifest.RoutesAnnotation: annotation}},
	}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Image: name}}
	s.Status.Address = &duckv1.Addressable{URL: apis.HTTP(name + ".warble.svc.cluster.local")}
	s.Status.Traffic = []servingv1.TrafficTarget{
		{RevisionName: name + "-00001"},
		{RevisionName: name + "-00002", Tag: "next", URL: apis.HTTP("next-" + name + ".warble.svc.cluster.local")},
	}
	return s
}

// api is a cluster's API server that a test can stop.
type api struct {
	admin, edge *rest.Config
	stop, start func(*testing.T)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.start(t)
	watchJourney(t, api{s.config(), s.config(), func(*testing.T) { s.stop() }, s.start})
}

// watchJourney takes two edge pods through the changes and outages of an API server.
func watchJourney(t *testing.T, a api) {
	one, other := startPod(t, a.edge, ""), startPod(t, a.edge, "")
	o := newOperator(t, a.admin)
	reach := func(path, name string) {
		t.Helper()
		inForceSoon(t, fmt.Sprintf("%s reaches %q", path, name), func() bool { return one.targetName(path) == name && other.targetName(path) == name })
	}
	told := func(name, message string) {
		t.Helper()
		eventually(t, name+" is told "+message, func() bool { return len(o.refusalEvents(name)) > 0 })
		if got := o.refusalEvents(name); len(got) != 1 || !strings.Contains(got[0], message) {
			t.Errorf("%s is told %q, want one %q", name, got, message)
		}
	}
	inForceSoon(t, "an empty cluster is a view", func() bool { return one.Ready(t.Context()) == nil && other.Ready(t.Context()) == nil })

	o.apply(knativeService("tweet", "/2/tweets /2/tweets/{id}"))
	reach("/2/tweets", "tweet")
	reach("/2/tweets/1", "tweet")
	to := one.current.Load().targets["tweet"]
	if to.url.String() != "http://tweet.warble.svc.cluster.local" || len(to.tags) != 1 || to.tags["next"].url.String() != "http://next-tweet.warble.svc.cluster.local" {
		t.Errorf("tweet is at %s, its tags at %v", to.url, to.tags)
	}
	o.apply(knativeService("tweet", "/2/tweets /2/tweets/{id}/text"))
	reach("/2/tweets/1", "")
	reach("/2/tweets/1/text", "tweet")

	o.apply(knativeService("thief", "/2/tweets /2/mine"))
	reach("/2/mine", "thief")
	reach("/2/tweets", "tweet")
	told("thief", "claims /2/tweets, which stays with tweet")
	o.apply(knativeService("tweet", "/2/tweets /2/{unclosed"))
	told("tweet", manifest.RoutesAnnotation+`: route "/2/{unclosed"`)
	reach("/2/tweets/1/text", "tweet")
	o.remove("tweet")
	reach("/2/tweets/1/text", "")
	reach("/2/tweets", "thief")
	told("thief", "claims /2/tweets")

	o.scale("edge-00001", 3)
	o.scale("edge-00002", 1)
	o.scale("thief-00001", 7)
	inForceSoon(t, "four replicas share", func() bool { return one.replicas.Load() == 4 && other.replicas.Load() == 4 })

	a.stop(t)
	eventually(t, "the log says that the API server is away", func() bool { return one.log.count("services is interrupted") > 0 })
	reach("/2/mine", "thief")
	if err := one.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	meters := telemetry.New("edge", "edge-00001", io.Discard)
	registerMetrics(meters, one.routes, one.watch)
	gauges := func() (routes, interrupted float64) {
		w := httptest.NewRecorder()
		meters.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			_, _ = fmt.Sscanf(line, "edge_routes %g", &routes)                         // fails for any other line
			_, _ = fmt.Sscanf(line, "edge_watch_interrupted_seconds %g", &interrupted) // as above
		}
		return routes, interrupted
	}
	if routes, interrupted := gauges(); routes != 2 || interrupted <= 0 {
		t.Errorf("%g routes and %g s without the API server, want 2 and some", routes, interrupted)
	}
	a.start(t)
	o.apply(knativeService("late", "/2/late"))
	eventually(t, "what came after it was away", func() bool { return one.targetName("/2/late") == "late" })
	o.apply(knativeService("later", "/2/later"))
	inForceSoon(t, "and the next", func() bool { return one.targetName("/2/later") == "later" })
	if one.targetName("/2/mine") != "thief" {
		t.Error("thief is gone")
	}
	eventually(t, "both watches go on", func() bool { _, interrupted := gauges(); return interrupted == 0 })
}

func routesFile(t *testing.T, names ...string) string {
	t.Helper()
	var functions []map[string]any
	for _, name := range names {
		functions = append(functions, map[string]any{"name": name, "url": "http://" + name + ".warble.svc.cluster.local", "routes": []string{"/2/" + name}})
	}
	text, err := json.Marshal(map[string]any{"functions": functions})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "routes.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTheFileIsUsedUntilTheClusterIsSeen(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	file := routesFile(t, "tweet", "users")
	p := startPod(t, s.config(), file)
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("ready before there is a view, or not said why: %v", err)
	}
	refresh := func() {
		t.Helper()
		if err := p.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	refresh()
	if err := p.Ready(t.Context()); err != nil || p.targetName("/2/tweet") != "tweet" {
		t.Errorf("the file is not in force: %v", err)
	}
	eventually(t, "the log says that the API server is away", func() bool { return p.log.count("connection refused") > 0 })

	s.start(t)
	o := newOperator(t, s.config())
	o.apply(knativeService("rival", "/2/tweet")) // the rival is older, but in the file the path has another owner
	o.apply(knativeService("tweet", "/2/tweet"))
	eventually(t, "the cluster's view", func() bool { return p.targetName("/2/users") == "" })
	if to := p.targetName("/2/tweet"); to != "tweet" {
		t.Errorf("/2/tweet went to %q", to)
	}
	if err := os.Rename(routesFile(t, "users"), file); err != nil {
		t.Fatal(err)
	}
	refresh()
	if p.targetName("/2/users") != "" || p.targetName("/2/tweet") != "tweet" {
		t.Error("the file replaced the cluster's view")
	}
}

// TestAnInterruptionIsLoggedOnce, although the URL of each try has another timeout in it.
func TestAnInterruptionIsLoggedOnce(t *testing.T) {
	t.Parallel()
	log := new(journal)
	heard := (&watch{log: zerolog.New(log)}).answerLogger("services")
	away := func(query string) error {
		return &url.Error{Op: "Get", URL: "http://10.96.0.1/services?" + query, Err: errors.New("connection refused")}
	}
	for _, err := range []error{nil, away("timeout=1"), away("timeout=2"), away("timeout=3"), nil, nil, away("timeout=4")} {
		heard(err)
	}
	if n, again := log.count("services is interrupted"), log.count("services works again"); n != 2 || again != 1 {
		t.Errorf("interrupted %d times, and went on %d times: %s", n, again, log)
	}
}

func TestAClusterNeedsNoRoutesFile(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", filepath.Join(t.TempDir(), "routes.json")} {
		r := newRoutes(env.New(func(name string) (string, bool) {
			value := map[string]string{"KUBERNETES_SERVICE_HOST": "10.96.0.1", "ROUTES_FILE": file}[name]
			return value, value != ""
		}), zerolog.Nop())
		if err := r.refresh(t.Context()); err != nil {
			t.Errorf("%q: %v", file, err)
		}
		if r.Ready(t.Context()) == nil {
			t.Errorf("%q: ready with no view", file)
		}
	}
}

func TestClusterMistakesAreNamed(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "") // client-go reads it, and these tests may run in a cluster
	e := env.New(func(name string) (string, bool) { return "10.96.0.1", name == "KUBERNETES_SERVICE_HOST" })
	r := newRoutes(e, zerolog.Nop())
	if w := watchFromEnv(e, r, nil); w != nil || e.Err() == nil || !strings.Contains(e.Err().Error(), "automountServiceAccountToken") {
		t.Errorf("got %v, %v", w, e.Err())
	}
	outside := env.New(func(string) (string, bool) { return "", false })
	r = newRoutes(outside, zerolog.Nop())
	if w := watchFromEnv(outside, r, nil); w != nil || !strings.Contains(outside.Err().Error(), "ROUTES_FILE is not set") {
		t.Errorf("got %v, %v", w, outside.Err())
	}
}

func TestARefusalThatCannotBeReportedIsReportedLater(t *testing.T) {
	t.Parallel()
	var allowed atomic.Bool
	s := newAPIServer(t)
	s.refuse = func(r *http.Request) *metav1.Status {
		if strings.Contains(r.URL.Path, "/events") && !allowed.Load() {
			return failure(http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		return nil
	}
	s.start(t)
	p := startPod(t, s.config(), "")
	o := newOperator(t, s.config())
	o.apply(knativeService("bad", "nowhere"))
	eventually(t, "the log says that there is no Event", func() bool { return p.log.count("cannot write an Event about a refusal") > 0 })
	allowed.Store(true)
	o.apply(knativeService("good", "/2/good")) // any change starts another try
	eventually(t, "the Event", func() bool { return len(o.refusalEvents("bad")) == 1 })
	if n := p.log.count(`"reason":"RouteRefused"`); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestRoutesStayIfTheAPIServerRefuses(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	var forbidden atomic.Bool
	s.refuse = func(r *http.Request) *metav1.Status {
		if forbidden.Load() {
			return failure(http.StatusForbidden, metav1.StatusReasonForbidden)
		}
		return nil
	}
	s.start(t)
	p := startPod(t, s.config(), "")
	o := newOperator(t, s.config())
	o.apply(knativeService("tweet", "/2/tweets"))
	inForceSoon(t, "/2/tweets", func() bool { return p.targetName("/2/tweets") == "tweet" })
	forbidden.Store(true)
	s.stop()
	s.start(t)
	eventually(t, "the log says why", func() bool { return p.log.count("Forbidden by the test") > 0 })
	if p.targetName("/2/tweets") != "tweet" {
		t.Error("the last view is gone")
	}
}

func TestRoutesStayIfAnObjectCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.start(t)
	p := startPod(t, s.config(), "")
	o := newOperator(t, s.config())
	o.apply(knativeService("tweet", "/2/tweets"))
	inForceSoon(t, "/2/tweets", func() bool { return p.targetName("/2/tweets") == "tweet" })

	const usersPath = "/apis/serving.knative.dev/v1/namespaces/" + ns + "/services/users"
	put := func(address string) {
		users := knativeService("users", "/2/users")
		text, err := json.Marshal(users)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte("http://users."), []byte(address), 1)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.put("MODIFIED", usersPath, decoded(t, text))
	}
	put("http://%zz.")
	eventually(t, "the log says why", func() bool { return p.log.count("invalid URL escape") > 0 })
	if p.targetName("/2/tweets") != "tweet" {
		t.Error("the last view is gone")
	}
	put("http://users.")
	eventually(t, "/2/users", func() bool { return p.targetName("/2/users") == "users" })
}

func TestTargetOf(t *testing.T) {
	t.Parallel()
	before := &target{name: "tweet", routes: []string{"/old"}}
	tests := map[string]struct {
		change func(*servingv1.Service)
		want   []string // routes; nil for no target
		says   string
	}{
		"as it should be":        {func(*servingv1.Service) {}, []string{"/2/tweets"}, ""},
		"no annotation":          {func(s *servingv1.Service) { s.Annotations = nil }, nil, ""},
		"none":                   {func(s *servingv1.Service) { s.Annotations[manifest.RoutesAnnotation] = " none\n" }, nil, ""},
		"an empty annotation":    {func(s *servingv1.Service) { s.Annotations[manifest.RoutesAnnotation] = " " }, before.routes, "it is empty"},
		"a method":               {func(s *servingv1.Service) { s.Annotations[manifest.RoutesAnnotation] = "GET /2/tweets" }, before.routes, `route "GET": expected a path`},
		"a path twice":           {func(s *servingv1.Service) { s.Annotations[manifest.RoutesAnnotation] = "/a /a" }, []string{"/a", "/a"}, ""},
		"a path against itself":  {func(s *servingv1.Service) { s.Annotations[manifest.RoutesAnnotation] = "/{x}/a /b/{y}" }, before.routes, "conflicts with"},
		"no address yet":         {func(s *servingv1.Service) { s.Status.Address = nil }, before.routes, ""},
		"an address with no URL": {func(s *servingv1.Service) { s.Status.Address.URL = nil }, before.routes, ""},
		"an encrypted address":   {func(s *servingv1.Service) { s.Status.Address.URL.Scheme = "https" }, before.routes, `status.address.url: "https://tweet.warble.svc.cluster.local": expected http://host`},
		"an address of nobody":   {func(s *servingv1.Service) { s.Status.Address.URL.Host = "" }, before.routes, "status.address.url"},
		"a tag with no address":  {func(s *servingv1.Service) { s.Status.Traffic[1].URL = nil }, before.routes, "tag next"},
	}
	for name, tt := range tests {
		s := knativeService("tweet", "/2/tweets")
		tt.change(s)
		trimmed, err := trimService(s)
		if err != nil {
			t.Fatal(err)
		}
		to, err := targetOf(trimmed.(*servingv1.Service), before)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		var got []string
		if to != nil {
			got = to.routes
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestStreamsOfAService(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]time.Duration{120: 2 * time.Minute, 0: defaultSeconds * time.Second} {
		s := knativeService("account", "/auth/account /auth/export")
		s.Annotations[manifest.StreamsAnnotation] = "/auth/export"
		s.Spec.Template.Spec.TimeoutSeconds = &seconds
		trimmed, err := trimService(s)
		if err != nil {
			t.Fatal(err)
		}
		to, err := targetOf(trimmed.(*servingv1.Service), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]time.Duration{"/auth/export": want}, to.streams); diff != "" {
			t.Errorf("timeoutSeconds %d: %s", seconds, diff)
		}
	}
}

func TestGuestOf(t *testing.T) {
	t.Parallel()
	const shop = "shop.example.com"
	set := func(pairs ...string) func(*servingv1.Service) {
		return func(s *servingv1.Service) {
			for i := 0; i < len(pairs); i += 2 {
				s.Annotations[pairs[i]] = pairs[i+1]
			}
		}
	}
	tests := map[string]struct {
		change func(*servingv1.Service)
		want   *guest
		routes []string
		says   string
	}{
		"no guest":      {set(manifest.HostsAnnotation, shop), nil, []string{"/shop"}, ""},
		"a guest":       {set(manifest.Guest, "true"), &guest{timeout: 300 * time.Second}, []string{"/shop"}, ""},
		"by its label":  {func(s *servingv1.Service) { s.Labels = map[string]string{manifest.Guest: "true"} }, &guest{timeout: 300 * time.Second}, []string{"/shop"}, ""},
		"by hosts":      {set(manifest.Guest, "true", manifest.HostsAnnotation, "Shop.example.com www.example.com"), &guest{hosts: []string{shop, "www.example.com"}, timeout: 300 * time.Second}, []string{"/shop"}, ""},
		"by hosts only": {set(manifest.Guest, "true", manifest.HostsAnnotation, shop, manifest.RoutesAnnotation, "none"), &guest{hosts: []string{shop}, timeout: 300 * time.Second}, nil, ""},
		"with a limit":  {set(manifest.Guest, "true", manifest.RateLimitAnnotation, "100/1m"), &guest{limit: limit{100, time.Minute}, timeout: 300 * time.Second}, []string{"/shop"}, ""},
		"with a time": {func(s *servingv1.Service) {
			set(manifest.Guest, "true")(s)
			s.Spec.Template.Spec.TimeoutSeconds = new(int64(600))
		}, &guest{timeout: 600 * time.Second}, []string{"/shop"}, ""},
		"with one revision": {func(s *servingv1.Service) {
			set(manifest.Guest, "true")(s)
			s.Status.Traffic[0].RevisionName, s.Status.Traffic[0].Percent = "shop-00007", new(int64(100))
		}, &guest{timeout: 300 * time.Second, revision: "shop-00007"}, []string{"/shop"}, ""},
		"a host with a port": {set(manifest.Guest, "true", manifest.HostsAnnotation, shop+":80"), nil, nil, `"shop.example.com:80": expected host names without ports`},
		"a limit of nothing": {set(manifest.Guest, "true", manifest.RateLimitAnnotation, "many"), nil, nil, `warble.dev/rate-limit: "many": expected calls per window`},
		"nowhere":            {set(manifest.Guest, "true", manifest.RoutesAnnotation, "none"), nil, nil, ""},
	}
	for name, tt := range tests {
		s := knativeService("shop", "/shop")
		tt.change(s)
		trimmed, err := trimService(s)
		if err != nil {
			t.Fatal(err)
		}
		to, err := targetOf(trimmed.(*servingv1.Service), nil)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if to == nil {
			to = new(target)
		}
		if diff := cmp.Diff(tt.want, to.guest, cmp.AllowUnexported(guest{}, limit{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(tt.routes, to.routes); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFieldsThatAreNotReadAreNotKept(t *testing.T) {
	t.Parallel()
	s := knativeService("tweet", "/2/tweets")
	s.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "much"
	s.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	trimmed, err := trimService(s)
	if err != nil {
		t.Fatal(err)
	}
	want := knativeService("tweet", "/2/tweets")
	want.TypeMeta, want.Spec = metav1.TypeMeta{}, servingv1.ServiceSpec{}
	want.Status.Traffic = []servingv1.TrafficTarget{{Tag: "next", URL: want.Status.Traffic[1].URL, RevisionName: "tweet-00002"}}
	if diff := cmp.Diff(want, trimmed.(*servingv1.Service)); diff != "" {
		t.Error(diff)
	}
}
