package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
)

const (
	// MetricKind is the kind of the resource Metric, and MetricResource the plural by which the API server serves it.
	MetricKind     = "Metric"
	MetricResource = "metrics"
)

// Metric defines a metric of your own, whose outcomes are CloudEvents. Experiments name it like Warble's metrics.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=warble
// +kubebuilder:printcolumn:name=Label,type=string,JSONPath=`.spec.label`
// +kubebuilder:printcolumn:name=Kind,type=string,JSONPath=`.spec.kind`
// +kubebuilder:printcolumn:name=Event,type=string,JSONPath=`.spec.event.type`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 60 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name: expected at most 60 small letters, digits and -"
// +kubebuilder:validation:XValidation:rule="!(self.metadata.name in ['latency'])",message="metadata.name: it is a metric of Warble's own: expected another name"
type Metric struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec experiment.EventMetric `json:"spec"`
}

// MetricList is a list of Metrics.
//
// +kubebuilder:object:root=true
type MetricList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Metric `json:"items"`
}

// ParseMetric reads a Metric from YAML or JSON and fills in the schema's defaults. Its error lists every mistake.
func ParseMetric(text []byte) (*Metric, error) {
	var m Metric
	if err := decode(text, &m, &m.TypeMeta, MetricKind); err != nil {
		return nil, err
	}
	m.Spec.Default()
	if err := errors.Join(experiment.CheckMetricName(m.Name), m.Spec.Check()); err != nil {
		return nil, fmt.Errorf("\n%w", err) // a line each
	}
	return &m, nil
}

// OwnMetrics returns the metrics that people have defined in the cluster, sorted by name. It leaves out a metric that is
// wrong, and calls say with the reason, so that the others still work.
func OwnMetrics(ctx context.Context, c Cluster, say func(format string, args ...any)) (own []experiment.Metric, err error) {
	found, err := c.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		m.Spec.Default()
		if wrong := errors.Join(experiment.CheckMetricName(m.Name), m.Spec.Check()); wrong != nil {
			say("metric %s is left out: %v", m.Name, wrong)
			continue
		}
		own = append(own, experiment.Metric{Name: m.Name, EventMetric: m.Spec})
	}
	slices.SortFunc(own, func(a, b experiment.Metric) int { return strings.Compare(a.Name, b.Name) })
	return own, nil
}
