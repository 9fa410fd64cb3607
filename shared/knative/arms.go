package knative

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/rollout"
)

const (
	// experimentLabel is on every object that an experiment owns. Its value is the experiment's name.
	experimentLabel = "warble.dev/experiment"
	// sourceAnnotation stores an arm's rollout.Arm.Source.
	sourceAnnotation = "warble.dev/of"

	visibilityLabel = "networking.knative.dev/visibility"
	clusterLocal    = "cluster-local"
)

// The names of the objects that an experiment owns.
func armName(e *rollout.Experiment, service string, arm experiment.Arm) string {
	return e.Name + "-" + service + "-" + string(arm)
}
func routeName(e *rollout.Experiment, service string) string { return e.Name + "-" + service }

// owned returns the metadata of an object that is deleted together with its experiment.
func (c *Cluster) owned(e *rollout.Experiment, name string) metav1.ObjectMeta {
	yes := true
	return metav1.ObjectMeta{
		Name: name, Namespace: c.namespace, Labels: map[string]string{experimentLabel: e.Name},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: rollout.GroupVersion.String(), Kind: rollout.Kind, Name: e.Name, UID: e.UID, Controller: &yes, BlockOwnerDeletion: &yes,
		}},
	}
}

func owns(e *rollout.Experiment, o metav1.Object) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == e.UID })
}

// Arms implements rollout.Cluster.
func (c *Cluster) Arms(ctx context.Context, e *rollout.Experiment) (map[string]*rollout.Arms, error) {
	of := metav1.ListOptions{LabelSelector: experimentLabel + "=" + e.Name}
	configurations, err := c.knative.Configurations(c.namespace).List(ctx, of)
	if err != nil {
		return nil, failure(err)
	}
	routes, err := c.knative.Routes(c.namespace).List(ctx, of)
	if err != nil {
		return nil, failure(err)
	}
	all := make(map[string]*rollout.Arms)
	armsOf := func(service string) *rollout.Arms {
		if all[service] == nil {
			all[service] = &rollout.Arms{}
		}
		return all[service]
	}
	for i := range configurations.Items {
		configuration := &configurations.Items[i]
		if !owns(e, configuration) || configuration.DeletionTimestamp != nil {
			continue
		}
		made, err := c.armState(ctx, configuration)
		if err != nil {
			return nil, err
		}
		for _, service := range e.Spec.Services {
			switch configuration.Name {
			case armName(e, service, experiment.Control):
				armsOf(service).Control = made
			case armName(e, service, experiment.Treatment):
				armsOf(service).Treatment = made
			}
		}
	}
	for i := range routes.Items {
		route := &routes.Items[i]
		for _, service := range e.Spec.Services {
			if route.Name == routeName(e, service) && owns(e, route) && route.DeletionTimestamp == nil {
				armsOf(service).Route = routeState(route)
			}
		}
	}
	return all, nil
}

// armState returns the state of an arm, and the reason if it is not ready.
func (c *Cluster) armState(ctx context.Context, configuration *servingv1.Configuration) (*rollout.ArmState, error) {
	status := &configuration.Status
	made := &rollout.ArmState{Source: configuration.Annotations[sourceAnnotation]}
	if status.ObservedGeneration != configuration.Generation || status.LatestCreatedRevisionName == "" {
		return made, nil
	}
	made.Revision = status.LatestCreatedRevisionName
	if made.Ready = status.LatestReadyRevisionName == made.Revision; made.Ready {
		return made, nil
	}
	says, err := c.podSays(ctx, made.Revision)
	if err != nil {
		return nil, err
	}
	if ready := status.GetCondition(servingv1.ConfigurationConditionReady); ready != nil && ready.IsFalse() {
		says = strings.TrimSpace(fmt.Sprintf("%s: %s %s", ready.Reason, firstLine(ready.Message), says))
	}
	made.Failed = says
	return made, nil
}

// routeState returns the state of a route. It is in force only when its status has the revisions of its spec.
func routeState(route *servingv1.Route) *rollout.RouteState {
	state := &rollout.RouteState{InForce: route.Status.ObservedGeneration == route.Generation && isTrue(route.Status.GetCondition(servingv1.RouteConditionReady))}
	for _, t := range route.Spec.Traffic {
		switch experiment.Arm(t.Tag) {
		case experiment.Control:
			state.Control = t.RevisionName
		case experiment.Treatment:
			state.Treatment = t.RevisionName
			if t.Percent != nil {
				state.Percent = int(*t.Percent)
			}
		}
	}
	if !state.InForce {
		return state
	}
	if route.Status.Address != nil && route.Status.Address.URL != nil {
		state.Reach.Host = route.Status.Address.URL.Host
	}
	for _, t := range route.Status.Traffic {
		if t.URL == nil {
			continue
		}
		side := experiment.Side{Host: t.URL.Host, Revision: t.RevisionName}
		switch experiment.Arm(t.Tag) {
		case experiment.Control:
			state.Reach.Control = side
		case experiment.Treatment:
			state.Reach.Treatment = side
		}
	}
	state.InForce = state.Reach.Control.Revision == state.Control && state.Reach.Treatment.Revision == state.Treatment
	return state
}

// MakeArm implements rollout.Cluster. The arm is a copy of a revision. A revision never changes, so both arms are equal, even if
// somebody deploys the Service between the two calls.
func (c *Cluster) MakeArm(ctx context.Context, e *rollout.Experiment, arm rollout.Arm) error {
	base, err := c.knative.Revisions(c.namespace).Get(ctx, arm.Base, metav1.GetOptions{})
	if err != nil {
		return failure(err)
	}
	want := &servingv1.Configuration{ObjectMeta: c.owned(e, armName(e, arm.Service, arm.Arm))}
	want.Annotations = map[string]string{sourceAnnotation: arm.Source}
	template := &want.Spec.Template
	template.Labels, template.Annotations = copied(base.Labels), copied(base.Annotations)
	template.Labels[manifest.ServiceLabel] = arm.Service
	template.Spec = *base.Spec.DeepCopy()
	container := template.Spec.GetContainer()
	container.Image = arm.Image
	setEnv(container, arm.Env)
	_, err = c.knative.Configurations(c.namespace).Create(ctx, want, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return failure(err)
	}
	present, err := c.knative.Configurations(c.namespace).Get(ctx, want.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return failure(err)
	case !owns(e, present):
		return fmt.Errorf("there is a Configuration %s, and %w", want.Name, rollout.ErrTaken)
	case present.DeletionTimestamp != nil || present.Annotations[sourceAnnotation] == arm.Source:
		return rollout.ErrConflict
	}
	present.Annotations[sourceAnnotation] = arm.Source
	present.Spec = want.Spec
	_, err = c.knative.Configurations(c.namespace).Update(ctx, present, metav1.UpdateOptions{})
	return failure(err)
}

// copied copies labels or annotations, without those that Knative writes itself.
func copied(from map[string]string) map[string]string {
	to := make(map[string]string)
	for key, value := range from {
		if !strings.Contains(key, "serving.knative.dev/") && !strings.HasPrefix(key, "client.knative.dev/") {
			to[key] = value
		}
	}
	return to
}

// PutRoute implements rollout.Cluster.
func (c *Cluster) PutRoute(ctx context.Context, e *rollout.Experiment, r rollout.Route) error {
	want := &servingv1.Route{ObjectMeta: c.owned(e, routeName(e, r.Service))}
	want.Labels[visibilityLabel] = clusterLocal
	target := func(arm experiment.Arm, revision string, percent int) servingv1.TrafficTarget {
		no, share := false, int64(percent)
		return servingv1.TrafficTarget{Tag: string(arm), RevisionName: revision, LatestRevision: &no, Percent: &share}
	}
	want.Spec.Traffic = []servingv1.TrafficTarget{target(experiment.Control, r.Control, 100-r.Percent), target(experiment.Treatment, r.Treatment, r.Percent)}
	_, err := c.knative.Routes(c.namespace).Create(ctx, want, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return failure(err)
	}
	present, err := c.knative.Routes(c.namespace).Get(ctx, want.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return failure(err)
	case !owns(e, present):
		return fmt.Errorf("there is a Route %s, and %w", want.Name, rollout.ErrTaken)
	case present.DeletionTimestamp != nil:
		return rollout.ErrConflict
	}
	present.Spec = want.Spec
	_, err = c.knative.Routes(c.namespace).Update(ctx, present, metav1.UpdateOptions{})
	return failure(err)
}

// RemoveRoute implements rollout.Cluster.
func (c *Cluster) RemoveRoute(ctx context.Context, e *rollout.Experiment, service string) error {
	routes := c.knative.Routes(c.namespace)
	present, err := routes.Get(ctx, routeName(e, service), metav1.GetOptions{})
	return remove(ctx, e, present, err, routes.Delete)
}

// RemoveArms implements rollout.Cluster.
func (c *Cluster) RemoveArms(ctx context.Context, e *rollout.Experiment, service string) error {
	configurations := c.knative.Configurations(c.namespace)
	var failed []error
	for _, arm := range experiment.Arms {
		present, err := configurations.Get(ctx, armName(e, service, arm), metav1.GetOptions{})
		failed = append(failed, remove(ctx, e, present, err, configurations.Delete))
	}
	return errors.Join(failed...)
}

// remove deletes an object that was read, if the experiment owns it.
func remove(ctx context.Context, e *rollout.Experiment, present metav1.Object, err error, deletion func(context.Context, string, metav1.DeleteOptions) error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return failure(err)
	}
	if !owns(e, present) {
		return nil
	}
	uid := present.GetUID()
	err = deletion(ctx, present.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return failure(err)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
