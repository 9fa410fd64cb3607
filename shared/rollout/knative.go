package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/serving"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	servingclient "knative.dev/serving/pkg/client/clientset/versioned/typed/serving/v1"
)

// Knative is the Cluster of one namespace.
type Knative struct {
	namespace   string
	holder      string
	ask         Ask
	knative     servingclient.ServingV1Interface
	core        *rest.RESTClient
	leases      *rest.RESTClient
	experiments *rest.RESTClient
}

// NewKnative reaches namespace. holder is who locks, for people who look; ask is how a tag's host is reached from here.
func NewKnative(config *rest.Config, namespace, holder string, ask Ask) (*Knative, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // the API server says itself when it has enough, and a move that waits here may come too late
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	k := &Knative{namespace: namespace, holder: holder, ask: ask}
	if k.knative, err = servingclient.NewForConfigAndClient(config, client); err != nil {
		return nil, err
	}
	if k.core, err = Client(config, client, corev1.SchemeGroupVersion, corev1.AddToScheme); err != nil {
		return nil, err
	}
	if k.leases, err = Client(config, client, coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme); err != nil {
		return nil, err
	}
	k.experiments, err = Client(config, client, GroupVersion, AddToScheme)
	return k, err
}

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
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// Experiments is of a Cluster.
func (k *Knative) Experiments(ctx context.Context) ([]Experiment, error) {
	var list ExperimentList
	err := k.experiments.Get().Namespace(k.namespace).Resource(Resource).Do(ctx).Into(&list)
	return list.Items, failure(err)
}

// Experiment is of a Cluster.
func (k *Knative) Experiment(ctx context.Context, name string) (*Experiment, error) {
	var e Experiment
	if err := k.experiments.Get().Namespace(k.namespace).Resource(Resource).Name(name).Do(ctx).Into(&e); err != nil {
		return nil, failure(err)
	}
	return &e, nil
}

// UpdateStatus is of a Cluster.
func (k *Knative) UpdateStatus(ctx context.Context, e *Experiment) error {
	return failure(k.experiments.Put().Namespace(k.namespace).Resource(Resource).Name(e.Name).SubResource("status").Body(e).Do(ctx).Error())
}

// UpdateFinalizers is of a Cluster.
func (k *Knative) UpdateFinalizers(ctx context.Context, e *Experiment) error {
	return k.patch(ctx, e, map[string]any{
		"metadata": map[string]any{"resourceVersion": e.ResourceVersion, "finalizers": e.Finalizers},
	})
}

// CreateExperiment makes one; ErrConflict where there is one of that name.
func (k *Knative) CreateExperiment(ctx context.Context, e *Experiment) error {
	return failure(k.experiments.Post().Namespace(k.namespace).Resource(Resource).Body(e).Do(ctx).Into(e))
}

// Want writes e.Spec.Run, by version, and nothing else: what people have left out of the rest, or written as empty, is to
// stay as it is written.
func (k *Knative) Want(ctx context.Context, e *Experiment) error {
	run := e.Spec.Run
	return k.patch(ctx, e, map[string]any{
		"metadata": map[string]any{"resourceVersion": e.ResourceVersion},
		"spec":     map[string]any{"run": map[string]any{"state": run.State, "step": run.Step, "approved": run.Approved, "by": run.By, "why": run.Why}},
	})
}

func (k *Knative) patch(ctx context.Context, e *Experiment, change map[string]any) error {
	text, err := json.Marshal(change)
	if err != nil {
		return err
	}
	return failure(k.experiments.Patch(types.MergePatchType).Namespace(k.namespace).Resource(Resource).Name(e.Name).Body(text).Do(ctx).Into(e))
}

// UpdateExperiment writes all of a draft, by version.
func (k *Knative) UpdateExperiment(ctx context.Context, e *Experiment) error {
	return failure(k.experiments.Put().Namespace(k.namespace).Resource(Resource).Name(e.Name).Body(e).Do(ctx).Into(e))
}

// Service is of a Cluster.
func (k *Knative) Service(ctx context.Context, name string) (*Service, error) {
	s, err := k.knative.Services(k.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, failure(err)
	}
	observed := s.Status.ObservedGeneration == s.Generation
	return &Service{
		Name:     s.Name,
		Template: templateOf(&s.Spec.Template),
		Traffic:  targetsOf(s.Spec.Traffic),
		Ready:    s.Status.LatestReadyRevisionName,
		Current:  observed && s.Status.LatestCreatedRevisionName == s.Status.LatestReadyRevisionName && isTrue(s.Status.GetCondition(servingv1.ServiceConditionConfigurationsReady)),
		Routed:   observed && isTrue(s.Status.GetCondition(servingv1.ServiceConditionRoutesReady)),
		Object:   s,
	}, nil
}

// UpdateService is of a Cluster.
func (k *Knative) UpdateService(ctx context.Context, s *Service) error {
	next := s.Object.(*servingv1.Service).DeepCopy()
	setTemplate(&next.Spec.Template, s.Template)
	next.Spec.Traffic = nil
	for _, t := range s.Traffic {
		next.Spec.Traffic = append(next.Spec.Traffic, servingv1.TrafficTarget{
			Tag: t.Tag, RevisionName: t.Revision, LatestRevision: &t.Latest, Percent: &t.Percent,
		})
	}
	_, err := k.knative.Services(k.namespace).Update(ctx, next, metav1.UpdateOptions{})
	return failure(err)
}

func isTrue(c *apis.Condition) bool { return c != nil && c.IsTrue() }

func targetsOf(traffic []servingv1.TrafficTarget) (targets []Target) {
	for _, t := range traffic {
		target := Target{Tag: t.Tag, Revision: t.RevisionName, Latest: t.LatestRevision != nil && *t.LatestRevision}
		if t.Percent != nil {
			target.Percent = *t.Percent
		}
		targets = append(targets, target)
	}
	return targets
}

func templateOf(t *servingv1.RevisionTemplateSpec) Template {
	c := t.Spec.GetContainer()
	template := Template{Revision: t.Name, Image: c.Image, Env: make(map[string]string)}
	for _, v := range c.Env {
		if v.ValueFrom != nil {
			template.Elsewhere = append(template.Elsewhere, v.Name)
		} else {
			template.Env[v.Name] = v.Value
		}
	}
	return template
}

// setTemplate changes what differs, and leaves the order of the variables as it is.
func setTemplate(t *servingv1.RevisionTemplateSpec, to Template) {
	c := t.Spec.GetContainer()
	t.Name, c.Image = to.Revision, to.Image
	c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool {
		_, stays := to.Env[v.Name]
		return v.ValueFrom == nil && !stays
	})
	there := make(map[string]bool)
	for i := range c.Env {
		if v := &c.Env[i]; v.ValueFrom == nil {
			v.Value, there[v.Name] = to.Env[v.Name], true
		}
	}
	for _, name := range sortedKeys(to.Env) {
		if !there[name] {
			c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: to.Env[name]})
		}
	}
}

// Revision is of a Cluster.
func (k *Knative) Revision(ctx context.Context, name string) (Revision, error) {
	r, err := k.knative.Revisions(k.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Revision{}, failure(err)
	}
	ready := r.Status.GetCondition(servingv1.RevisionConditionReady)
	if isTrue(ready) {
		return Revision{Ready: true}, nil
	}
	says, err := k.podSays(ctx, name)
	if err != nil {
		return Revision{}, err
	}
	if ready != nil && ready.IsFalse() {
		says = strings.TrimSpace(fmt.Sprintf("%s: %s %s", ready.Reason, firstLine(ready.Message), says))
	}
	return Revision{Failed: says}, nil
}

// podSays is why a pod of the revision cannot run; empty where it only takes its time.
func (k *Knative) podSays(ctx context.Context, revision string) (string, error) {
	var pods corev1.PodList
	err := k.core.Get().Namespace(k.namespace).Resource("pods").Param("labelSelector", serving.RevisionLabelKey+"="+revision).Do(ctx).Into(&pods)
	if err != nil {
		return "", failure(err)
	}
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			waiting, ended := c.State.Waiting, c.LastTerminationState.Terminated
			if c.State.Terminated != nil {
				ended = c.State.Terminated
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
