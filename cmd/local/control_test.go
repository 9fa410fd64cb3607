package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/rollout"
)

// plane is a running control plane, with the clients of kn experiment and of an edge.
type plane struct {
	*testing.T
	state   state
	records *records
	config  *rest.Config
	cluster *knative.Cluster
	rest    *rest.RESTClient
	woken   atomic.Int64
	stop    func()
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{T: t, state: stateOf(t)}
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

// start serves the experiments of the state folder, and reads the kubeconfig like a client.
func (p *plane) start() {
	p.Helper()
	var err error
	if p.records, err = openRecords(p.state.path(keptFile)); err != nil {
		p.Fatal(err)
	}
	c, err := openControl(p.state, p.records, func() { p.woken.Add(1) })
	if err != nil {
		p.Fatal(err)
	}
	p.stop = c.serve(context.WithoutCancel(p.Context()))
	if p.config, err = clientcmd.BuildConfigFromFlags("", p.state.path(kubeconfig)); err != nil {
		p.Fatal(err)
	}
	if p.cluster, err = knative.New(p.config, namespace, nil); err != nil {
		p.Fatal(err)
	}
	client, err := rest.HTTPClientFor(p.config)
	if err != nil {
		p.Fatal(err)
	}
	if p.rest, err = knative.Client(p.config, client, rollout.GroupVersion, rollout.AddToScheme); err != nil {
		p.Fatal(err)
	}
}

func (p *plane) restart() {
	p.Helper()
	p.stop()
	p.start()
}

func (p *plane) create(change ...string) *rollout.Experiment {
	p.Helper()
	e := mustDemoFile(p.T, change...)
	e.Spec.Start = false
	if err := p.cluster.CreateExperiment(p.Context(), e); err != nil {
		p.Fatal(err)
	}
	return e
}

func (p *plane) get(name string) *rollout.Experiment {
	p.Helper()
	e, err := p.cluster.Experiment(p.Context(), name)
	if err != nil {
		p.Fatal(err)
	}
	return e
}

// send sends a request unchanged, and returns the Status of the refusal.
func (p *plane) send(method, path, media, token, body string) (code int, refusal metav1.Status) {
	p.Helper()
	request, err := http.NewRequestWithContext(p.Context(), method, p.config.Host+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	request.Header.Set("Content-Type", media)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	stranger, err := rest.HTTPClientFor(rest.AnonymousClientConfig(p.config))
	if err != nil {
		p.Fatal(err)
	}
	answer, err := stranger.Do(request)
	if err != nil {
		p.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(text, &refusal)
	}
	if err != nil {
		p.Errorf("%s %s: %v: %s", method, path, err, text)
	}
	return answer.StatusCode, refusal
}

func TestExperimentsAreKeptAsAnAPIServerKeepsThem(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	ctx := t.Context()
	n, err := p.cluster.Namespace(ctx)
	if err != nil || n.UID == "" || n.UID != string(p.records.read().Namespace) {
		t.Errorf("namespace %+v %v", n, err)
	}
	if all, err := p.cluster.Experiments(ctx); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
	if _, err := p.cluster.Experiment(ctx, "likes-demo"); !errors.Is(err, rollout.ErrNotFound) || !apierrors.IsNotFound(err) {
		t.Errorf("an unknown experiment: %v", err)
	}

	since := time.Now().Truncate(time.Second) // because a timestamp has whole seconds
	created := p.create()
	at := created.CreationTimestamp.Time
	if created.UID == "" || created.ResourceVersion == "" || created.Generation != 1 || at.Before(since) || at.After(time.Now()) || created.Namespace != namespace {
		t.Errorf("%+v", created.ObjectMeta)
	}
	if created.Spec.Alpha != .05 || created.Spec.Promote != "manual" {
		t.Errorf("it has no defaults: %+v", created.Spec)
	}
	if p.woken.Load() == 0 {
		t.Error("nobody was woken by a new experiment")
	}
	if err := p.cluster.CreateExperiment(ctx, mustDemoFile(t)); !apierrors.IsAlreadyExists(err) {
		t.Errorf("a second of the name: %v", err)
	}

	// A write of the status does not change the spec, and the other way round.
	e := created.DeepCopy()
	e.Spec.Alpha, e.Status.Message, e.Labels = .01, "nobody writes this", map[string]string{"team": "birds"}
	if err := p.cluster.UpdateExperiment(ctx, e); err != nil {
		t.Fatal(err)
	}
	if got := p.get(e.Name); got.Generation != 2 || got.Spec.Alpha != .01 || got.Status.Message != "" || got.Labels["team"] != "birds" || got.ResourceVersion == created.ResourceVersion ||
		got.UID != created.UID || !got.CreationTimestamp.Equal(&created.CreationTimestamp) {
		t.Errorf("%+v", got)
	}
	stale := created.DeepCopy()
	stale.Spec.Alpha = .02
	if err := p.cluster.UpdateExperiment(ctx, stale); !errors.Is(err, rollout.ErrConflict) || !apierrors.IsConflict(err) {
		t.Errorf("an update of what was read before another's: %v", err)
	}
	e = p.get(e.Name)
	e.Spec.Alpha, e.Status.Message = .03, "waits"
	if err := p.cluster.UpdateStatus(ctx, e); err != nil {
		t.Fatal(err)
	}
	if got := p.get(e.Name); got.Generation != 2 || got.Spec.Alpha != .01 || got.Status.Message != "waits" {
		t.Errorf("%+v", got)
	}
	if err := p.cluster.UpdateStatus(ctx, e); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("a status of what was read before another's: %v", err)
	}

	// A write that changes nothing makes no new version.
	e = p.get(e.Name)
	version := e.ResourceVersion
	if err := errors.Join(p.cluster.UpdateStatus(ctx, e), p.cluster.UpdateExperiment(ctx, e)); err != nil || p.get(e.Name).ResourceVersion != version {
		t.Errorf("%v, version %s after %s", err, p.get(e.Name).ResourceVersion, version)
	}

	// A wish is a merge patch, which checks the version too.
	e.Spec.Paused, e.Spec.By = true, "ada"
	if err := p.cluster.Wish(ctx, e); err != nil || e.Generation != 3 || !p.get(e.Name).Spec.Paused {
		t.Errorf("%v %+v", err, e)
	}
	e.Spec.Paused, e.Spec.By = false, ""
	if err := p.cluster.Wish(ctx, e); err != nil || p.get(e.Name).Spec.Paused || p.get(e.Name).Spec.By != "" || p.get(e.Name).Spec.Alpha != .01 {
		t.Errorf("taken back: %v %+v", err, p.get(e.Name).Spec)
	}
	e.ResourceVersion = version
	if err := p.cluster.Wish(ctx, e); !errors.Is(err, rollout.ErrConflict) {
		t.Errorf("a wish by what was read before another's: %v", err)
	}

	// Another run serves the same address, with the same token.
	before, host := p.get(e.Name), p.config.Host
	token := p.config.BearerToken
	p.restart()
	if diff := cmp.Diff(before, p.get(e.Name)); diff != "" || p.config.Host != host || p.config.BearerToken != token {
		t.Errorf("%s at %s after %s", diff, p.config.Host, host)
	}
	if info, err := os.Stat(p.state.path(kubeconfig)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}

	if err := p.cluster.DeleteExperiment(ctx, e.Name); err != nil {
		t.Fatal(err)
	}
	if err := p.cluster.DeleteExperiment(ctx, e.Name); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
	if err := p.cluster.UpdateExperiment(ctx, e); !errors.Is(err, rollout.ErrNotFound) {
		t.Errorf("an update of one that was deleted: %v", err)
	}
	if again := p.create(); again.UID == created.UID || again.Generation != 1 {
		t.Errorf("%+v is the one that was deleted", again.ObjectMeta)
	}
}

func TestRefusalsAreStatusesThatClientsUnderstand(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	e := p.create()
	text := func(change func(map[string]any)) string {
		present, err := p.records.get(e.Name) // what a client decodes has no apiVersion
		if err != nil {
			t.Fatal(err)
		}
		marshalled, err := json.Marshal(present)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(marshalled, &object); err != nil {
			t.Fatal(err)
		}
		change(object)
		if marshalled, err = json.Marshal(object); err != nil {
			t.Fatal(err)
		}
		return string(marshalled)
	}
	metadata := func(o map[string]any) map[string]any { return o["metadata"].(map[string]any) }
	spec := func(o map[string]any) map[string]any { return o["spec"].(map[string]any) }
	fresh := func(o map[string]any) { delete(metadata(o), "resourceVersion"); metadata(o)["name"] = "fresh" }
	const inJSON, patch = "application/json", "application/merge-patch+json"
	one, token := experimentsPath+"/"+e.Name, p.config.BearerToken
	woken := p.woken.Load()
	for name, tt := range map[string]struct {
		method, path, media, token, body string
		code                             int
		reason                           metav1.StatusReason
		says                             string
	}{
		"no token":         {"GET", experimentsPath, inJSON, "", "", 401, metav1.StatusReasonUnauthorized, "kubeconfig"},
		"another token":    {"DELETE", one, inJSON, "guessed", "", 401, metav1.StatusReasonUnauthorized, "kubeconfig"},
		"not there":        {"GET", experimentsPath + "/nobody", inJSON, token, "", 404, metav1.StatusReasonNotFound, `"nobody" not found`},
		"another kind":     {"GET", "/api/v1/namespaces/warble/pods", inJSON, token, "", 403, metav1.StatusReasonForbidden, "has only"},
		"another place":    {"GET", strings.Replace(experimentsPath, "s/warble/", "s/other/", 1), inJSON, token, "", 403, metav1.StatusReasonForbidden, "has only"},
		"all of them":      {"DELETE", experimentsPath, inJSON, token, "", 405, metav1.StatusReasonMethodNotAllowed, "DELETE"},
		"a dry run":        {"DELETE", one + "?dryRun=All", inJSON, token, "", 400, metav1.StatusReasonBadRequest, "dryRun"},
		"another's uid":    {"DELETE", one, inJSON, token, `{"preconditions": {"uid": "another"}}`, 409, metav1.StatusReasonConflict, "metadata.uid"},
		"no JSON":          {"POST", experimentsPath, inJSON, token, "{", 400, metav1.StatusReasonBadRequest, "not an Experiment"},
		"a form":           {"POST", experimentsPath, "application/x-www-form-urlencoded", token, "{}", 415, metav1.StatusReasonUnsupportedMediaType, "expected application/json"},
		"another patch":    {"PATCH", one, "application/json-patch+json", token, "[]", 415, metav1.StatusReasonUnsupportedMediaType, "expected " + patch},
		"too large":        {"POST", experimentsPath, inJSON, token, `{"x": "` + strings.Repeat("x", mostBody) + `"}`, 413, metav1.StatusReasonRequestEntityTooLarge, "1048576"},
		"labels":           {"GET", experimentsPath + "?labelSelector=a%3Db", inJSON, token, "", 400, metav1.StatusReasonBadRequest, "labelSelector"},
		"another field":    {"GET", experimentsPath + "?fieldSelector=spec.unit%3Duser", inJSON, token, "", 400, metav1.StatusReasonBadRequest, "spec.unit"},
		"too old":          {"GET", experimentsPath + "?watch=true&resourceVersion=99999", inJSON, token, "", 410, metav1.StatusReasonExpired, "too old resource version"},
		"no version":       {"GET", experimentsPath + "?watch=true&resourceVersion=x", inJSON, token, "", 400, metav1.StatusReasonBadRequest, "resourceVersion"},
		"streaming lists":  {"GET", experimentsPath + "?watch=true&sendInitialEvents=true", inJSON, token, "", 400, metav1.StatusReasonBadRequest, "sendInitialEvents"},
		"unknown field":    {"PUT", one, inJSON, token, text(func(o map[string]any) { spec(o)["unti"] = "user" }), 400, metav1.StatusReasonBadRequest, `unknown field "spec.unti"`},
		"unknown by patch": {"PATCH", one, patch, token, `{"spec": {"ramp": {"step": 3}}}`, 400, metav1.StatusReasonBadRequest, `unknown field "spec.ramp.step"`},
		"another version":  {"PUT", one, inJSON, token, text(func(o map[string]any) { o["apiVersion"] = "warble.dev/v2" }), 400, metav1.StatusReasonBadRequest, "warble.dev/v1alpha1"},
		"another folder":   {"PUT", one, inJSON, token, text(func(o map[string]any) { metadata(o)["namespace"] = "other" }), 400, metav1.StatusReasonBadRequest, "metadata.namespace"},
		"another name":     {"PUT", one, inJSON, token, text(func(o map[string]any) { metadata(o)["name"] = "other" }), 400, metav1.StatusReasonBadRequest, "metadata.name"},
		"another uid":      {"PUT", one, inJSON, token, text(func(o map[string]any) { metadata(o)["uid"] = "other" }), 409, metav1.StatusReasonConflict, "metadata.uid"},
		"unversioned":      {"PUT", one, inJSON, token, text(func(o map[string]any) { delete(metadata(o), "resourceVersion") }), 422, metav1.StatusReasonInvalid, "metadata.resourceVersion"},
		"a version of new": {"POST", experimentsPath, inJSON, token, text(func(o map[string]any) { metadata(o)["name"] = "fresh" }), 400, metav1.StatusReasonBadRequest, "metadata.resourceVersion"},
		"a finalizer": {"POST", experimentsPath, inJSON, token, text(func(o map[string]any) { fresh(o); metadata(o)["finalizers"] = []string{"a/b"} }),
			422, metav1.StatusReasonInvalid, "metadata.finalizers"},
		"an image": {"POST", experimentsPath, inJSON, token, text(func(o map[string]any) {
			fresh(o)
			spec(o)["treatment"] = map[string]any{"image": map[string]any{"like": "registry.example/like"}}
		}), 422, metav1.StatusReasonInvalid, "treatment.image: expected treatment.env"},
		"an image later": {"PATCH", one, patch, token, `{"spec": {"rebase": {"number": 1, "image": {"like": "registry.example/like"}}}}`, 422, metav1.StatusReasonInvalid, "rebase.image: expected none"},
		"requests":       {"PATCH", one, patch, token, `{"spec": {"unit": "request"}}`, 422, metav1.StatusReasonInvalid, "unit: request needs Knative's traffic split"},
		"a long name": {"POST", experimentsPath, inJSON, token, text(func(o map[string]any) { fresh(o); metadata(o)["name"] = strings.Repeat("x", 31) }),
			422, metav1.StatusReasonInvalid, "metadata.name"},
		"long names together": {"POST", experimentsPath, inJSON, token, text(func(o map[string]any) {
			fresh(o)
			metadata(o)["name"] = strings.Repeat("x", 30)
			spec(o)["services"], spec(o)["exposure"] = []string{strings.Repeat("y", 23)}, nil
		}), 422, metav1.StatusReasonInvalid, "53 characters together"},
		"an end taken": {"PATCH", one, patch, token, `{"spec": {"end": "Never"}}`, 422, metav1.StatusReasonInvalid, "end: "},
	} {
		code, refusal := p.send(tt.method, tt.path, tt.media, tt.token, tt.body)
		want := metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: tt.reason, Code: int32(tt.code)}
		got := refusal
		got.Message, got.Details = "", nil
		if diff := cmp.Diff(want, got); diff != "" || code != tt.code || !strings.Contains(refusal.Message, tt.says) {
			t.Errorf("%s: %d %q, want %d with %q %s", name, code, refusal.Message, tt.code, tt.says, diff)
		}
	}
	if p.woken.Load() != woken {
		t.Error("a request that was refused has woken the driver")
	}

	// All mistakes are listed together, each with its field.
	_, refusal := p.send("PATCH", one, patch, token, `{"spec": {"alpha": 2, "ramp": {"steps": [60]}, "promote": "maybe"}}`)
	var causes []string
	for _, cause := range refusal.Details.Causes {
		causes = append(causes, cause.Field)
	}
	if diff := cmp.Diff([]string{"promote", "ramp.steps[0]", "alpha"}, causes); diff != "" {
		t.Error(refusal.Message, diff)
	}
	stranger := rest.CopyConfig(p.config)
	stranger.BearerToken = "guessed"
	c, err := knative.New(stranger, namespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Experiments(t.Context()); !apierrors.IsUnauthorized(err) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := p.cluster.Services(t.Context(), nil); !apierrors.IsForbidden(err) {
		t.Errorf("Knative Services: %v", err)
	}
	if left := p.get(e.Name); left.ResourceVersion != e.ResourceVersion {
		t.Error("a refusal has changed it")
	}
}

// TestRefusedChangesAreThoseOfCheckChange in every phase, for everything that people may change.
func TestRefusedChangesAreThoseOfCheckChange(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	changes := map[string]func(*experiment.Spec){
		"nothing":       func(*experiment.Spec) {},
		"alpha":         func(s *experiment.Spec) { s.Alpha = .01 },
		"a service":     func(s *experiment.Spec) { s.Services = append(s.Services, "users") },
		"treatment":     func(s *experiment.Spec) { s.Treatment.Env = map[string]experiment.Value{"FEATURES": "other"} },
		"start":         func(s *experiment.Spec) { s.Start = true },
		"pause":         func(s *experiment.Spec) { s.Paused = true },
		"stop":          func(s *experiment.Spec) { s.End = experiment.Stopped },
		"roll back":     func(s *experiment.Spec) { s.End = experiment.RolledBack },
		"promote":       func(s *experiment.Spec) { s.End = experiment.Promoted },
		"go on":         func(s *experiment.Spec) { s.End = "" },
		"archive":       func(s *experiment.Spec) { s.Archive = true },
		"stop archive":  func(s *experiment.Spec) { s.Archive = false },
		"stop and more": func(s *experiment.Spec) { s.End, s.Power, s.Archive = experiment.Stopped, .9, false },
	}
	refused := 0
	for i, phase := range append(slices.Clone(experiment.Phases), "") {
		for j, end := range []experiment.End{"", experiment.Stopped, experiment.Promoted} {
			name := fmt.Sprintf("e%d-%d", i, j)
			e := p.create("name: likes-demo", "name: "+name)
			e.Spec.End, e.Spec.Archive = end, end == experiment.Stopped
			if err := p.cluster.UpdateExperiment(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			e = p.get(name)
			e.Status.Phase = phase
			if err := p.cluster.UpdateStatus(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			for what, change := range changes {
				present := p.get(name)
				changed := present.DeepCopy()
				change(&changed.Spec)
				want := experiment.CheckChange(phase, present.Spec, changed.Spec)
				err := p.cluster.UpdateExperiment(t.Context(), changed)
				switch {
				case want == nil && err == nil:
					back, err := p.records.replace(name, func(e *rollout.Experiment) (*rollout.Experiment, error) {
						e = e.DeepCopy()
						e.Spec = present.Spec
						return e, nil
					})
					if err != nil || !sameJSON(back.Spec, present.Spec) {
						t.Fatal(err)
					}
				case want == nil || err == nil || !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want.Error()):
					t.Errorf("%q, end %q, %s: %v, want %v", phase, end, what, err, want)
				default:
					refused++
				}
			}
		}
	}
	if refused < 50 {
		t.Errorf("%d were refused, which is fewer than the rules say", refused)
	}
}

// watching returns functions that list and watch like client-go.
func (p *plane) watching() *cache.ListWatch {
	return cache.NewListWatchFromClient(p.rest, rollout.Resource, namespace, fields.Everything())
}

func TestAnInformerSeesEveryChangeEvenAfterARestart(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	first := p.create()
	informer := cache.NewSharedIndexInformer(p.watching(), &rollout.Experiment{}, 0, nil)
	var mu sync.Mutex
	var seen []string
	see := func(what string, object any) {
		mu.Lock()
		defer mu.Unlock()
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		seen = append(seen, what+" "+object.(*rollout.Experiment).Name)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { see("added", o) },
		UpdateFunc: func(_, o any) { see("updated", o) },
		DeleteFunc: func(o any) { see("deleted", o) },
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { informer.RunWithContext(ctx) })
	defer running.Wait()
	defer cancel()
	heard := func(want ...string) {
		t.Helper()
		var got []string
		within(t, time.Minute, fmt.Sprint(want), func() bool {
			mu.Lock()
			defer mu.Unlock()
			got = slices.Clone(seen)
			return len(got) >= len(want)
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
	heard("added likes-demo")
	other := p.create("name: likes-demo", "name: other")
	heard("added likes-demo", "added other")
	first.Status.Message = "waits"
	if err := p.cluster.UpdateStatus(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	heard("added likes-demo", "added other", "updated likes-demo")
	p.restart()
	other.Spec.Paused = true
	if err := p.cluster.Wish(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := p.cluster.DeleteExperiment(t.Context(), "likes-demo"); err != nil {
		t.Fatal(err)
	}
	heard("added likes-demo", "added other", "updated likes-demo", "updated other", "deleted likes-demo")
}

func TestAWatchBeginsAtTheRequestedVersion(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	lister := p.watching()
	options := func(version string) metav1.ListOptions {
		limit := int64(60)
		return metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: &limit}
	}
	next := func(w watch.Interface) watch.Event {
		t.Helper()
		select {
		case e := <-w.ResultChan():
			return e
		case <-time.After(time.Minute):
			t.Fatal("nothing came")
			return watch.Event{}
		}
	}
	is := func(w watch.Interface, kind watch.EventType, name, version string) {
		t.Helper()
		e := next(w)
		o, ok := e.Object.(*rollout.Experiment)
		if !ok || e.Type != kind || o.Name != name || version != "" && o.ResourceVersion != version {
			t.Errorf("%s %+v, want %s %s at %s", e.Type, e.Object, kind, name, version)
		}
	}
	one := p.create()
	two := p.create("name: likes-demo", "name: two")

	all, err := lister.WatchWithContext(t.Context(), options("")) // all that is there, and then what changes
	if err != nil {
		t.Fatal(err)
	}
	defer all.Stop()
	is(all, watch.Added, one.Name, one.ResourceVersion)
	is(all, watch.Added, two.Name, two.ResourceVersion)
	later, err := lister.WatchWithContext(t.Context(), options(one.ResourceVersion)) // only what came after a version
	if err != nil {
		t.Fatal(err)
	}
	defer later.Stop()
	is(later, watch.Added, two.Name, two.ResourceVersion)
	named, err := cache.NewListWatchFromClient(p.rest, rollout.Resource, namespace, fields.OneTermEqualSelector("metadata.name", "two")).WatchWithContext(t.Context(), options(""))
	if err != nil {
		t.Fatal(err)
	}
	defer named.Stop()
	is(named, watch.Added, two.Name, "")

	if err := errors.Join(p.cluster.DeleteExperiment(t.Context(), one.Name), p.cluster.DeleteExperiment(t.Context(), two.Name)); err != nil {
		t.Fatal(err)
	}
	for _, w := range []watch.Interface{all, later} {
		is(w, watch.Deleted, one.Name, "3")
		is(w, watch.Deleted, two.Name, "4")
	}
	is(named, watch.Deleted, two.Name, "4")

	// A version that is too old, or of another state folder: the client has to list again.
	for range mostChanges + 1 {
		p.records.mu.Lock()
		p.records.changes = append(p.records.changes, change{version: p.records.kept.Version})
		p.records.mu.Unlock()
	}
	p.create()
	for _, version := range []string{one.ResourceVersion, "1000000"} {
		if w, err := lister.WatchWithContext(t.Context(), options(version)); !apierrors.IsResourceExpired(err) {
			t.Errorf("version %s: %v %v", version, w, err)
		}
	}
	if _, err := lister.ListWithContext(t.Context(), options("")); err != nil {
		t.Error(err)
	}

	short := int64(1)
	brief, err := lister.WatchWithContext(t.Context(), metav1.ListOptions{TimeoutSeconds: &short})
	if err != nil {
		t.Fatal(err)
	}
	is(brief, watch.Added, one.Name, "")
	within(t, time.Minute, "the end of a watch whose time is over", func() bool {
		select {
		case _, open := <-brief.ResultChan():
			return !open
		default:
			return false
		}
	})
	p.stop()
	within(t, time.Minute, "the end of the watches with the run", func() bool {
		select {
		case _, open := <-all.ResultChan():
			return !open
		default:
			return false
		}
	})
}

func TestMergeIsThatOfRFC7396(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{ // RFC 7396, appendix A
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `null`, `null`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		var document, patch any
		if err := errors.Join(json.Unmarshal([]byte(tt[0]), &document), json.Unmarshal([]byte(tt[1]), &patch)); err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(merge(document, patch)); err != nil || !bytes.Equal(got, []byte(tt[2])) {
			t.Errorf("%s by %s: %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}
}
