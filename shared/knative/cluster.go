// Package knative is the one way to Kubernetes and Knative: the Services of a namespace, the Configurations and the Route that
// the arms of an experiment are, the Experiments themselves, what a pod says, and Events.
package knative

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"knative.dev/pkg/apis"
	servingclient "knative.dev/serving/pkg/client/clientset/versioned/typed/serving/v1"

	"warble/shared/rollout"
)

// Cluster is one namespace of a cluster. It is a rollout.Cluster.
type Cluster struct {
	namespace   string
	ask         Ask
	knative     servingclient.ServingV1Interface
	core        *rest.RESTClient
	experiments *rest.RESTClient
}

// New reaches namespace. ask is how the host of an arm is reached from here; nil where nobody asks.
func New(config *rest.Config, namespace string, ask Ask) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server says itself when it has enough, and a move that waits here may come too late
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	c := &Cluster{namespace: namespace, ask: ask}
	if c.knative, err = servingclient.NewForConfigAndClient(config, client); err != nil {
		return nil, err
	}
	if c.core, err = Client(config, client, corev1.SchemeGroupVersion, corev1.AddToScheme); err != nil {
		return nil, err
	}
	c.experiments, err = Client(config, client, rollout.GroupVersion, rollout.AddToScheme)
	return c, err
}

// NamespaceName is the namespace that it reaches.
func (c *Cluster) NamespaceName() string { return c.namespace }

// Client is a client of one API group, for the kinds that add makes known. client-go's own are of every group: a process
// that links one starts later by a bare server's whole start, and is larger by megabytes.
func Client(config *rest.Config, client *http.Client, group schema.GroupVersion, add func(*runtime.Scheme) error) (*rest.RESTClient, error) {
	scheme := runtime.NewScheme()
	if err := add(scheme); err != nil {
		return nil, err
	}
	c := rest.CopyConfig(config)
	c.APIPath, c.GroupVersion = "/apis", &group
	if group.Group == "" { // the core
		c.APIPath = "/api"
	}
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientForConfigAndClient(c, client)
}

// failure words what a Cluster's errors are known by.
func failure(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", rollout.ErrNotFound, err)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", rollout.ErrConflict, err)
	}
	return err
}

// Namespace is of a rollout.Cluster.
func (c *Cluster) Namespace(ctx context.Context) (rollout.Namespace, error) {
	var n corev1.Namespace
	err := c.core.Get().Resource("namespaces").Name(c.namespace).Do(ctx).Into(&n)
	return rollout.Namespace{UID: string(n.UID), Terminating: n.DeletionTimestamp != nil}, failure(err)
}

// Experiments is of a rollout.Cluster.
func (c *Cluster) Experiments(ctx context.Context) ([]rollout.Experiment, error) {
	var list rollout.ExperimentList
	err := c.experiments.Get().Namespace(c.namespace).Resource(rollout.Resource).Do(ctx).Into(&list)
	return list.Items, failure(err)
}

// Experiment is of a rollout.Cluster.
func (c *Cluster) Experiment(ctx context.Context, name string) (*rollout.Experiment, error) {
	var e rollout.Experiment
	if err := c.experiments.Get().Namespace(c.namespace).Resource(rollout.Resource).Name(name).Do(ctx).Into(&e); err != nil {
		return nil, failure(err)
	}
	return &e, nil
}

// Metrics is of a rollout.Cluster.
func (c *Cluster) Metrics(ctx context.Context) ([]rollout.Metric, error) {
	var list rollout.MetricList
	err := c.experiments.Get().Namespace(c.namespace).Resource(rollout.MetricResource).Do(ctx).Into(&list)
	if apierrors.IsNotFound(err) { // the resource itself: it is younger than Experiment
		return nil, nil
	}
	return list.Items, failure(err)
}

// CreateMetric makes one; ErrConflict where there is one of that name.
func (c *Cluster) CreateMetric(ctx context.Context, m *rollout.Metric) error {
	return failure(c.experiments.Post().Namespace(c.namespace).Resource(rollout.MetricResource).Body(m).Do(ctx).Into(m))
}

// UpdateStatus is of a rollout.Cluster.
func (c *Cluster) UpdateStatus(ctx context.Context, e *rollout.Experiment) error {
	return failure(c.experiments.Put().Namespace(c.namespace).Resource(rollout.Resource).Name(e.Name).SubResource("status").Body(e).Do(ctx).Error())
}

// CreateExperiment makes one; ErrConflict where there is one of that name.
func (c *Cluster) CreateExperiment(ctx context.Context, e *rollout.Experiment) error {
	return failure(c.experiments.Post().Namespace(c.namespace).Resource(rollout.Resource).Body(e).Do(ctx).Into(e))
}

// UpdateExperiment writes all of a draft, by version.
func (c *Cluster) UpdateExperiment(ctx context.Context, e *rollout.Experiment) error {
	return failure(c.experiments.Put().Namespace(c.namespace).Resource(rollout.Resource).Name(e.Name).Body(e).Do(ctx).Into(e))
}

// DeleteExperiment takes one away, and with it all that it owns.
func (c *Cluster) DeleteExperiment(ctx context.Context, name string) error {
	return failure(c.experiments.Delete().Namespace(c.namespace).Resource(rollout.Resource).Name(name).Do(ctx).Error())
}

// Wish writes the wishes of e by version, and nothing else: what people have left out of the rest, or written as empty, is to
// stay as it is written.
func (c *Cluster) Wish(ctx context.Context, e *rollout.Experiment) error {
	text, err := json.Marshal(e.Spec.Wishes)
	if err != nil {
		return err
	}
	wishes := map[string]any{"paused": nil, "by": nil, "why": nil} // those that may be taken back
	if err := json.Unmarshal(text, &wishes); err != nil {
		return err
	}
	change, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": e.ResourceVersion}, "spec": wishes})
	if err != nil {
		return err
	}
	return failure(c.experiments.Patch(types.MergePatchType).Namespace(c.namespace).Resource(rollout.Resource).Name(e.Name).Body(change).Do(ctx).Into(e))
}

// Tell is of a rollout.Cluster.
func (c *Cluster) Tell(ctx context.Context, e *rollout.Experiment, event rollout.Event) error {
	const most = 1024 // bytes of a message that the API server takes
	now := time.Now()
	kind := corev1.EventTypeNormal
	if event.Warning {
		kind = corev1.EventTypeWarning
	}
	return failure(c.core.Post().Namespace(c.namespace).Resource("events").Body(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: fmt.Sprintf("%s.%x", e.Name, now.UnixNano())},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: rollout.GroupVersion.String(), Kind: rollout.Kind, Namespace: e.Namespace, Name: e.Name, UID: e.UID, ResourceVersion: e.ResourceVersion,
		},
		Type: kind, Reason: event.Reason, Message: event.Message[:min(len(event.Message), most)],
		Source: corev1.EventSource{Component: "steer"}, ReportingController: "warble.dev/steer",
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now), Count: 1,
	}).Do(ctx).Error())
}

// Answers is of a rollout.Cluster.
func (c *Cluster) Answers(ctx context.Context, host string) (string, error) {
	if c.ask == nil {
		return "", errors.New("nobody asks from here")
	}
	return c.ask(ctx, host)
}

func isTrue(c *apis.Condition) bool { return c != nil && c.IsTrue() }
