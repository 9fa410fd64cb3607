package knative_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/rollout"
)

// What works is tested on the cluster. Here is what an API server answers when something does not.

// api answers each request, METHOD and path without what all have in front, as is said; what is not said is not found.
type api struct {
	*httptest.Server
	mu       sync.Mutex
	answers  map[string]answer
	requests []string // those that write, with their bodies
}

type answer struct {
	status int
	body   string
}

func serve(t *testing.T, answers map[string]answer) (*api, *knative.Cluster) {
	t.Helper()
	a := &api{answers: answers}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	cluster, err := knative.New(&rest.Config{Host: a.URL}, "warble", nil)
	if err != nil {
		t.Fatal(err)
	}
	return a, cluster
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	for _, prefix := range []string{"/apis/serving.knative.dev/v1/namespaces/warble/", "/apis/warble.dev/v1alpha1/namespaces/warble/", "/api/v1/namespaces/warble/", "/api/v1/"} {
		path = strings.TrimPrefix(path, prefix)
	}
	if r.URL.RawQuery != "" && r.Method != http.MethodGet { // a field manager, or force
		path += "?" + r.URL.RawQuery
	}
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Method != http.MethodGet {
		a.requests = append(a.requests, r.Method+" "+path+" "+string(body))
	}
	found, said := a.answers[r.Method+" "+path]
	if !said {
		found = status(http.StatusNotFound, metav1.StatusReasonNotFound)
	}
	w.Header().Set("Content-Type", "application/json")
	if strings.HasPrefix(found.body, "<") { // somebody before the API server
		w.Header().Set("Content-Type", "text/html")
	}
	w.WriteHeader(found.status)
	_, _ = io.WriteString(w, found.body)
}

// wrote are the writes, without their bodies.
func (a *api) wrote() (all []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, request := range a.requests {
		method, rest, _ := strings.Cut(request, " ")
		path, _, _ := strings.Cut(rest, " ")
		all = append(all, method+" "+path)
	}
	return all
}

func status(code int, reason metav1.StatusReason) answer {
	return answer{code, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": %q, "message": "the server says %s", "code": %d}`, reason, reason, code)}
}

var (
	conflict  = status(http.StatusConflict, metav1.StatusReasonConflict)
	exists    = status(http.StatusConflict, metav1.StatusReasonAlreadyExists)
	forbidden = status(http.StatusForbidden, metav1.StatusReasonForbidden)
	ok        = answer{http.StatusOK, `{"apiVersion": "v1", "kind": "Status", "status": "Success"}`}
	base      = answer{http.StatusOK, `{"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": {"name": "tweet-00001"},
		"spec": {"containers": [{"image": "registry.test/tweet@sha256:1", "env": [{"name": "FEATURES", "value": ""}]}]}}`}
)

// object returns a Configuration or Route as the server has it, with additional metadata.
func object(kind, name, metadata string) answer {
	return answer{http.StatusOK, fmt.Sprintf(`{"apiVersion": "serving.knative.dev/v1", "kind": %q, "metadata": {"name": %q, "uid": "uid-of-it", "resourceVersion": "7"%s}}`, kind, name, metadata)}
}

const (
	ours    = `, "ownerReferences": [{"apiVersion": "warble.dev/v1alpha1", "kind": "Experiment", "name": "likes", "uid": "1"}]`
	theirs  = `, "ownerReferences": [{"apiVersion": "warble.dev/v1alpha1", "kind": "Experiment", "name": "likes", "uid": "an earlier one"}]`
	present = `, "annotations": {"warble.dev/of": "tweet-00001/0"}`
	going   = `, "deletionTimestamp": "2026-11-24T10:00:00Z"`
)

var (
	likes = &rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: "likes", Namespace: "warble", UID: "1", ResourceVersion: "3"}, Spec: experiment.Spec{Services: []string{"tweet"}}}
	arm   = rollout.Arm{Service: "tweet", Arm: experiment.Control, Base: "tweet-00001", Image: "registry.test/tweet@sha256:1", Source: "tweet-00001/1"}
	route = rollout.Route{Service: "tweet", Control: "likes-tweet-control-00001", Treatment: "likes-tweet-treatment-00001", Percent: 50}
)

// call is what steer asks of a cluster.
type call func(context.Context, *knative.Cluster) error

// Steer repeats a move after a conflict, skips objects that are not found, and tells people about names that are taken. No other
// error may look like one of these.
func TestErrorsOfTheAPIServerAreDistinguished(t *testing.T) {
	t.Parallel()
	get := func(ctx context.Context, c *knative.Cluster) error { _, err := c.Experiment(ctx, "likes"); return err }
	list := func(ctx context.Context, c *knative.Cluster) error { _, err := c.Experiments(ctx); return err }
	services := func(ctx context.Context, c *knative.Cluster) error {
		_, err := c.Services(ctx, []string{"tweet"})
		return err
	}
	arms := func(ctx context.Context, c *knative.Cluster) error { _, err := c.Arms(ctx, likes); return err }
	update := func(ctx context.Context, c *knative.Cluster) error { return c.UpdateStatus(ctx, likes.DeepCopy()) }
	create := func(ctx context.Context, c *knative.Cluster) error { return c.CreateExperiment(ctx, likes.DeepCopy()) }
	wish := func(ctx context.Context, c *knative.Cluster) error { return c.Wish(ctx, likes.DeepCopy()) }
	makeArm := func(ctx context.Context, c *knative.Cluster) error { return c.MakeArm(ctx, likes, arm) }
	putRoute := func(ctx context.Context, c *knative.Cluster) error { return c.PutRoute(ctx, likes, route) }
	removeRoute := func(ctx context.Context, c *knative.Cluster) error { return c.RemoveRoute(ctx, likes, "tweet") }
	removeArms := func(ctx context.Context, c *knative.Cluster) error { return c.RemoveArms(ctx, likes, "tweet") }
	namespace := func(ctx context.Context, c *knative.Cluster) error { _, err := c.Namespace(ctx); return err }
	tell := func(ctx context.Context, c *knative.Cluster) error {
		return c.RecordEvent(ctx, likes, rollout.Event{Reason: "Running"})
	}
	const (
		control   = "configurations/likes-tweet-control"
		treatment = "configurations/likes-tweet-treatment"
		way       = "routes/likes-tweet"
	)
	none := errors.New("") // no sentinel
	// armIs and routeIs return what the server has under the name of an arm, and of the route to both.
	armIs := func(metadata string) map[string]answer {
		return map[string]answer{"GET revisions/tweet-00001": base, "POST configurations": exists, "GET " + control: object("Configuration", "likes-tweet-control", metadata)}
	}
	routeIs := func(metadata string) map[string]answer {
		return map[string]answer{"POST routes": exists, "GET " + way: object("Route", "likes-tweet", metadata)}
	}
	with := func(answers map[string]answer, request string, a answer) map[string]answer {
		answers[request] = a
		return answers
	}
	for name, c := range map[string]struct {
		call    call
		answers map[string]answer
		want    error  // nil for success
		says    string // of the error
		writes  string
	}{
		"an experiment that is gone":          {get, nil, rollout.ErrNotFound, "NotFound", ""},
		"a reader without rights":             {get, map[string]answer{"GET experiments/likes": forbidden}, none, "the server says Forbidden", ""},
		"a server that fails":                 {list, map[string]answer{"GET experiments": {http.StatusInternalServerError, `{}`}}, none, "", ""},
		"a proxy that answers in its place":   {get, map[string]answer{"GET experiments/likes": {http.StatusBadGateway, "<html>bad gateway</html>"}}, none, "", ""},
		"a resource that nobody has defined":  {list, nil, rollout.ErrNotFound, "", ""},
		"an answer that is no JSON":           {list, map[string]answer{"GET experiments": {http.StatusOK, `{"items": [`}}, none, "", ""},
		"an object of another type":           {get, map[string]answer{"GET experiments/likes": {http.StatusOK, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "likes"}}`}}, none, "Pod", ""},
		"a field of another type":             {get, map[string]answer{"GET experiments/likes": {http.StatusOK, `{"apiVersion": "warble.dev/v1alpha1", "kind": "Experiment", "spec": {"services": "tweet"}}`}}, none, "services", ""},
		"a duration that no release writes":   {list, map[string]answer{"GET experiments": {http.StatusOK, `{"apiVersion": "warble.dev/v1alpha1", "kind": "ExperimentList", "items": [{"spec": {"warmingDeadline": "soon"}}]}`}}, none, "expected a duration", ""},
		"a namespace without rights":          {namespace, map[string]answer{"GET namespaces/warble": forbidden}, none, "Forbidden", ""},
		"a status that somebody has written":  {update, map[string]answer{"PUT experiments/likes/status": conflict}, rollout.ErrConflict, "", "PUT experiments/likes/status"},
		"a status of one that is gone":        {update, nil, rollout.ErrNotFound, "", "PUT experiments/likes/status"},
		"a status without rights":             {update, map[string]answer{"PUT experiments/likes/status": forbidden}, none, "Forbidden", "PUT experiments/likes/status"},
		"an experiment of that name is there": {create, map[string]answer{"POST experiments": exists}, rollout.ErrConflict, "", "POST experiments"},
		"a wish on an older version":          {wish, map[string]answer{"PATCH experiments/likes": conflict}, rollout.ErrConflict, "", "PATCH experiments/likes"},
		"an Event without rights":             {tell, map[string]answer{"POST events": forbidden}, none, "Forbidden", "POST events"},

		"Services without rights":               {services, map[string]answer{"GET services": forbidden}, none, "Forbidden", ""},
		"a Service whose revision is gone":      {services, map[string]answer{"GET services": {http.StatusOK, `{"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "items": [{"metadata": {"name": "tweet"}, "status": {"latestReadyRevisionName": "tweet-00001"}}]}`}}, rollout.ErrNotFound, "", ""},
		"arms whose Configurations are hidden":  {arms, map[string]answer{"GET configurations": forbidden}, none, "Forbidden", ""},
		"arms whose Routes are hidden":          {arms, map[string]answer{"GET configurations": listOf("Configuration"), "GET routes": forbidden}, none, "Forbidden", ""},
		"an arm whose pods are hidden":          {arms, map[string]answer{"GET configurations": listOf("Configuration", unready), "GET routes": listOf("Route"), "GET pods": forbidden}, none, "Forbidden", ""},
		"the arm of a base that is gone":        {makeArm, nil, rollout.ErrNotFound, "", ""},
		"an arm without rights":                 {makeArm, map[string]answer{"GET revisions/tweet-00001": base, "POST configurations": forbidden}, none, "Forbidden", "POST configurations"},
		"an arm whose name is taken":            {makeArm, armIs(""), rollout.ErrTaken, "there is a Configuration likes-tweet-control", "POST configurations"},
		"an arm that an earlier experiment has": {makeArm, armIs(theirs), rollout.ErrTaken, "", "POST configurations"},
		"an arm that is being deleted":          {makeArm, armIs(ours + going), rollout.ErrConflict, "", "POST configurations"},
		"an arm that another steer has made":    {makeArm, armIs(ours + strings.Replace(present, "/0", "/1", 1)), rollout.ErrConflict, "", "POST configurations"},
		"an arm that went meanwhile":            {makeArm, map[string]answer{"GET revisions/tweet-00001": base, "POST configurations": exists}, rollout.ErrNotFound, "", "POST configurations"},
		"an arm that is written meanwhile":      {makeArm, with(armIs(ours+present), "PUT "+control, conflict), rollout.ErrConflict, "", "POST configurations, PUT " + control},

		"a route whose name is taken":       {putRoute, routeIs(theirs), rollout.ErrTaken, "there is a Route likes-tweet", "POST routes"},
		"a route that is being deleted":     {putRoute, routeIs(ours + going), rollout.ErrConflict, "", "POST routes"},
		"a route that is written meanwhile": {putRoute, with(routeIs(ours), "PUT "+way, conflict), rollout.ErrConflict, "", "POST routes, PUT " + way},
		"a way without rights":              {putRoute, map[string]answer{"POST routes": forbidden}, none, "Forbidden", "POST routes"},
		"a way that the webhook refuses":    {putRoute, map[string]answer{"POST routes": status(http.StatusBadRequest, metav1.StatusReasonBadRequest)}, none, "BadRequest", "POST routes"},
		"a way of somebody else stays":      {removeRoute, map[string]answer{"GET " + way: object("Route", "likes-tweet", theirs)}, nil, "", ""},
		"a way that is gone":                {removeRoute, nil, nil, "", ""},
		"a way that went meanwhile":         {removeRoute, map[string]answer{"GET " + way: object("Route", "likes-tweet", ours)}, nil, "", "DELETE " + way},
		"a way that was replaced":           {removeRoute, map[string]answer{"GET " + way: object("Route", "likes-tweet", ours), "DELETE " + way: conflict}, rollout.ErrConflict, "", "DELETE " + way},
		"arms of somebody else stay":        {removeArms, map[string]answer{"GET " + control: object("Configuration", "likes-tweet-control", theirs), "GET " + treatment: object("Configuration", "likes-tweet-treatment", "")}, nil, "", ""},
		"one arm that stays keeps no other": {removeArms, map[string]answer{"GET " + control: object("Configuration", "likes-tweet-control", ours), "DELETE " + control: forbidden, "GET " + treatment: object("Configuration", "likes-tweet-treatment", ours), "DELETE " + treatment: ok}, none, "Forbidden", "DELETE " + control + ", DELETE " + treatment},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, cluster := serve(t, c.answers)
			err := c.call(t.Context(), cluster)
			for _, known := range []error{rollout.ErrNotFound, rollout.ErrConflict, rollout.ErrTaken} {
				if errors.Is(err, known) != (c.want == known) {
					t.Errorf("%v: is %q: %t", err, known, errors.Is(err, known))
				}
			}
			if (err == nil) != (c.want == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v: expected %q in it", err, c.says)
			}
			if wrote := strings.Join(a.wrote(), ", "); wrote != c.writes {
				t.Errorf("wrote %s, want %s", wrote, c.writes)
			}
		})
	}
}

// unready is a Configuration whose revision does not get ready.
const unready = `{"metadata": {"name": "likes-tweet-control", "generation": 1` + ours + present + `}, "status": {"observedGeneration": 1, "latestCreatedRevisionName": "likes-tweet-control-00001"}}`

func listOf(kind string, items ...string) answer {
	return answer{http.StatusOK, fmt.Sprintf(`{"apiVersion": "serving.knative.dev/v1", "kind": "%sList", "items": [%s]}`, kind, strings.Join(items, ", "))}
}

// A deletion deletes only the object that was read, and not another one that has got its name since.
func TestADeletionNamesTheObjectThatWasRead(t *testing.T) {
	t.Parallel()
	a, cluster := serve(t, map[string]answer{"GET routes/likes-tweet": object("Route", "likes-tweet", ours), "DELETE routes/likes-tweet": ok})
	if err := cluster.RemoveRoute(t.Context(), likes, "tweet"); err != nil {
		t.Fatal(err)
	}
	if len(a.requests) != 1 || !strings.Contains(a.requests[0], `"preconditions":{"uid":"uid-of-it"}`) {
		t.Errorf("%q: expected the UID for a precondition", a.requests)
	}
}

// An incomplete or odd object is read as far as possible. It does not end a turn, and steer reads it again later.
func TestAnIncompleteObjectIsNotReady(t *testing.T) {
	t.Parallel()
	for name, configuration := range map[string]string{
		"a status of an earlier spec": `{"metadata": {"name": "likes-tweet-control", "generation": 2` + ours + present + `}, "status": {"observedGeneration": 1, "latestCreatedRevisionName": "likes-tweet-control-00001", "latestReadyRevisionName": "likes-tweet-control-00001"}}`,
		"no status":                   `{"metadata": {"name": "likes-tweet-control", "generation": 1` + ours + present + `}}`,
		"a revision without pods":     unready,
	} {
		_, cluster := serve(t, map[string]answer{
			"GET configurations": listOf("Configuration", configuration), "GET pods": {http.StatusOK, `{"apiVersion": "v1", "kind": "PodList", "items": []}`},
			"GET routes": listOf("Route", `{"metadata": {"name": "likes-tweet", "generation": 1`+ours+`}, "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}], "traffic": [{"tag": "control", "revisionName": "likes-tweet-control-00001"}]}}`),
		})
		arms, err := cluster.Arms(t.Context(), likes)
		if err != nil || arms["tweet"] == nil || arms["tweet"].Control == nil || arms["tweet"].Control.Ready || arms["tweet"].Control.Source != "tweet-00001/0" {
			t.Errorf("%s: %+v %v: expected an arm that is not ready", name, arms["tweet"], err)
		}
		if way := arms["tweet"].Route; way == nil || way.Reach.Control.Host != "" {
			t.Errorf("%s: the route leads to %+v: expected no host, for the status has no URL", name, way)
		}
	}
	for name, configuration := range map[string]string{
		"of an earlier experiment": `{"metadata": {"name": "likes-tweet-control"` + theirs + `}}`,
		"being deleted":            `{"metadata": {"name": "likes-tweet-control"` + ours + going + `}}`,
	} {
		_, cluster := serve(t, map[string]answer{"GET configurations": listOf("Configuration", configuration), "GET routes": listOf("Route")})
		if arms, err := cluster.Arms(t.Context(), likes); err != nil || len(arms) > 0 {
			t.Errorf("%s: %+v %v: expected none", name, arms, err)
		}
	}
	_, cluster := serve(t, map[string]answer{"GET services": listOf("Service", `{"metadata": {"name": "tweet"}, "spec": {"template": {"spec": {"containers": []}}}}`)})
	if all, err := cluster.Services(t.Context(), nil); err != nil || len(all) != 1 || all[0].Settled || all[0].Ready != "" {
		t.Errorf("a Service without a container: %+v %v: expected one that is not settled", all, err)
	}
}

// A call waits for a server that does not answer until the context of the caller ends, and no longer.
func TestACallOfASlowServerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	asked, over := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	cluster, err := knative.New(&rest.Config{Host: server.URL}, "warble", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]call{
		"reading":   func(ctx context.Context, c *knative.Cluster) error { _, err := c.Experiment(ctx, "likes"); return err },
		"Knative's": func(ctx context.Context, c *knative.Cluster) error { _, err := c.Arms(ctx, likes); return err },
		"writing":   func(ctx context.Context, c *knative.Cluster) error { return c.UpdateStatus(ctx, likes.DeepCopy()) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- call(ctx, cluster) }()
		<-asked
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) || slices.ContainsFunc([]error{rollout.ErrNotFound, rollout.ErrConflict, rollout.ErrTaken}, func(known error) bool { return errors.Is(err, known) }) {
				t.Errorf("%s: %v: expected that the call was canceled", name, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: still waits a minute after its call has ended", name)
		}
	}
}

// If the answer from an arm's host names no revision, no arm has answered. For example, an ingress answers that does not know the host yet.
func TestAnAnswerWithoutARevisionIsNoAnswerOfAnArm(t *testing.T) {
	t.Parallel()
	ask := knative.AskInside()
	for name, handle := range map[string]http.HandlerFunc{
		"an ingress": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such host", http.StatusNotFound) },
		"a program":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
	} {
		server := httptest.NewServer(handle)
		t.Cleanup(server.Close)
		if revision, err := ask(t.Context(), strings.TrimPrefix(server.URL, "http://")); err == nil || !strings.Contains(err.Error(), "names no revision") {
			t.Errorf("%s: %q %v", name, revision, err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Revision", "likes-tweet-control-00001")
		w.WriteHeader(http.StatusNotFound) // the function has no route /
	}))
	t.Cleanup(server.Close)
	if revision, err := ask(t.Context(), strings.TrimPrefix(server.URL, "http://")); err != nil || revision != "likes-tweet-control-00001" {
		t.Errorf("an arm: %q %v", revision, err)
	}
	_, cluster := serve(t, nil)
	if _, err := cluster.Answers(t.Context(), "treatment-likes-tweet.warble.svc.cluster.local"); err == nil {
		t.Error("a cluster that asks nobody has an answer")
	}
}

// From outside, a host is asked through the API server and the ingress behind its Service.
func TestWhyAHostCannotBeAskedFromOutside(t *testing.T) {
	t.Parallel()
	const host = "treatment-likes-tweet.warble.svc.cluster.local"
	for name, c := range map[string]struct {
		answer answer
		want   string
	}{
		"no Service":       {status(http.StatusNotFound, metav1.StatusReasonNotFound), "not found"},
		"no rights":        {forbidden, "Forbidden"},
		"no external name": {answer{http.StatusOK, `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "treatment-likes-tweet"}, "spec": {"clusterIP": "10.0.0.1"}}`}, "cannot be reached from here"},
		"another name":     {answer{http.StatusOK, `{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "treatment-likes-tweet"}, "spec": {"type": "ExternalName", "externalName": "example.org"}}`}, `the external name "example.org"`},
	} {
		a, _ := serve(t, map[string]answer{"GET services/treatment-likes-tweet": c.answer})
		ask, err := knative.AskFromOutside(&rest.Config{Host: a.URL})
		if err != nil {
			t.Fatal(err)
		}
		if revision, err := ask(t.Context(), host); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q %v: expected %q", name, revision, err, c.want)
		}
	}
}

// A label or an annotation makes a Service a guest.
func TestAGuestIsMarkedByALabelOrAnAnnotation(t *testing.T) {
	t.Parallel()
	for metadata, want := range map[string]bool{
		`{"name": "shop"}`: false, `{"name": "shop", "labels": {"warble.dev/guest": "true"}}`: true, `{"name": "shop", "annotations": {"warble.dev/guest": "true"}}`: true,
		`{"name": "shop", "labels": {"warble.dev/guest": "no"}}`: false,
	} {
		_, cluster := serve(t, map[string]answer{"GET services": listOf("Service", `{"metadata": `+metadata+`, "spec": {"template": {"spec": {"containers": [{}]}}}}`)})
		all, err := cluster.Services(t.Context(), nil)
		if err != nil || len(all) != 1 || all[0].Guest != want {
			t.Errorf("%s: %+v %v: expected a guest: %t", metadata, all, err, want)
		}
	}
}

// Max-scale has two names, and is read in the same way as Knative reads it.
func TestMaxScaleIsReadLikeKnativeReadsIt(t *testing.T) {
	t.Parallel()
	for annotations, want := range map[string]int{
		`{}`: 0, `{"autoscaling.knative.dev/max-scale": "0"}`: 0, `{"autoscaling.knative.dev/max-scale": "7"}`: 7, `{"autoscaling.knative.dev/maxScale": "7"}`: 7,
	} {
		_, cluster := serve(t, map[string]answer{"GET services": listOf("Service", `{"metadata": {"name": "tweet"}, "spec": {"template": {"metadata": {"annotations": `+annotations+`}, "spec": {"containers": [{"env": [{"name": "DATABASE_URL", "value": "postgres://"}]}]}}}}`)})
		all, err := cluster.Services(t.Context(), nil)
		if err != nil || len(all) != 1 || all[0].MostPods != want || all[0].Pool != knative.DefaultPool {
			t.Errorf("%s: %+v %v: expected %d pods", annotations, all, err, want)
		}
	}
}
