package main

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8swatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"warble/shared/experiment"
	"warble/shared/knative"
	"warble/shared/rollout"
)

// experimentsClient reads the Experiments of one namespace. There is no generated client, and a dynamic client would keep each
// object as a tree of maps.
type experimentsClient struct {
	rest      rest.Interface
	namespace string
}

func newExperimentsClient(config *rest.Config, client *http.Client, namespace string) (*experimentsClient, error) {
	group, err := knative.Client(config, client, rollout.GroupVersion, rollout.AddToScheme)
	return &experimentsClient{group, namespace}, err
}

func (c *experimentsClient) get(options *metav1.ListOptions) *rest.Request {
	return c.rest.Get().Namespace(c.namespace).Resource(rollout.Resource).
		SpecificallyVersionedParams(options, metav1.ParameterCodec, schema.GroupVersion{Version: "v1"})
}

// List implements client.
func (c *experimentsClient) List(ctx context.Context, options metav1.ListOptions) (*rollout.ExperimentList, error) {
	list := new(rollout.ExperimentList)
	return list, c.get(&options).Do(ctx).Into(list)
}

// Watch implements client.
func (c *experimentsClient) Watch(ctx context.Context, options metav1.ListOptions) (k8swatch.Interface, error) {
	options.Watch = true
	return c.get(&options).Watch(ctx)
}

// trimExperiment keeps the fields that Rules reads and that a report names.
func trimExperiment(object any) (any, error) {
	e, ok := object.(*rollout.Experiment)
	if !ok {
		return object, nil
	}
	trimmed := &rollout.Experiment{ObjectMeta: trimMeta(e.ObjectMeta)}
	trimmed.Generation, trimmed.DeletionTimestamp = e.Generation, e.DeletionTimestamp
	trimmed.Spec = experiment.Spec{
		Services: e.Spec.Services, Exposure: e.Spec.Exposure, Unit: e.Spec.Unit, Identity: e.Spec.Identity, Audience: e.Spec.Audience, Layer: e.Spec.Layer,
		Assignment: e.Spec.Assignment, List: e.Spec.List, Wishes: experiment.Wishes{End: e.Spec.End},
		Ramp:    experiment.Ramp{Steps: e.Spec.Ramp.Steps},
		Metrics: experiment.Metrics{Guardrails: e.Spec.Metrics.Guardrails, Baseline: e.Spec.Metrics.Baseline},
	}
	trimmed.Status.Assign, trimmed.Status.Phase = e.Status.Assign, e.Status.Phase
	return trimmed, nil
}
