package knative_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// write returns the only write, without its body, and decodes the body.
func (a *api) write(t *testing.T, body any) (request string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.requests) != 1 {
		t.Fatalf("%d writes, expected one: %q", len(a.requests), a.requests)
	}
	at := strings.Index(a.requests[0], " {")
	if err := json.Unmarshal([]byte(a.requests[0][at:]), body); err != nil {
		t.Fatalf("%s: %v", a.requests[0], err)
	}
	return a.requests[0][:at]
}

// owned is the metadata of an object that Kubernetes deletes together with the experiment likes.
func owned(name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: name, Namespace: "warble", Labels: map[string]string{"warble.dev/experiment": "likes"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "warble.dev/v1alpha1", Kind: "Experiment", Name: "likes", UID: "1", Controller: &yes, BlockOwnerDeletion: &yes}},
	}
}

// deployed is a revision as Knative makes it of a Service.
const deployed = `{"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": {
	"name": "tweet-00001", "uid": "uid-of-the-revision", "resourceVersion": "5", "generation": 1,
	"labels": {"warble.dev/service": "old", "team": "posts", "serving.knative.dev/service": "tweet", "serving.knative.dev/configuration": "tweet", "serving.knative.dev/routingState": "active"},
	"annotations": {"autoscaling.knative.dev/max-scale": "3", "serving.knative.dev/creator": "ada", "client.knative.dev/user-image": "registry.test/tweet:1"},
	"ownerReferences": [{"apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "name": "tweet", "uid": "uid-of-the-configuration", "controller": true}]},
	"spec": {"serviceAccountName": "tweet", "timeoutSeconds": 40, "containerConcurrency": 80, "containers": [{"image": "registry.test/tweet:1", "env": [
		{"name": "FEATURES", "value": ""}, {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "warble-database-api", "key": "url"}}}]}]},
	"status": {"containerStatuses": [{"name": "user-container", "imageDigest": "registry.test/tweet@sha256:1"}]}}`

// treatment is an arm, and the Configuration that it becomes.
func treatment() (rollout.Arm, servingv1.Configuration) {
	arm := rollout.Arm{
		Service: "tweet", Arm: experiment.Treatment, Base: "tweet-00001", Image: "registry.test/tweet@sha256:2", Source: "tweet-00001/1",
		Env: map[string]string{"FEATURES": "likes", experiment.EnvService: "tweet", experiment.EnvExperiment: "likes", experiment.EnvArm: "treatment"},
	}
	want := servingv1.Configuration{TypeMeta: metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Configuration"}, ObjectMeta: owned("likes-tweet-treatment")}
	want.Annotations = map[string]string{"warble.dev/of": "tweet-00001/1"}
	timeout, concurrency := int64(40), int64(80)
	template := &want.Spec.Template
	template.Labels = map[string]string{"warble.dev/service": "tweet", "team": "posts"}
	template.Annotations = map[string]string{"autoscaling.knative.dev/max-scale": "3"}
	template.Spec.TimeoutSeconds, template.Spec.ContainerConcurrency = &timeout, &concurrency
	template.Spec.ServiceAccountName = "tweet"
	template.Spec.Containers = []corev1.Container{{Image: "registry.test/tweet@sha256:2", Env: []corev1.EnvVar{
		{Name: "FEATURES", Value: "likes"},
		{Name: "DATABASE_URL", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "warble-database-api"}, Key: "url"}}},
		{Name: "WARBLE_ARM", Value: "treatment"}, {Name: "WARBLE_EXPERIMENT", Value: "likes"}, {Name: "WARBLE_SERVICE", Value: "tweet"},
	}}}
	return arm, want
}

// An arm is created as a whole, without apply and without force, so that it never takes over an object of somebody else. It has nothing
// that ties it to the Service: no revision name, none of Knative's labels, none of the Service's owners.
func TestAnArmIsCreatedAsACopyOfItsBase(t *testing.T) {
	t.Parallel()
	arm, want := treatment()
	a, cluster := serve(t, map[string]answer{"GET revisions/tweet-00001": {http.StatusOK, deployed}, "POST configurations": {http.StatusCreated, `{}`}})
	if err := cluster.MakeArm(t.Context(), likes, arm); err != nil {
		t.Fatal(err)
	}
	var sent servingv1.Configuration
	if request := a.write(t, &sent); request != "POST configurations" {
		t.Errorf("sent by %s: expected one that creates it", request)
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}
}

// A rebase replaces the arm in the version that was read. Everything but the arm itself stays.
func TestARebaseReplacesTheArmThatWasRead(t *testing.T) {
	t.Parallel()
	arm, want := treatment()
	const name = "likes-tweet-treatment"
	a, cluster := serve(t, map[string]answer{
		"GET revisions/tweet-00001": {http.StatusOK, deployed}, "POST configurations": exists,
		"GET configurations/" + name: object("Configuration", name, ours+present+`, "labels": {"warble.dev/experiment": "likes", "team": "posts"}`),
		"PUT configurations/" + name: {http.StatusOK, `{}`},
	})
	if err := cluster.MakeArm(t.Context(), likes, arm); err != nil {
		t.Fatal(err)
	}
	a.requests = a.requests[1:] // the attempt to create it
	var sent servingv1.Configuration
	if request := a.write(t, &sent); request != "PUT configurations/"+name {
		t.Errorf("sent by %s: expected one that replaces it", request)
	}
	if sent.ResourceVersion != "7" || sent.UID != "uid-of-it" {
		t.Errorf("version %q of %q: expected those that were read", sent.ResourceVersion, sent.UID)
	}
	if diff := cmp.Diff(map[string]string{"warble.dev/experiment": "likes", "team": "posts"}, sent.Labels); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want.Annotations, sent.Annotations); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want.Spec, sent.Spec); diff != "" {
		t.Error(diff)
	}
}

// The route to the arms is cluster-local, so that nobody outside can choose an arm. It names revisions, and follows no newer one.
func TestTheRouteToTheArmsIsClusterLocalAndNamesRevisions(t *testing.T) {
	t.Parallel()
	const name = "likes-tweet"
	traffic := func(percent int64) []servingv1.TrafficTarget {
		no, rest := false, 100-percent
		return []servingv1.TrafficTarget{
			{Tag: "control", RevisionName: "likes-tweet-control-00001", LatestRevision: &no, Percent: &rest},
			{Tag: "treatment", RevisionName: "likes-tweet-treatment-00001", LatestRevision: &no, Percent: &percent},
		}
	}
	route := route
	route.Percent = 50
	want := servingv1.Route{TypeMeta: metav1.TypeMeta{APIVersion: "serving.knative.dev/v1", Kind: "Route"}, ObjectMeta: owned(name)}
	want.Labels["networking.knative.dev/visibility"] = "cluster-local"
	want.Spec.Traffic = traffic(50)
	a, cluster := serve(t, map[string]answer{"POST routes": {http.StatusCreated, `{}`}})
	if err := cluster.PutRoute(t.Context(), likes, route); err != nil {
		t.Fatal(err)
	}
	var sent servingv1.Route
	if request := a.write(t, &sent); request != "POST routes" {
		t.Errorf("sent by %s: expected one that creates it", request)
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}

	route.Percent = 100
	const local = `, "labels": {"warble.dev/experiment": "likes", "networking.knative.dev/visibility": "cluster-local"}`
	a, cluster = serve(t, map[string]answer{"POST routes": exists, "GET routes/" + name: object("Route", name, ours+local), "PUT routes/" + name: {http.StatusOK, `{}`}})
	if err := cluster.PutRoute(t.Context(), likes, route); err != nil {
		t.Fatal(err)
	}
	a.requests = a.requests[1:] // the attempt to create it
	var changed servingv1.Route
	if request := a.write(t, &changed); request != "PUT routes/"+name {
		t.Errorf("sent by %s: expected one that replaces it", request)
	}
	if changed.ResourceVersion != "7" || changed.UID != "uid-of-it" {
		t.Errorf("version %q of %q: expected those that were read", changed.ResourceVersion, changed.UID)
	}
	if diff := cmp.Diff(want.Labels, changed.Labels); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(traffic(100), changed.Spec.Traffic); diff != "" {
		t.Error(diff)
	}
}

// A promotion changes only the variables and the image of the Service that was read, as the field manager warble-steer.
func TestAPromotionWritesOnlyTheTreatment(t *testing.T) {
	t.Parallel()
	const before = `{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "tweet", "namespace": "warble", "uid": "uid-of-it", "resourceVersion": "7", "labels": {"team": "posts"}},
		"spec": {"template": {"metadata": {"name": "tweet-00001", "labels": {"warble.dev/service": "tweet"}}, "spec": {"timeoutSeconds": 40, "containers": [{"image": "registry.test/tweet:1", "env": [{"name": "FEATURES", "value": ""}, {"name": "OTHER", "value": "1"}]}]}},
		"traffic": [{"latestRevision": true, "percent": 100}]}}`
	a, cluster := serve(t, map[string]answer{"GET services": listOf("Service", before), "PUT services/tweet?fieldManager=warble-steer": {http.StatusOK, `{}`}})
	all, err := cluster.Services(t.Context(), nil)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := cluster.GiveTreatment(t.Context(), all[0], map[string]string{"FEATURES": "likes"}, "registry.test/tweet@sha256:2"); err != nil {
		t.Fatal(err)
	}
	var want, sent servingv1.Service
	if err := json.Unmarshal([]byte(before), &want); err != nil {
		t.Fatal(err)
	}
	want.Spec.Template.Name = "" // Knative makes a new one
	container := want.Spec.Template.Spec.GetContainer()
	container.Image, container.Env[0].Value = "registry.test/tweet@sha256:2", "likes"
	if request := a.write(t, &sent); request != "PUT services/tweet?fieldManager=warble-steer" {
		t.Errorf("sent by %s", request)
	}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Error(diff)
	}
}

// kubectl describe shows the Events of an experiment. Kubernetes finds them by the UID, so an earlier experiment of that name has others.
func TestAnEventNamesItsExperiment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		event      rollout.Event
		kind, says string
	}{
		"a transition": {rollout.Event{Reason: "Running", Message: "Running, step 1/3 10%: every arm answers"}, corev1.EventTypeNormal, "Running, step 1/3 10%: every arm answers"},
		"a warning":    {rollout.Event{Reason: "Refused", Message: strings.Repeat("x", 2000), Warning: true}, corev1.EventTypeWarning, strings.Repeat("x", 1024)},
	} {
		a, cluster := serve(t, map[string]answer{"POST events": {http.StatusCreated, `{}`}})
		if err := cluster.RecordEvent(t.Context(), likes, c.event); err != nil {
			t.Fatal(err)
		}
		var sent corev1.Event
		if request := a.write(t, &sent); request != "POST events" || !strings.HasPrefix(sent.Name, "likes.") || sent.FirstTimestamp.IsZero() || !sent.LastTimestamp.Equal(&sent.FirstTimestamp) {
			t.Errorf("%s: sent by %s: %+v", name, request, sent)
		}
		want := corev1.Event{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, ObjectMeta: metav1.ObjectMeta{Namespace: "warble", Name: sent.Name},
			InvolvedObject: corev1.ObjectReference{APIVersion: "warble.dev/v1alpha1", Kind: "Experiment", Namespace: "warble", Name: "likes", UID: "1", ResourceVersion: "3"},
			Type:           c.kind, Reason: c.event.Reason, Message: c.says, Source: corev1.EventSource{Component: "steer"}, ReportingController: "warble.dev/steer",
			FirstTimestamp: sent.FirstTimestamp, LastTimestamp: sent.LastTimestamp, Count: 1,
		}
		if diff := cmp.Diff(want, sent); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
