package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingfake "knative.dev/serving/pkg/client/clientset/versioned/fake"

	"warble/shared/experiment"
)

// fakeKnative has these of Knative's objects; of Kubernetes' it has the pods of revision r, and keeps one lease.
func fakeKnative(t *testing.T, objects *servingfake.Clientset, pods ...corev1.Pod) *Knative {
	t.Helper()
	var lease []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/api/v1/namespaces/warble/pods" && r.FormValue("labelSelector") == serving.RevisionLabelKey+"=r":
			_ = json.NewEncoder(w).Encode(corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: pods})
			return
		case r.Method == http.MethodPost && lease == nil && r.URL.Path == "/apis/coordination.k8s.io/v1/namespaces/warble/leases",
			r.Method == http.MethodPut && lease != nil && r.URL.Path == leasePath:
			lease, _ = io.ReadAll(r.Body)
		case r.Method != http.MethodGet || lease == nil || r.URL.Path != leasePath:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`))
			return
		}
		_, _ = w.Write(lease)
	}))
	t.Cleanup(server.Close)
	k, err := NewKnative(&rest.Config{Host: server.URL}, "warble", "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	k.knative = objects.ServingV1()
	return k
}

const leasePath = "/apis/coordination.k8s.io/v1/namespaces/warble/leases/experiment-likes"

func container(env ...corev1.EnvVar) servingv1.RevisionTemplateSpec {
	t := servingv1.RevisionTemplateSpec{}
	t.Annotations = map[string]string{"autoscaling.knative.dev/max-scale": "20"}
	t.Spec.Containers = []corev1.Container{{Image: "registry.test/like", Env: env}}
	return t
}

var secret = corev1.EnvVar{Name: "DATABASE_URL", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "url"}}}

// An arm differs from what it is made of in what was asked for, and in nothing else; and what is put back is what was.
func TestATemplateKeepsWhatItDoesNotShow(t *testing.T) {
	t.Parallel()
	found := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: "like", Namespace: "warble", Generation: 2}}
	found.Spec.Template = container(secret, corev1.EnvVar{Name: "FEATURES"}, corev1.EnvVar{Name: "KEEP", Value: "1"})
	latest, all := true, int64(100)
	found.Spec.Traffic = []servingv1.TrafficTarget{{LatestRevision: &latest, Percent: &all}}
	k := fakeKnative(t, servingfake.NewSimpleClientset(found.DeepCopy()))
	s, err := k.Service(t.Context(), "like")
	if err != nil {
		t.Fatal(err)
	}
	before := s.Template
	s.Template.Env = map[string]string{"FEATURES": "likes", "KEEP": "1", "ARM": "treatment"}
	s.Template.Revision = "like-likes-treatment-12345"
	s.Traffic = []Target{{Revision: "like-00001", Percent: 100}, {Tag: "likes-treatment", Revision: "t"}}
	if err := k.UpdateService(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	got, err := k.knative.Services("warble").Get(t.Context(), "like", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := container(secret, corev1.EnvVar{Name: "FEATURES", Value: "likes"}, corev1.EnvVar{Name: "KEEP", Value: "1"}, corev1.EnvVar{Name: "ARM", Value: "treatment"})
	want.Name = "like-likes-treatment-12345"
	if diff := cmp.Diff(want, got.Spec.Template); diff != "" {
		t.Error(diff)
	}
	if s, err = k.Service(t.Context(), "like"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Target{{Revision: "like-00001", Percent: 100}, {Tag: "likes-treatment", Revision: "t"}}, s.Traffic); diff != "" {
		t.Error(diff)
	}
	s.Template, s.Traffic = before, []Target{{Latest: true, Percent: 100}}
	if err := k.UpdateService(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got, err = k.knative.Services("warble").Get(t.Context(), "like", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(found.Spec, got.Spec); diff != "" {
		t.Error(diff)
	}
	if _, err := k.Service(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want %v", err, ErrNotFound)
	}
}

// A Service is where its status says it is only once that is of its newest generation.
func TestAServiceIsAsItsStatusSaysOnceThatIsOfItsSpec(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		observed        int64
		ready           string
		configured      corev1.ConditionStatus
		routed          corev1.ConditionStatus
		current, follow bool
	}{
		{3, "like-00002", corev1.ConditionTrue, corev1.ConditionTrue, true, true},
		{2, "like-00002", corev1.ConditionTrue, corev1.ConditionTrue, false, false},
		{3, "like-00001", corev1.ConditionTrue, corev1.ConditionTrue, false, true},
		{3, "like-00002", corev1.ConditionUnknown, corev1.ConditionTrue, false, true},
		{3, "like-00002", corev1.ConditionTrue, corev1.ConditionUnknown, true, false},
	} {
		found := &servingv1.Service{ObjectMeta: metav1.ObjectMeta{Name: "like", Namespace: "warble", Generation: 3}}
		found.Spec.Template = container()
		found.Status.ObservedGeneration = c.observed
		found.Status.LatestCreatedRevisionName, found.Status.LatestReadyRevisionName = "like-00002", c.ready
		found.Status.Conditions = duckv1.Conditions{{Type: servingv1.ServiceConditionConfigurationsReady, Status: c.configured}, {Type: servingv1.ServiceConditionRoutesReady, Status: c.routed}}
		s, err := fakeKnative(t, servingfake.NewSimpleClientset(found)).Service(t.Context(), "like")
		if err != nil || s.Current != c.current || s.Routed != c.follow || s.Ready != c.ready {
			t.Errorf("%+v: current %t, routed %t, %v", c, s.Current, s.Routed, err)
		}
	}
}

func TestARevisionThatFailsSaysWhatItsPodSays(t *testing.T) {
	t.Parallel()
	r := &servingv1.Revision{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "warble"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "warble", Labels: map[string]string{serving.RevisionLabelKey: "r"}}}
	see := func() Revision {
		t.Helper()
		got, err := fakeKnative(t, servingfake.NewSimpleClientset(r), *pod).Revision(t.Context(), "r")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}}
	if got := see(); got != (Revision{}) {
		t.Errorf("one that starts: %+v", got)
	}
	pod.Status.ContainerStatuses[0].State.Waiting.Reason = "CrashLoopBackOff"
	pod.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 2, Message: "line\nFEATURES is \"hearts\"\n"}
	if got := see(); got != (Revision{Failed: `(pod p: exit code 2: FEATURES is "hearts")`}) {
		t.Errorf("one that crashes: %+v", got)
	}
	r.Status.Conditions = duckv1.Conditions{{Type: apis.ConditionReady, Status: corev1.ConditionFalse, Reason: "ExitCode2", Message: "Container failed\nwith a long log"}}
	if got := see().Failed; got != `ExitCode2: Container failed (pod p: exit code 2: FEATURES is "hearts")` {
		t.Errorf("one that was given up: %s", got)
	}
	r.Status.Conditions[0].Status = corev1.ConditionTrue
	if got := see(); got != (Revision{Ready: true}) {
		t.Errorf("one that is ready: %+v", got)
	}
}

func TestALockIsOneHoldersUntilItIsReleasedOrPasses(t *testing.T) {
	t.Parallel()
	k := fakeKnative(t, servingfake.NewSimpleClientset())
	lock := func(life time.Duration) func() {
		t.Helper()
		release, err := k.Lock(t.Context(), "likes", life)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	release := lock(time.Minute)
	if _, err := k.Lock(t.Context(), "likes", time.Minute); !errors.Is(err, ErrLocked) {
		t.Errorf("%v, want %v", err, ErrLocked)
	}
	release()
	lock(0) // whose holder dies
	lock(time.Minute)()
}

// From outside a tag is asked through the API server, and by its own host.
func TestATagIsAskedThroughTheAPIServer(t *testing.T) {
	t.Parallel()
	const host = "likes-treatment-like.warble.svc.cluster.local"
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/services/likes-treatment-like") {
			_, _ = w.Write([]byte(`{"kind": "Service", "apiVersion": "v1", "spec": {"type": "ExternalName", "externalName": "private.traefik.svc.cluster.local"}}`))
			return
		}
		asked = r.Host + r.URL.Path
		w.Header().Set("X-Revision", "like-likes-treatment-12345")
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	ask, err := AskFromOutside(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	revision, err := ask(context.Background(), &url.URL{Scheme: "http", Host: host})
	if err != nil || revision != "like-likes-treatment-12345" {
		t.Errorf("%q %v", revision, err)
	}
	if want := host + "/api/v1/namespaces/traefik/services/http:private:80/proxy/"; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
}

// A wish changes nothing that a person has written, and is refused where somebody has written meanwhile.
func TestAWishIsAPatchOfRun(t *testing.T) {
	t.Parallel()
	sent := ""
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if status == http.StatusConflict {
			_, _ = w.Write([]byte(`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409}`))
			return
		}
		_, _ = w.Write([]byte(`{"kind": "Experiment", "apiVersion": "warble.dev/v1alpha1", "metadata": {"name": "likes", "resourceVersion": "8"}, "spec": {"salt": ""}}`))
	}))
	defer server.Close()
	k, err := NewKnative(&rest.Config{Host: server.URL}, "warble", "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &Experiment{ObjectMeta: metav1.ObjectMeta{Name: "likes", ResourceVersion: "7"}}
	e.Spec.Run.State, e.Spec.Run.By = experiment.Paused, "ada"
	if err := k.Want(t.Context(), e); err != nil || e.ResourceVersion != "8" {
		t.Fatal(err, e.ResourceVersion)
	}
	want := `PATCH /apis/warble.dev/v1alpha1/namespaces/warble/experiments/likes application/merge-patch+json ` +
		`{"metadata":{"resourceVersion":"7"},"spec":{"run":{"approved":0,"by":"ada","state":"Paused","step":0,"why":""}}}`
	if diff := cmp.Diff(want, strings.TrimSpace(sent)); diff != "" {
		t.Error(diff)
	}
	status = http.StatusConflict
	if err := k.Want(t.Context(), e); !errors.Is(err, ErrConflict) {
		t.Errorf("%v, want %v", err, ErrConflict)
	}
}
