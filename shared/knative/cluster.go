// Package knative is the only adapter to Kubernetes and Knative. It reads and writes the Services of a namespace, the
// Configurations and Routes of experiments' arms, the Experiments themselves, pods' states, and Events.
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

// Cluster is one namespace of a cluster. It implements rollout.Cluster.
type Cluster struct {
	namespace   string
	ask         Ask
	knative     servingclient.ServingV1Interface
	core        *rest.RESTClient
	experiments *rest.RESTClient
}

// New returns a Cluster for a namespace. ask sends requests to an arm's host; it may be nil if Answers is never called.
func New(config *rest.Config, namespace string, ask Ask) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // no limit here: the API server limits clients itself, and a move must not wait
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

// NamespaceName returns the name of the namespace.
func (c *Cluster) NamespaceName() string { return c.namespace }

// Client returns a client for one API group, with the kinds that add registers. client-go's own clientset has all groups: it makes a
// binary megabytes larger, and doubles the start-up time of a bare server.
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

// failure maps an error of the API server to the errors of rollout.Cluster.
func failure(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", rollout.ErrNotFound, err)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", rollout.ErrConflict, err)
	}
	return err
}

// Namespace implements rollout.Cluster.
func (c *Cluster) Namespace(ctx context.Context) (rollout.Namespace, error) {
	var n corev1.Namespace
	err := c.core.Get().Resource("namespaces").Name(c.namespace).Do(ctx).Into(&n)
	return rollout.Namespace{UID: string(n.UID), Terminating: n.DeletionTimestamp != nil}, failure(err)
}

// Experiments implements rollout.Cluster.
func (c *Cluster) Experiments(ctx context.Context) ([]rollout.Experiment, error) {
	var list rollout.ExperimentList
	err := c.experiments.Get().Namespace(c.namespace).Resource(rollout.Resource).Do(ctx).Into(&list)
	return list.Items, failure(err)
}

// Experiment implements rollout.Cluster.
func (c *Cluster) Experiment(ctx context.Context, name string) (*rollout.Experiment, error) {
	var e rollout.Experiment
	if err := c.experiments.Get().Namespace(c.namespace).Resource(rollout.Resource).Name(name).Do(ctx).Into(&e); err != nil {
		return nil, failure(err)
	}
	return &e, nil
}

// Metrics implements rollout.Cluster.
func (c *Cluster) Metrics(ctx context.Context) ([]rollout.Metric, error) {
	var list rollout.MetricList
	err := c.experiments.Get().Namespace(c.namespace).Resource(rollout.MetricResource).Do(ctx).Into(&list)
	if apierrors.IsNotFound(err) { // an older installation may have the resource Experiment without Metric
		return nil, nil
	}
	return list.Items, failure(err)
}

// CreateMetric creates a metric; ErrConflict if the name exists.
func (c *Cluster) CreateMetric(ctx context.Context, m *rollout.Metric) error {
	return failure(c.experiments.Post().Namespace(c.namespace).Resource(rollout.MetricResource).Body(m).Do(ctx).Into(m))
}

// UpdateStatus implements rollout.Cluster.
func (c *Cluster) UpdateStatus(ctx context.Context, e *rollout.Experiment) error {
	return failure(c.experiments.Put().Namespace(c.namespace).Resource(rollout.Resource).Name(e.Name).SubResource("status").Body(e).Do(ctx).Error())
}

// CreateExperiment creates an experiment; ErrConflict if the name exists.
func (c *Cluster) CreateExperiment(ctx context.Context, e *rollout.Experiment) error {
	return failure(c.experiments.Post().Namespace(c.namespace).Resource(rollout.Resource).Body(e).Do(ctx).Into(e))
}

// UpdateExperiment replaces a draft; ErrConflict if its resource version is not the latest.
func (c *Cluster) UpdateExperiment(ctx context.Context, e *rollout.Experiment) error {
	return failure(c.experiments.Put().Namespace(c.namespace).Resource(rollout.Resource).Name(e.Name).Body(e).Do(ctx).Into(e))
}

// DeleteExperiment deletes an experiment and every object that it owns.
func (c *Cluster) DeleteExperiment(ctx context.Context, name string) error {
	return failure(c.experiments.Delete().Namespace(c.namespace).Resource(rollout.Resource).Name(name).Do(ctx).Error())
}

// Wish writes only the wishes of e; ErrConflict if its resource version is not the latest. The rest of the spec stays exactly as people
// wrote it, with missing and empty fields.
func (c *Cluster) Wish(ctx context.Context, e *rollout.Experiment) error {
	text, err := json.Marshal(e.Spec.Wishes)
	if err != nil {
		return err
	}
	wishes := map[string]any{"paused": nil, "by": nil, "why": nil} // only these may be removed
	if err := json.Unmarshal(text, &wishes); err != nil {
		return err
	}
	change, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": e.ResourceVersion}, "spec": wishes})
	if err != nil {
		return err
	}
	return failure(c.experiments.Patch(types.MergePatchType).Namespace(c.namespace).Resource(rollout.Resource).Name(e.Name).Body(change).Do(ctx).Into(e))
}

// RecordEvent implements rollout.Cluster.
func (c *Cluster) RecordEvent(ctx context.Context, e *rollout.Experiment, event rollout.Event) error {
	const most = 1024 // bytes of a message that the API server accepts
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

// Answers implements rollout.Cluster.
func (c *Cluster) Answers(ctx context.Context, host string) (string, error) {
	if c.ask == nil {
		return "", errors.New("this client cannot ask the hosts of arms")
	}
	return c.ask(ctx, host)
}

func isTrue(c *apis.Condition) bool { return c != nil && c.IsTrue() }
