package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"

	"warble/shared/experiment"
	"warble/shared/rollout"
)

// namespace is the only namespace of a local run.
const namespace = "warble"

// resource and kind name experiments in errors.
var (
	resource = schema.GroupResource{Group: rollout.GroupVersion.Group, Resource: rollout.Resource}
	kind     = schema.GroupKind{Group: rollout.GroupVersion.Group, Kind: rollout.Kind}
)

// The functions below read and change experiments like an API server, and return its errors.

// get returns a copy of an experiment.
func (r *records) get(name string) (*rollout.Experiment, error) {
	e := r.read().Experiments[name]
	if e == nil {
		return nil, apierrors.NewNotFound(resource, name)
	}
	return e.DeepCopy(), nil
}

// list returns copies of all experiments, the oldest first.
func (r *records) list() *rollout.ExperimentList {
	k := r.read()
	list := &rollout.ExperimentList{
		TypeMeta: metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: rollout.Kind + "List"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(k.Version, 10)},
		Items:    make([]rollout.Experiment, 0, len(k.Experiments)),
	}
	for _, e := range k.byAge() {
		list.Items = append(list.Items, *e.DeepCopy())
	}
	return list
}

// byAge returns the experiments, the oldest first.
func (k *kept) byAge() []*rollout.Experiment {
	var all []*rollout.Experiment
	for _, e := range k.Experiments {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *rollout.Experiment) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// create stores a new experiment, and returns it with the metadata that the server sets.
func (r *records) create(e *rollout.Experiment) (*rollout.Experiment, error) {
	if e.ResourceVersion != "" {
		return nil, apierrors.NewBadRequest("metadata.resourceVersion: expected none in a new experiment")
	}
	e = e.DeepCopy()
	e.Status = rollout.Status{}
	e.Spec.Default()
	if err := refuse(e, mistakes(e)); err != nil {
		return nil, err
	}
	setMetadata(e, &metav1.ObjectMeta{Name: e.Name, Namespace: namespace, UID: uuid.NewUUID(), Generation: 1, CreationTimestamp: metav1.Now()})
	err := r.write(func(k *kept) error {
		if k.Experiments[e.Name] != nil {
			return apierrors.NewAlreadyExists(resource, e.Name)
		}
		k.put(e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// update replaces an experiment, except its status, by the result of change.
func (r *records) update(name string, change func(present *rollout.Experiment) (*rollout.Experiment, error)) (*rollout.Experiment, error) {
	return r.replace(name, func(present *rollout.Experiment) (*rollout.Experiment, error) {
		e, err := change(present.DeepCopy())
		if err != nil {
			return nil, err
		}
		if err := checkReplaces(present, e); err != nil {
			return nil, err
		}
		e.Spec.Default()
		forbidden := experiment.CheckChange(present.Status.Phase, present.Spec, e.Spec)
		if err := refuse(e, errors.Join(mistakes(e), forbidden)); err != nil {
			return nil, err
		}
		setMetadata(e, &present.ObjectMeta)
		e.Status = present.Status
		if !sameJSON(present.Spec, e.Spec) {
			e.Generation++
		}
		return e, nil
	})
}

// updateStatus replaces only the status of an experiment.
func (r *records) updateStatus(name string, e *rollout.Experiment) (*rollout.Experiment, error) {
	return r.replace(name, func(present *rollout.Experiment) (*rollout.Experiment, error) {
		if err := checkReplaces(present, e); err != nil {
			return nil, err
		}
		next := present.DeepCopy()
		next.Status = *e.Status.DeepCopy()
		return next, nil
	})
}

// replace stores the result of change as a new version of the experiment, unless nothing has changed.
func (r *records) replace(name string, change func(present *rollout.Experiment) (*rollout.Experiment, error)) (e *rollout.Experiment, err error) {
	err = r.write(func(k *kept) error {
		present := k.Experiments[name]
		if present == nil {
			return apierrors.NewNotFound(resource, name)
		}
		if e, err = change(present); err != nil {
			return err
		}
		if !sameJSON(present, e) {
			k.put(e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// remove deletes an experiment immediately, because a local run has no finalizers. Its arms are dropped later.
func (r *records) remove(name string, only *metav1.Preconditions) (*rollout.Experiment, error) {
	var gone *rollout.Experiment
	err := r.write(func(k *kept) error {
		gone = k.Experiments[name]
		switch {
		case gone == nil:
			return apierrors.NewNotFound(resource, name)
		case only != nil && only.UID != nil && *only.UID != gone.UID:
			return apierrors.NewConflict(resource, name, fmt.Errorf("metadata.uid is %s: expected %s", gone.UID, *only.UID))
		case only != nil && only.ResourceVersion != nil && *only.ResourceVersion != gone.ResourceVersion:
			return apierrors.NewConflict(resource, name, fmt.Errorf("metadata.resourceVersion is %s: expected %s", gone.ResourceVersion, *only.ResourceVersion))
		}
		delete(k.Experiments, name)
		k.Version++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// checkReplaces returns an error if e must not replace the present experiment: it has another name, UID or resource version.
func checkReplaces(present, e *rollout.Experiment) error {
	switch {
	case e.Name != present.Name:
		return apierrors.NewBadRequest(fmt.Sprintf("metadata.name: %q: expected %s, as in the path", e.Name, present.Name))
	case e.UID != "" && e.UID != present.UID:
		return apierrors.NewConflict(resource, e.Name, fmt.Errorf("metadata.uid is %s: expected %s, because another experiment has this name now", present.UID, e.UID))
	case e.ResourceVersion == "":
		return refuse(e, errors.New("metadata.resourceVersion: missing: expected the version that was read"))
	case e.ResourceVersion != present.ResourceVersion:
		return apierrors.NewConflict(resource, e.Name, errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	return nil
}

// mistakes returns every mistake in an experiment. The defaults are set already.
func mistakes(e *rollout.Experiment) error {
	all := []error{experiment.CheckName(e.Name), e.Spec.Check(), e.Spec.CheckNames(e.Name), checkLocal(&e.Spec)}
	if len(e.Finalizers) > 0 {
		all = append(all, errors.New("metadata.finalizers: expected none, because a local run deletes immediately"))
	}
	return errors.Join(all...)
}

// checkLocal returns the parts of a spec that a local run cannot carry out.
func checkLocal(s *experiment.Spec) error {
	var all []error
	if len(s.Treatment.Image) > 0 {
		all = append(all, errors.New("treatment.image: expected treatment.env, because a local run has only one program for each function"))
	}
	if s.Rebase != nil && len(s.Rebase.Image) > 0 {
		all = append(all, errors.New("rebase.image: expected none, because a local run has only one program for each function"))
	}
	if s.Unit == experiment.Request {
		all = append(all, errors.New("unit: request needs Knative's traffic split: expected user or community in a local run"))
	}
	return errors.Join(all...)
}

// refuse returns an error of status 422 for mistakes, which are a line each. It returns nil if there are none.
func refuse(e *rollout.Experiment, mistakes error) error {
	if mistakes == nil {
		return nil
	}
	refusal := apierrors.NewInvalid(kind, e.Name, nil)
	refusal.ErrStatus.Message += ":\n" + mistakes.Error()
	for line := range strings.SplitSeq(mistakes.Error(), "\n") {
		field, message, _ := strings.Cut(line, ": ")
		refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: field, Message: message})
	}
	return refusal
}

// setMetadata sets the metadata of e that belong to the server, and keeps its labels and annotations.
func setMetadata(e *rollout.Experiment, server *metav1.ObjectMeta) {
	e.TypeMeta = metav1.TypeMeta{APIVersion: rollout.GroupVersion.String(), Kind: rollout.Kind}
	e.ObjectMeta = metav1.ObjectMeta{
		Name: server.Name, Namespace: server.Namespace, UID: server.UID, ResourceVersion: server.ResourceVersion,
		Generation: server.Generation, CreationTimestamp: server.CreationTimestamp, Labels: e.Labels, Annotations: e.Annotations,
	}
}

// sameJSON reports whether two values have the same JSON. There, an empty field is the same as a missing one, and times have whole seconds.
func sameJSON(a, b any) bool {
	one, err := json.Marshal(a)
	other, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(one, other)
}
