package knative

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/serving/pkg/apis/autoscaling"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"warble/shared/manifest"
	"warble/shared/rollout"
)

// DefaultPool is the largest number of database connections of a pod whose template does not set DATABASE_MAX_CONNS.
const DefaultPool = 4

// Services implements rollout.Cluster. For the Services in detailed, it also reads the images from their revisions.
func (c *Cluster) Services(ctx context.Context, detailed []string) (all []*rollout.Service, err error) {
	list, err := c.knative.Services(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, failure(err)
	}
	for i := range list.Items {
		s := serviceOf(&list.Items[i])
		if s.Ready != "" && slices.Contains(detailed, s.Name) {
			r, err := c.knative.Revisions(c.namespace).Get(ctx, s.Ready, metav1.GetOptions{})
			if err != nil {
				return nil, failure(err)
			}
			s.Image = imageOf(r)
		}
		all = append(all, s)
	}
	return all, nil
}

// imageOf returns a revision's image, by digest if Knative has resolved it.
func imageOf(r *servingv1.Revision) string {
	if len(r.Status.ContainerStatuses) > 0 && r.Status.ContainerStatuses[0].ImageDigest != "" {
		return r.Status.ContainerStatuses[0].ImageDigest
	}
	return r.Spec.GetContainer().Image
}

func serviceOf(s *servingv1.Service) *rollout.Service {
	container := s.Spec.Template.Spec.GetContainer()
	observed := s.Status.ObservedGeneration == s.Generation
	service := &rollout.Service{
		Name: s.Name, UID: string(s.UID),
		Created: s.Status.LatestCreatedRevisionName, Ready: s.Status.LatestReadyRevisionName,
		Settled: observed && isTrue(s.Status.GetCondition(servingv1.ServiceConditionReady)),
		Latest:  observed && latest(s.Spec.Traffic, "") && latest(s.Status.Traffic, s.Status.LatestReadyRevisionName),
		Wished:  container.Image, Env: make(map[string]string),
		Experiments: s.Annotations[manifest.ExperimentsAnnotation], Manager: managerOf(&s.ObjectMeta),
		Guest:  s.Labels[manifest.Guest] == "true" || s.Annotations[manifest.Guest] == "true",
		Object: s,
	}
	if seconds := s.Spec.Template.Spec.TimeoutSeconds; seconds != nil {
		service.Timeout = time.Duration(*seconds) * time.Second
	}
	_, most, _ := autoscaling.MaxScaleAnnotation.Get(s.Spec.Template.Annotations)
	service.MostPods, _ = strconv.Atoi(most) // 0 if there is no annotation; Knative also reads 0 as "no limit"
	for _, variable := range container.Env {
		if variable.ValueFrom != nil {
			service.Elsewhere = append(service.Elsewhere, variable.Name)
		} else {
			service.Env[variable.Name] = variable.Value
		}
	}
	if _, plain := service.Env["DATABASE_URL"]; plain || slices.Contains(service.Elsewhere, "DATABASE_URL") {
		service.Pool = DefaultPool
		if n, err := strconv.Atoi(service.Env["DATABASE_MAX_CONNS"]); err == nil {
			service.Pool = n
		}
	}
	return service
}

// latest reports whether all traffic goes to the newest revision. In a status, this must be the revision that ready names;
// ready is empty for a spec. latest is true for a Service without traffic targets, because this is their default.
func latest(traffic []servingv1.TrafficTarget, ready string) bool {
	for _, t := range traffic {
		if t.Percent == nil || *t.Percent == 0 {
			continue
		}
		follows := t.LatestRevision != nil && *t.LatestRevision
		if !follows || ready != "" && t.RevisionName != ready {
			return false
		}
	}
	return true
}

// managers has the labels and annotations with which GitOps tools mark the objects that they apply repeatedly.
var managers = map[string]string{
	"kustomize.toolkit.fluxcd.io/name": "Flux", "helm.toolkit.fluxcd.io/name": "Flux", "argocd.argoproj.io/tracking-id": "Argo CD", "argocd.argoproj.io/instance": "Argo CD",
}

// managerOf returns the tool that applies an object repeatedly, Flux or Argo CD; empty if neither does.
func managerOf(m *metav1.ObjectMeta) string {
	for _, key := range sortedKeys(managers) { // sorted, so that an object with marks of both has the same manager each time
		if m.Labels[key] != "" || m.Annotations[key] != "" {
			return managers[key]
		}
	}
	for _, fields := range m.ManagedFields {
		switch {
		case fields.Manager == "kustomize-controller" || fields.Manager == "helm-controller":
			return "Flux"
		case strings.HasPrefix(fields.Manager, "argocd"):
			return "Argo CD"
		}
	}
	return ""
}

// GiveTreatment implements rollout.Cluster.
func (c *Cluster) GiveTreatment(ctx context.Context, s *rollout.Service, env map[string]string, image string) error {
	next := s.Object.(*servingv1.Service).DeepCopy()
	container := next.Spec.Template.Spec.GetContainer()
	setEnv(container, env)
	if image != "" {
		container.Image = image
	}
	next.Spec.Template.Name = "" // Knative generates a new one
	_, err := c.knative.Services(c.namespace).Update(ctx, next, metav1.UpdateOptions{FieldManager: "warble-steer"})
	return failure(err)
}

// setEnv sets variables, and keeps the order of the others.
func setEnv(c *corev1.Container, env map[string]string) {
	there := make(map[string]bool)
	for i := range c.Env {
		if value, set := env[c.Env[i].Name]; set {
			c.Env[i].Value, c.Env[i].ValueFrom, there[c.Env[i].Name] = value, nil, true
		}
	}
	for _, name := range sortedKeys(env) {
		if !there[name] {
			c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: env[name]})
		}
	}
}

// podSays returns why a pod of the revision cannot run; empty if it is only starting.
func (c *Cluster) podSays(ctx context.Context, revision string) (string, error) {
	var pods corev1.PodList
	err := c.core.Get().Namespace(c.namespace).Resource("pods").Param("labelSelector", "serving.knative.dev/revision="+revision).Do(ctx).Into(&pods)
	if err != nil {
		return "", failure(err)
	}
	for _, pod := range pods.Items {
		for _, s := range pod.Status.ContainerStatuses {
			waiting, ended := s.State.Waiting, s.LastTerminationState.Terminated
			if s.State.Terminated != nil {
				ended = s.State.Terminated
			}
			switch {
			case ended != nil && ended.ExitCode != 0:
				return strings.TrimSpace(fmt.Sprintf("(pod %s: exit code %d: %s)", pod.Name, ended.ExitCode, lastLine(ended.Message))), nil
			case waiting != nil && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing":
				return strings.TrimSpace(fmt.Sprintf("(pod %s: %s: %s)", pod.Name, waiting.Reason, firstLine(waiting.Message))), nil
			}
		}
	}
	return "", nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
