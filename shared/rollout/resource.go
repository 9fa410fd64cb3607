// Package rollout moves experiments through their lives on Knative: the resource Experiment, and the one Reconcile that
// reads the world and makes the next move.
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

// Resource is the plural by which the API server serves it.
const Resource = "experiments"

// Finalizer is on an experiment from before its first change to a Service until after its last: one that is deleted
// meanwhile stays until every Service is as it was found.
const Finalizer = "warble.dev/experiment"

// Experiment is an A/B experiment of a change to Knative Services: a community or a user is in one arm, and stays.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=warble
// +kubebuilder:printcolumn:name=Phase,type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name=Step,type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name=Lift,type=string,JSONPath=`.status.lift`
// +kubebuilder:printcolumn:name=Verdict,type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name: expected at most 30 small letters, digits and -, for it is a part of host names"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase == 'Draft' || (self.spec.services == oldSelf.spec.services && self.spec.treatment == oldSelf.spec.treatment && self.spec.unit == oldSelf.spec.unit && self.spec.assignment == oldSelf.spec.assignment && has(self.spec.list) == has(oldSelf.spec.list) && (!has(self.spec.list) || self.spec.list == oldSelf.spec.list) && has(self.spec.audience) == has(oldSelf.spec.audience) && (!has(self.spec.audience) || self.spec.audience == oldSelf.spec.audience) && self.spec.layer == oldSelf.spec.layer && self.spec.ramp == oldSelf.spec.ramp && self.spec.promote == oldSelf.spec.promote && has(self.spec.exposure) == has(oldSelf.spec.exposure) && (!has(self.spec.exposure) || self.spec.exposure == oldSelf.spec.exposure) && has(self.spec.salt) == has(oldSelf.spec.salt) && (!has(self.spec.salt) || self.spec.salt == oldSelf.spec.salt) && self.spec.metrics == oldSelf.spec.metrics && self.spec.alpha == oldSelf.spec.alpha && self.spec.power == oldSelf.spec.power)",message="spec: expected no change but to run, once it has started"
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

// Phase is how far an experiment's life has come.
type Phase string

// The phases.
const (
	Draft      Phase = "Draft"
	Warming    Phase = "Warming" // revisions and tags are made, and nobody is assigned yet
	Running    Phase = "Running"
	Paused     Phase = "Paused"     // slots stay as they are, and so does everyone's arm
	Promoting  Phase = "Promoting"  // the treatment becomes what everyone has
	Concluding Phase = "Concluding" // nobody is assigned any more, and what was made goes
	Concluded  Phase = "Concluded"
	Archived   Phase = "Archived"
)

// Live tells whether Services have arms, or are being given or relieved of them.
func (p Phase) Live() bool {
	switch p {
	case Warming, Running, Paused, Promoting, Concluding:
		return true
	}
	return false
}

// Conclusion is how an experiment ended.
type Conclusion string

// The conclusions.
const (
	WasPromoted   Conclusion = "promoted"
	WasRolledBack Conclusion = "rolled back"
	WasStopped    Conclusion = "stopped"
)

// Status is what Reconcile knows, and what it is about to do: a phase is written before the first change that it brings.
// The edge assigns by Salt and Open.
//
// +kubebuilder:object:generate=true
type Status struct {
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// +optional
	Conclusion Conclusion `json:"conclusion,omitempty"`
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

	// +optional
	Salt string `json:"salt,omitempty"`
	// +optional
	Open experiment.Open `json:"open,omitzero"`

	// Planned is N*, the units of both arms together after which a verdict is due.
	// +optional
	Planned int64 `json:"planned,omitempty"`

	// StartedAt is when the start was wished, StepAt when the present step began, ClosedAt when the last slot was closed.
	// +optional
	StartedAt metav1.Time `json:"startedAt,omitzero"`
	// +optional
	StepAt metav1.Time `json:"stepAt,omitzero"`
	// +optional
	ClosedAt metav1.Time `json:"closedAt,omitzero"`

	// Services are as they were found at the start, with what is made of them.
	// +optional
	// +listType=map
	// +listMapKey=name
	Services []ServiceStatus `json:"services,omitempty"`
	// Next are the Services with both arms made of another image, until those are ready to take over.
	// +optional
	// +listType=map
	// +listMapKey=name
	Next []ServiceStatus `json:"next,omitempty"`
	// Bases is how often that has been done.
	// +optional
	Bases int `json:"bases,omitempty"`
	// Unrecorded are transitions that the database does not have yet.
	// +optional
	// +listType=atomic
	Unrecorded []Record `json:"unrecorded,omitempty"`
	// ObservedGeneration is of the spec that this status follows.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// ServiceStatus is a Service as it was found, and the names of its arms' revisions.
//
// +kubebuilder:object:generate=true
type ServiceStatus struct {
	Name string `json:"name"`
	// Traffic is spec.traffic as it was found: every conclusion comes back to its shape.
	// +listType=atomic
	Traffic []Target `json:"traffic"`
	// Revision is the newest that was ready, to which untouched traffic is pinned instead of the latest.
	Revision string `json:"revision"`
	Image    string `json:"image"`
	// Env are, of the variables that the arms set, those that were there.
	// +optional
	Env map[string]string `json:"env,omitempty"`
	// Control and Treatment are the names of the arms' revisions.
	Control   string `json:"control"`
	Treatment string `json:"treatment"`
}

// Record is a transition as the status keeps it: see experiment.Transition.
//
// +kubebuilder:object:generate=true
type Record struct {
	ID      string           `json:"id"`
	Phase   Phase            `json:"phase"`
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
// before Reconcile has seen it.
func (e *Experiment) Rules() experiment.Rules {
	s := e.Spec
	r := experiment.Rules{
		Name: e.Name, Generation: e.Generation, Services: s.Services, Exposure: s.Exposure, Unit: s.Unit,
		Audience: s.Audience.Communities, Salt: e.Status.Salt, Open: e.Status.Open,
		Layer: experiment.Layer{Name: s.Layer.Name, From: 0, To: experiment.Slots},
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
	if s.Run.State == experiment.Stopped || s.Run.State == experiment.RolledBack || e.deleted() {
		r.Open = experiment.Open{}
	}
	return r
}

// deleted tells whether somebody has deleted it, and it is still there for what is to be put back.
func (e *Experiment) deleted() bool { return e.DeletionTimestamp != nil }

// AddToScheme makes the resource known to a client.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Experiment{}, &ExperimentList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
