package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/yaml"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

// guest is a Service that does not belong to Warble and runs beside the functions. Its folder has a Go program and service.yaml. If its
// experiments have their own metrics, it also has metric.yaml with the Metrics and their Triggers. docs/guests.md shows one.
type guest struct {
	folder  string
	service *manifest.Service
	metrics []*rollout.Metric
}

// readGuest reads the guest of a folder. services are the functions; the guest may not have the name of one.
func readGuest(folder string, services []*manifest.Service) (*guest, error) {
	g := &guest{folder: folder, service: new(manifest.Service)}
	file := filepath.Join(folder, "service.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-guest: %w", err)
	}
	if err := yaml.Unmarshal(text, g.service); err != nil { // not strict, because Knative has fields that Warble's manifests do not use
		return nil, fmt.Errorf("-guest: %s: %w", file, err)
	}
	m := g.service.Metadata
	switch {
	case g.service.Kind != "Service" || !g.service.Guest():
		return nil, fmt.Errorf("-guest: %s: expected a Knative Service with the annotation %s: \"true\"", file, manifest.Guest)
	case len(g.service.Routes()) == 0 && m.Annotations[manifest.HostsAnnotation] == "":
		return nil, fmt.Errorf("-guest: %s: expected the annotation %s, because without it the edge sends the guest nothing", file, manifest.RoutesAnnotation)
	case len(g.service.Spec.Template.Spec.Containers) != 1:
		return nil, fmt.Errorf("-guest: %s: expected one container", file)
	case m.Name == "" || slices.ContainsFunc(services, func(s *manifest.Service) bool { return s.Name() == m.Name }):
		return nil, fmt.Errorf("-guest: %s: metadata.name is %q: expected a name that no function has", file, m.Name)
	}
	text, err = os.ReadFile(g.metricFile())
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	} else if err != nil {
		return nil, fmt.Errorf("-guest: %w", err)
	}
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(part), &meta); err != nil {
			return nil, fmt.Errorf("-guest: %s: %w", g.metricFile(), err)
		}
		if meta.Kind != rollout.MetricKind {
			continue
		}
		metric, err := rollout.ParseMetric([]byte(part))
		if err != nil {
			return nil, fmt.Errorf("-guest: %s: %w", g.metricFile(), err)
		}
		g.metrics = append(g.metrics, metric)
	}
	return g, nil
}

func (g *guest) metricFile() string { return filepath.Join(g.folder, "metric.yaml") }

// keepMetrics creates or replaces the guest's Metrics, like kubectl apply.
func (g *guest) keepMetrics(r *records) error {
	return r.write(func(k *kept) error {
		for _, m := range g.metrics {
			server := metav1.ObjectMeta{UID: uuid.NewUUID(), CreationTimestamp: metav1.Now()}
			if present := k.Metrics[m.Name]; present != nil {
				server = present.ObjectMeta
			}
			k.putMetric(m.DeepCopy(), &server)
		}
		return nil
	})
}
