package main

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	sigsjson "sigs.k8s.io/json"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// metricsPath is the path of the resource Metric. It has no watch, because each change wakes the driver.
const metricsPath = "/apis/warble.dev/v1alpha1/namespaces/" + namespace + "/" + rollout.MetricResource

// metricResource names metrics in errors.
var metricResource = schema.GroupResource{Group: rollout.GroupVersion.Group, Resource: rollout.MetricResource}

// metricVerbs returns the control plane's verbs for metrics, by pattern.
func (c *control) metricVerbs() map[string]verb {
	return map[string]verb{
		"GET " + metricsPath:                c.listMetrics,
		"POST " + metricsPath:               c.createMetric,
		"GET " + metricsPath + "/{name}":    c.getMetric,
		"PUT " + metricsPath + "/{name}":    c.putMetric,
		"DELETE " + metricsPath + "/{name}": c.removeMetric,

		metricsPath:             metricMethodNotAllowed,
		metricsPath + "/{name}": metricMethodNotAllowed,
	}
}

func metricMethodNotAllowed(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	return 0, nil, apierrors.NewMethodNotSupported(metricResource, r.Method)
}

func (c *control) listMetrics(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if r.URL.Query().Get("watch") != "" {
		return metricMethodNotAllowed(nil, r)
	}
	return http.StatusOK, c.records.metrics(), nil
}

func (c *control) getMetric(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	m := c.records.read().Metrics[r.PathValue("name")]
	if m == nil {
		return 0, nil, apierrors.NewNotFound(metricResource, r.PathValue("name"))
	}
	return http.StatusOK, m, nil
}

func (c *control) createMetric(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	m, err := decodeMetric(r)
	if err == nil {
		err = c.records.write(func(k *kept) error {
			if k.Metrics[m.Name] != nil {
				return apierrors.NewAlreadyExists(metricResource, m.Name)
			}
			k.putMetric(m, &metav1.ObjectMeta{UID: uuid.NewUUID(), CreationTimestamp: metav1.Now()})
			return nil
		})
	}
	return http.StatusCreated, m, err
}

func (c *control) putMetric(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	m, err := decodeMetric(r)
	if err == nil && m.Name != r.PathValue("name") {
		err = apierrors.NewBadRequest(fmt.Sprintf("metadata.name: %q: expected %s, as in the path", m.Name, r.PathValue("name")))
	}
	if err == nil {
		err = c.records.write(func(k *kept) error {
			present := k.Metrics[m.Name]
			switch {
			case present == nil:
				return apierrors.NewNotFound(metricResource, m.Name)
			case m.ResourceVersion != "" && m.ResourceVersion != present.ResourceVersion:
				return apierrors.NewConflict(metricResource, m.Name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
			}
			k.putMetric(m, &present.ObjectMeta)
			return nil
		})
	}
	return http.StatusOK, m, err
}

func (c *control) removeMetric(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var gone *rollout.Metric
	name := r.PathValue("name")
	err := c.records.write(func(k *kept) error {
		if gone = k.Metrics[name]; gone == nil {
			return apierrors.NewNotFound(metricResource, name)
		}
		delete(k.Metrics, name)
		k.Version++
		return nil
	})
	return http.StatusOK, gone, err
}

// metrics returns all metrics, by name.
func (r *records) metrics() *rollout.MetricList {
	k := r.read()
	list := &rollout.MetricList{
		TypeMeta: metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: rollout.MetricKind + "List"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(k.Version, 10)},
		Items:    make([]rollout.Metric, 0, len(k.Metrics)),
	}
	for _, name := range slices.Sorted(maps.Keys(k.Metrics)) {
		list.Items = append(list.Items, *k.Metrics[name].DeepCopy())
	}
	return list
}

// putMetric stores a metric as the newest change, and sets the metadata that belong to the server.
func (k *kept) putMetric(m *rollout.Metric, server *metav1.ObjectMeta) {
	k.Version++
	m.TypeMeta = metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: rollout.MetricKind}
	m.ObjectMeta = metav1.ObjectMeta{
		Name: m.Name, Namespace: namespace, UID: server.UID, ResourceVersion: strconv.FormatInt(k.Version, 10),
		CreationTimestamp: server.CreationTimestamp, Labels: m.Labels, Annotations: m.Annotations,
	}
	k.Metrics[m.Name] = m
}

// decodeMetric reads the metric of a request, and sets the defaults of its schema. Its error names every mistake.
func decodeMetric(r *http.Request) (*rollout.Metric, error) {
	text, err := read(r, "application/json")
	if err != nil {
		return nil, err
	}
	var m rollout.Metric
	if unknown, err := sigsjson.UnmarshalStrict(text, &m); err != nil || len(unknown) > 0 {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the body: %v", errors.Join(append(unknown, err)...)))
	}
	m.Spec.Default()
	if wrong := errors.Join(experiment.CheckMetricName(m.Name), m.Spec.Check()); wrong != nil {
		refusal := apierrors.NewInvalid(schema.GroupKind{Group: rollout.GroupVersion.Group, Kind: rollout.MetricKind}, m.Name, nil)
		refusal.ErrStatus.Message += ":\n" + wrong.Error()
		return nil, refusal
	}
	return &m, nil
}
