// Package rollout moves experiments through their lives on Knative: the resource Experiment, a pure machine that says which
// move comes next after what was read of the world, and one driver that reads, and makes the moves.
//
// +groupName=warble.dev
// +versionName=v1alpha1
package rollout

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"warble/shared/experiment"
)

// GroupVersion is that of the resource Experiment.
var GroupVersion = schema.GroupVersion{Group: "warble.dev", Version: "v1alpha1"}

const (
	// Kind is the resource's, and Resource the plural by which the API server serves it.
	Kind     = "Experiment"
	Resource = "experiments"
)

// Experiment is an A/B experiment of a change to Knative Services: a community or a user is in one arm, and stays.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=warble
// +kubebuilder:printcolumn:name=Phase,type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name=Step,type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name=Lift,type=string,JSONPath=`.status.lift`
// +kubebuilder:printcolumn:name=Healthy,type=string,JSONPath=`.status.conditions[?(@.type=="Healthy")].status`
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name=Message,type=string,priority=1,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name: expected at most 30 small letters, digits and -, for it is a part of host names"
// +kubebuilder:validation:XValidation:rule="self.spec.services.all(s, self.metadata.name.size() + s.size() <= 52)",message="services: expected 52 characters at most with metadata.name, for they are a part of host names"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase == 'Draft' || (self.spec.services == oldSelf.spec.services && self.spec.treatment == oldSelf.spec.treatment && self.spec.unit == oldSelf.spec.unit && self.spec.assignment == oldSelf.spec.assignment && has(self.spec.list) == has(oldSelf.spec.list) && (!has(self.spec.list) || self.spec.list == oldSelf.spec.list) && has(self.spec.audience) == has(oldSelf.spec.audience) && (!has(self.spec.audience) || self.spec.audience == oldSelf.spec.audience) && self.spec.layer == oldSelf.spec.layer && self.spec.ramp == oldSelf.spec.ramp && self.spec.promote == oldSelf.spec.promote && self.spec.promoteBy == oldSelf.spec.promoteBy && self.spec.warmingDeadline == oldSelf.spec.warmingDeadline && has(self.spec.exposure) == has(oldSelf.spec.exposure) && (!has(self.spec.exposure) || self.spec.exposure == oldSelf.spec.exposure) && has(self.spec.salt) == has(oldSelf.spec.salt) && (!has(self.spec.salt) || self.spec.salt == oldSelf.spec.salt) && self.spec.metrics == oldSelf.spec.metrics && self.spec.alpha == oldSelf.spec.alpha && self.spec.power == oldSelf.spec.power)",message="spec: expected no change but of wishes, once it has started"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.spec.end) || (has(self.spec.end) && self.spec.end == oldSelf.spec.end) || (oldSelf.spec.end == 'Promoted' && has(self.spec.end) && self.spec.end in ['Stopped', 'RolledBack'] && !(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Concluded', 'Archived']))",message="spec.end: expected no other, for an end is not taken back"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.spec.archive) || !oldSelf.spec.archive || (has(self.spec.archive) && self.spec.archive)",message="spec.archive: expected no other, for what is swept does not come back"
type Experiment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec experiment.Spec `json:"spec"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// ExperimentList is what listing them returns.
//
// +kubebuilder:object:root=true
type ExperimentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Experiment `json:"items"`
}

// Status is what the controller knows, and what it is about to do: a phase is written before the first change that it
// brings. The edges assign by Assign.
//
// +kubebuilder:object:generate=true
type Status struct {
	// +optional
	Phase experiment.Phase `json:"phase,omitempty"`
	// +optional
	Conclusion experiment.Conclusion `json:"conclusion,omitempty"`
	// Because is why it ended so.
	// +optional
	Because string `json:"because,omitempty"`
	// Step is the place in spec.ramp.steps, from 0.
	// +optional
	Step int `json:"step,omitempty"`
	// Progress is the step for people.
	// +optional
	Progress string `json:"progress,omitempty"`
	// Lift is that of the primary metric for people, where the readout tells one.
	// +optional
	Lift string `json:"lift,omitempty"`
	// Message is what the experiment waits for, or the verdict.
	// +optional
	Message string `json:"message,omitempty"`

	// Assign is what the edges assign by. It is written only when every host in it has answered with its revision.
	// +optional
	Assign Assign `json:"assign,omitzero"`

	// Planned is N*, the units of both arms together after which a verdict is due.
	// +optional
	Planned int64 `json:"planned,omitempty"`

	// StartedAt is when it came to Warming, StepAt when the present step, or stage of a promotion, began, ClosedAt when the
	// last slot was closed.
	// +optional
	StartedAt metav1.Time `json:"startedAt,omitzero"`
	// +optional
	StepAt metav1.Time `json:"stepAt,omitzero"`
	// +optional
	ClosedAt metav1.Time `json:"closedAt,omitzero"`

	// Bases are the Services as they were when the arms were made of them.
	// +optional
	// +listType=map
	// +listMapKey=name
	Bases []Base `json:"bases,omitempty"`
	// Rebases is how often both arms have been made anew, and Rebasing tells that it is under way.
	// +optional
	Rebases int `json:"rebases,omitempty"`
	// +optional
	Rebasing bool `json:"rebasing,omitempty"`
	// Given are the Services that had the treatment when steer looked, during the promotion, and when that was, in Unix seconds.
	// +optional
	Given map[string]int64 `json:"given,omitempty"`
	// Adopted tells that it ran in another cluster before, whose transitions the database has.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
	// Swept tells that the arms are gone.
	// +optional
	Swept bool `json:"swept,omitempty"`
	// Unrecorded are transitions that the database does not have yet.
	// +optional
	// +listType=atomic
	Unrecorded []Record `json:"unrecorded,omitempty"`

	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is of the spec that this status follows.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// Assign is all that the edges take from the controller: one request sees one of them, whole.
//
// +kubebuilder:object:generate=true
type Assign struct {
	Salt string          `json:"salt"`
	Step int             `json:"step"`
	Open experiment.Open `json:"open"`
	// Services is left out until the arms answer: the API server refuses a null list.
	// +optional
	// +listType=map
	// +listMapKey=name
	Services []ServiceReach `json:"services,omitempty"`
}

// ServiceReach is where a Service's arms are reached.
//
// +kubebuilder:object:generate=true
type ServiceReach struct {
	Name string `json:"name"`

	experiment.Reach `json:",inline"`
}

// Base is a Service as it was when the arms were made of it.
//
// +kubebuilder:object:generate=true
type Base struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
	// Revision is the one that the arms are copies of.
	Revision string `json:"revision"`
	// Image is that revision's, by digest.
	Image string `json:"image"`
	// Treatment is the image of the treatment, if it has another.
	// +optional
	Treatment string `json:"treatment,omitempty"`
}

// Record is a transition as the status keeps it: see experiment.Transition.
//
// +kubebuilder:object:generate=true
type Record struct {
	ID      string           `json:"id"`
	Phase   experiment.Phase `json:"phase"`
	Step    int              `json:"step"`
	Percent int              `json:"percent"`
	At      metav1.MicroTime `json:"at"`
	Actor   string           `json:"actor"`
	Reason  string           `json:"reason"`
	// Figures are JSON.
	// +optional
	Figures string `json:"figures,omitempty"`
}

// Rules returns what the edge assigns by. A wish to stop or to roll back closes every slot at once, and so does a deletion,
// before the controller has seen it.
func (e *Experiment) Rules() experiment.Rules {
	s := e.Spec
	r := experiment.Rules{
		Name: e.Name, Generation: e.Generation, Services: s.Services, Exposure: s.Exposure, Unit: s.Unit,
		Audience: s.Audience.Communities, Salt: e.Status.Assign.Salt, Step: e.Status.Assign.Step, Open: e.Status.Assign.Open,
		Layer: experiment.Layer{Name: s.Layer.Name, From: 0, To: experiment.Slots},
		Reach: make(map[string]experiment.Reach),
	}
	if len(s.Layer.Slots) == 2 {
		r.Layer.From, r.Layer.To = s.Layer.Slots[0], s.Layer.Slots[1]
	}
	if len(r.Exposure) == 0 {
		r.Exposure = s.Services
	}
	if s.Assignment == "list" {
		r.List = s.List
	}
	for _, at := range e.Status.Assign.Services {
		r.Reach[at.Name] = at.Reach
	}
	if s.End.Closes() || e.deleted() {
		r.Open = experiment.Open{}
	}
	return r
}

// deleted tells whether somebody has deleted it, and it is still there: its arms go before it.
func (e *Experiment) deleted() bool { return e.DeletionTimestamp != nil }

func (e *Experiment) base(service string) *Base {
	for i := range e.Status.Bases {
		if e.Status.Bases[i].Name == service {
			return &e.Status.Bases[i]
		}
	}
	return nil
}

// AddToScheme makes the resource known to a client.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Experiment{}, &ExperimentList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
