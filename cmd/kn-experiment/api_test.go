package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// api is an API server with the paths that the verbs use. It also plays steer: before it answers a read of an experiment, it calls
// react, which may change the experiment's status.
type api struct {
	*httptest.Server
	react func(e *rollout.Experiment, reads int) // nil for a steer that does nothing

	mu        sync.Mutex
	kept      map[string]*rollout.Experiment
	reads     map[string]int // of each experiment
	version   int
	conflicts int    // how many of the next writes fail, because somebody else has written first
	forbidden string // a resource that nobody may read
	invalid   string // if not empty, the error for every change
	services  []any
	metrics   []rollout.Metric
	database  string   // the verbs' DATABASE_URL
	requests  []string // every write, with its body
}

var experimentsResource = schema.GroupResource{Group: rollout.GroupVersion.Group, Resource: rollout.Resource}

func newAPI(t *testing.T, react func(e *rollout.Experiment, reads int)) *api {
	t.Helper()
	a := &api{react: react, kept: make(map[string]*rollout.Experiment), reads: make(map[string]int)}
	mux := http.NewServeMux()
	const experiments = "/apis/warble.dev/v1alpha1/namespaces/warble/experiments"
	for pattern, handle := range map[string]func(r *http.Request) (any, error){
		"GET " + experiments:               a.list,
		"POST " + experiments:              a.create,
		"GET " + experiments + "/{name}":   a.get,
		"PUT " + experiments + "/{name}":   a.update,
		"PATCH " + experiments + "/{name}": a.patch,
		"DELETE " + experiments + "/{name}": func(r *http.Request) (any, error) {
			delete(a.kept, r.PathValue("name"))
			return metav1.Status{Status: metav1.StatusSuccess}, nil
		},
		"GET /apis/warble.dev/v1alpha1/namespaces/warble/metrics": func(*http.Request) (any, error) {
			return rollout.MetricList{TypeMeta: metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: "MetricList"}, Items: a.metrics}, nil
		},
		"GET /apis/serving.knative.dev/v1/namespaces/warble/services": func(*http.Request) (any, error) {
			if a.forbidden == "services" {
				return nil, apierrors.NewForbidden(schema.GroupResource{Group: "serving.knative.dev", Resource: "services"}, "", errors.New("no"))
			}
			return map[string]any{"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "items": a.services}, nil
		},
		"GET /apis/serving.knative.dev/v1/namespaces/warble/revisions/{name}": func(r *http.Request) (any, error) {
			return map[string]any{
				"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": map[string]any{"name": r.PathValue("name")},
				"status": map[string]any{"containerStatuses": []any{map[string]any{"imageDigest": "registry.test/like@sha256:1"}}},
			}, nil
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			a.mu.Lock()
			defer a.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			answer, err := handle(r)
			var status apierrors.APIStatus
			if errors.As(err, &status) {
				failure := status.Status()
				failure.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
				w.WriteHeader(int(failure.Code))
				answer = failure
			}
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				t.Error(err)
			}
		})
	}
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

// keep stores an experiment.
func (a *api) keep(e *rollout.Experiment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(e)
}

func (a *api) put(e *rollout.Experiment) {
	a.version++
	e.ResourceVersion = strconv.Itoa(a.version)
	if e.UID == "" {
		e.UID, e.Generation = types.UID(fmt.Sprint("uid-", a.version)), max(e.Generation, 1)
	}
	e.Namespace = "warble"
	a.kept[e.Name] = withKind(e)
}

func (a *api) list(*http.Request) (any, error) {
	list := rollout.ExperimentList{TypeMeta: metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: "ExperimentList"}}
	for _, e := range a.kept {
		list.Items = append(list.Items, *e)
	}
	return list, nil
}

func (a *api) get(r *http.Request) (any, error) {
	name := r.PathValue("name")
	e := a.kept[name]
	if e == nil {
		return nil, apierrors.NewNotFound(experimentsResource, name)
	}
	if a.reads[name]++; a.react != nil {
		next := e.DeepCopy()
		a.react(next, a.reads[name])
		if !reflect.DeepEqual(next, e) {
			a.put(next)
			e = next
		}
	}
	return e, nil
}

// log records a write. It returns a conflict if one was ordered.
func (a *api) log(r *http.Request, text []byte) error {
	a.requests = append(a.requests, fmt.Sprintf("%s %s", r.Method, text))
	if a.conflicts > 0 {
		a.conflicts--
		if e := a.kept[r.PathValue("name")]; e != nil {
			a.put(e.DeepCopy())
		}
		return apierrors.NewConflict(experimentsResource, r.PathValue("name"), errors.New("the object has been modified"))
	}
	return nil
}

func (a *api) create(r *http.Request) (any, error) {
	var e rollout.Experiment
	text, err := body(r, &e)
	if err != nil {
		return nil, err
	}
	if err := a.log(r, text); err != nil {
		return nil, err
	}
	if a.kept[e.Name] != nil {
		return nil, apierrors.NewAlreadyExists(experimentsResource, e.Name)
	}
	a.put(&e)
	return &e, nil
}

func (a *api) update(r *http.Request) (any, error) {
	var e rollout.Experiment
	text, err := body(r, &e)
	if err != nil {
		return nil, err
	}
	if err := a.log(r, text); err != nil {
		return nil, err
	}
	return a.change(&e)
}

func (a *api) patch(r *http.Request) (any, error) {
	var change map[string]any
	text, err := body(r, &change)
	if err != nil {
		return nil, err
	}
	if err := a.log(r, text); err != nil {
		return nil, err
	}
	before, err := json.Marshal(a.kept[r.PathValue("name")])
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(before, &object); err != nil {
		return nil, err
	}
	merge(object, change)
	after, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var e rollout.Experiment
	if err := json.Unmarshal(after, &e); err != nil {
		return nil, err
	}
	return a.change(&e)
}

// change replaces an experiment, except its status. It checks the resource version and the rules of the resource.
func (a *api) change(e *rollout.Experiment) (any, error) {
	before := a.kept[e.Name]
	if e.ResourceVersion != before.ResourceVersion {
		return nil, apierrors.NewConflict(experimentsResource, e.Name, errors.New("the object has been modified"))
	}
	err := experiment.CheckChange(before.Status.Phase, before.Spec, e.Spec)
	if a.invalid != "" {
		err = errors.New(a.invalid)
	}
	if err != nil {
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: err.Error(),
		}}
	}
	e.Status = before.Status
	if !reflect.DeepEqual(e.Spec, before.Spec) {
		e.Generation++
	}
	a.put(e)
	return e, nil
}

// merge applies a merge patch (RFC 7396).
func merge(object, change map[string]any) {
	for key, value := range change {
		more, ok := value.(map[string]any)
		switch inner, isObject := object[key].(map[string]any); {
		case value == nil:
			delete(object, key)
		case ok && isObject:
			merge(inner, more)
		default:
			object[key] = value
		}
	}
}

func body(r *http.Request, into any) ([]byte, error) {
	var text bytes.Buffer
	if _, err := text.ReadFrom(r.Body); err != nil {
		return nil, err
	}
	return text.Bytes(), json.Unmarshal(text.Bytes(), into)
}

// service returns a Knative Service that is ready and may be in an experiment.
func service(name string, env ...any) any {
	all := []any{map[string]any{"latestRevision": true, "percent": 100, "revisionName": name + "-00007"}}
	return map[string]any{
		"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": name, "generation": 1},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": "ko://like", "env": env}}}}},
		"status": map[string]any{
			"observedGeneration": 1, "latestCreatedRevisionName": name + "-00007", "latestReadyRevisionName": name + "-00007",
			"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}, "traffic": all,
		},
	}
}

// run runs a verb against the server, with short timeouts, and returns its output and exit code.
func (a *api) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	s := a.settings(t)
	var out, said bytes.Buffer
	code = s.run(t.Context(), append([]string{"--kubeconfig", s.File, "--by", "ada"}, args...), &out, &said)
	return out.String(), said.String(), code
}

// settings returns settings with a kubeconfig for the server.
func (a *api) settings(t *testing.T) *settings {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "it", "clusters": [{"name": "it", "cluster": {"server": %q}}],
		"users": [{"name": "it", "user": {"token": "secret"}}], "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "warble"}}]}`, a.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &settings{databaseURL: a.database, pace: pace{every: 5 * time.Millisecond, unseen: 500 * time.Millisecond, patience: 30 * time.Millisecond}}
	s.File = file
	return s
}

// experiment returns an experiment as the server has it, nil if it does not exist.
func (a *api) experiment(name string) *rollout.Experiment {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept[name]
}

// writes returns the writes with a method, or all writes if method is empty.
func (a *api) writes(method string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.requests), func(request string) bool { return !strings.HasPrefix(request, method) })
}
