// Package rollout moves experiments through their phases on Knative. It has the resource Experiment, a pure function Next that returns the
// next move for a View, and a Driver that reads views and makes the moves.
//
// +groupName=warble.dev
// +versionName=v1alpha1
package rollout

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"warble/shared/experiment"
)

// GroupVersion is the API group and version of the resources Experiment and Metric.
var GroupVersion = schema.GroupVersion{Group: "warble.dev", Version: "v1alpha1"}

const (
	// Kind is the kind of the resource Experiment, and Resource its plural in the API server's paths.
	Kind     = "Experiment"
	Resource = "experiments"
)

// Experiment is an A/B experiment of a change to Knative Services. A community or a user is in one arm, and stays there.
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
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name: expected at most 30 small letters, digits and -, because it is part of host names"
// +kubebuilder:validation:XValidation:rule="self.spec.services.all(s, self.metadata.name.size() + s.size() <= 52)",message="services: expected 52 characters at most with metadata.name, because they are part of host names"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase == 'Draft' || (has(self.spec.title) == has(oldSelf.spec.title) && (!has(self.spec.title) || self.spec.title == oldSelf.spec.title) && has(self.spec.hypothesis) == has(oldSelf.spec.hypothesis) && (!has(self.spec.hypothesis) || self.spec.hypothesis == oldSelf.spec.hypothesis) && has(self.spec.owner) == has(oldSelf.spec.owner) && (!has(self.spec.owner) || self.spec.owner == oldSelf.spec.owner) && self.spec.services == oldSelf.spec.services && self.spec.treatment == oldSelf.spec.treatment && self.spec.unit == oldSelf.spec.unit && has(self.spec.identity) == has(oldSelf.spec.identity) && (!has(self.spec.identity) || self.spec.identity == oldSelf.spec.identity) && has(self.spec.plan) == has(oldSelf.spec.plan) && (!has(self.spec.plan) || self.spec.plan == oldSelf.spec.plan) && self.spec.assignment == oldSelf.spec.assignment && has(self.spec.list) == has(oldSelf.spec.list) && (!has(self.spec.list) || self.spec.list == oldSelf.spec.list) && has(self.spec.audience) == has(oldSelf.spec.audience) && (!has(self.spec.audience) || self.spec.audience == oldSelf.spec.audience) && self.spec.layer == oldSelf.spec.layer && self.spec.ramp == oldSelf.spec.ramp && self.spec.promote == oldSelf.spec.promote && self.spec.promoteBy == oldSelf.spec.promoteBy && self.spec.warmingDeadline == oldSelf.spec.warmingDeadline && has(self.spec.exposure) == has(oldSelf.spec.exposure) && (!has(self.spec.exposure) || self.spec.exposure == oldSelf.spec.exposure) && has(self.spec.salt) == has(oldSelf.spec.salt) && (!has(self.spec.salt) || self.spec.salt == oldSelf.spec.salt) && self.spec.metrics == oldSelf.spec.metrics && self.spec.alpha == oldSelf.spec.alpha && self.spec.power == oldSelf.spec.power)",message="spec: once the experiment has started, only wishes may change"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.spec.end) || (has(self.spec.end) && self.spec.end == oldSelf.spec.end) || (oldSelf.spec.end == 'Promoted' && has(self.spec.end) && self.spec.end in ['Stopped', 'RolledBack'] && !(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Concluded', 'Archived']))",message="spec.end: an end cannot be changed or taken back"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.spec.archive) || !oldSelf.spec.archive || (has(self.spec.archive) && self.spec.archive)",message="spec.archive: it cannot be taken back, because deleted rows do not come back"
type Experiment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec experiment.Spec `json:"spec"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// ExperimentList is a list of Experiments.
//
// +kubebuilder:object:root=true
type ExperimentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Experiment `json:"items"`
}

// Status is what steer knows, and what it is about to do: it writes a phase before it makes the first change of that phase. The edges
// assign by the field Assign.
//
// +kubebuilder:object:generate=true
type Status struct {
	// Phase is the phase of the experiment's life: Draft (also if it is missing), Warming, Running, Paused, Promoting, Concluded or
	// Archived.
	// +optional
	Phase experiment.Phase `json:"phase,omitempty"`
	// Conclusion is how the experiment ended: promoted, rolled back or stopped. It is missing until then.
	// +optional
	Conclusion experiment.Conclusion `json:"conclusion,omitempty"`
	// Because is why it ended in this way.
	// +optional
	Because string `json:"because,omitempty"`
	// Step is the place in spec.ramp.steps, from 0.
	// +optional
	Step int `json:"step,omitempty"`
	// Progress is the present step, for people.
	// +optional
	Progress string `json:"progress,omitempty"`
	// Lift is the lift of the primary metric, for people; empty if the readout has none.
	// +optional
	Lift string `json:"lift,omitempty"`
	// Message is what the experiment waits for, or the verdict.
	// +optional
	Message string `json:"message,omitempty"`

	// Assign is what the edges assign by. Steer writes a host into it only after the host has answered with its revision.
	// +optional
	Assign Assign `json:"assign,omitzero"`

	// Planned is the number N* of units of both arms together after which a verdict is due.
	// +optional
	Planned int64 `json:"planned,omitempty"`

	// StartedAt is when the experiment began to warm.
	// +optional
	StartedAt metav1.Time `json:"startedAt,omitzero"`
	// StepAt is when the present step, or the present stage of a promotion, began.
	// +optional
	StepAt metav1.Time `json:"stepAt,omitzero"`
	// ClosedAt is when the last slot was closed.
	// +optional
	ClosedAt metav1.Time `json:"closedAt,omitzero"`

	// Bases are the Services as they were when the arms were made.
	// +optional
	// +listType=map
	// +listMapKey=name
	Bases []Base `json:"bases,omitempty"`
	// Rebases is how often both arms have been made again.
	// +optional
	Rebases int `json:"rebases,omitempty"`
	// Rebasing is true while both arms are made again.
	// +optional
	Rebasing bool `json:"rebasing,omitempty"`
	// Treated are the Services that have the treatment in the promotion, each with the time when steer saw it, in Unix seconds.
	// +optional
	Treated map[string]int64 `json:"given,omitempty"`
	// Adopted is true if the experiment ran in another cluster before. The database has the transitions of that time.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
	// Swept is true once the arms are deleted.
	// +optional
	Swept bool `json:"swept,omitempty"`
	// Unrecorded are the transitions that the database does not have yet.
	// +optional
	// +listType=atomic
	Unrecorded []Record `json:"unrecorded,omitempty"`

	// Conditions are Ready, Reconciling and Stalled, by the conventions of kstatus, and Healthy, GuardrailsPassing, BaseDrifted and
	// Concluded.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObservedGeneration is the generation of the spec that this status follows.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
}

// Assign is what the edges take from steer. One request uses one Assign, never parts of two.
//
// +kubebuilder:object:generate=true
type Assign struct {
	// Salt is the text that is hashed with each unit to find its slot.
	Salt string `json:"salt"`
	// Step is the place in spec.ramp.steps, from 0, that is in force.
	Step int             `json:"step"`
	Open experiment.Open `json:"open"`
	// Services are the addresses of the arms of each Service. It is missing until the arms answer, because the API server refuses a
	// null list.
	// +optional
	// +listType=map
	// +listMapKey=name
	Services []ServiceReach `json:"services,omitempty"`
	// ArmedAt is when every arm had answered. While it is missing, nobody is assigned: the arms do not exist yet, or somebody has
	// deleted one.
	// +optional
	ArmedAt metav1.MicroTime `json:"armedAt,omitzero"`
}

// arm stores where the arms are, all of which have answered.
func (a *Assign) arm(reach []ServiceReach, now time.Time) {
	a.Services, a.ArmedAt = reach, metav1.NewMicroTime(now)
}

// ServiceReach is where the arms of a Service are reached.
//
// +kubebuilder:object:generate=true
type ServiceReach struct {
	// Name is the Service's name.
	Name string `json:"name"`

	experiment.Reach `json:",inline"`
}

// Base is a Service as it was when the arms were made.
//
// +kubebuilder:object:generate=true
type Base struct {
	// Name is the Service's name.
	Name string `json:"name"`
	// UID is the Service's UID. Another Service of that name ends the experiment.
	UID string `json:"uid"`
	// Revision is the revision from which the arms are copied.
	Revision string `json:"revision"`
	// Image is the image of that revision, by digest.
	Image string `json:"image"`
	// Treatment is the treatment's own image, if it has one.
	// +optional
	Treatment string `json:"treatment,omitempty"`
}

// Record is a transition in the status: see experiment.Transition.
//
// +kubebuilder:object:generate=true
type Record struct {
	// ID is the name of the transition within the experiment, so that it is recorded only once.
	ID string `json:"id"`
	// Phase is the new phase.
	Phase experiment.Phase `json:"phase"`
	// Step is the place in spec.ramp.steps, from 0.
	Step int `json:"step"`
	// Percent is the share of all slots that the treatment has from then on.
	Percent int `json:"percent"`
	// At is the time of the transition.
	At metav1.MicroTime `json:"at"`
	// Actor is who caused it: a person, or steer.
	Actor string `json:"actor"`
	// Reason is why, for people.
	Reason string `json:"reason"`
	// Figures are the figures behind the reason, in JSON; empty if there are none.
	// +optional
	Figures string `json:"figures,omitempty"`
}

// Rules returns the rules by which the edge assigns units, and by which it counts a baseline while the experiment warms. All slots
// are closed as soon as a person wishes to stop or to roll back, or deletes the experiment, even before steer has seen it. They are
// also closed while arms are missing.
func (e *Experiment) Rules() experiment.Rules {
	s := e.Spec
	r := experiment.Rules{
		Name: e.Name, Generation: e.Generation, Services: s.Services, Exposure: s.Exposure, Unit: s.Unit, Identity: s.Identity,
		Audience: s.Audience.Communities, Salt: e.Status.Assign.Salt, Step: e.Status.Assign.Step, Open: e.Status.Assign.Open,
		Layer:   experiment.Layer{Name: s.Layer.Name, From: 0, To: experiment.Slots},
		ArmedAt: e.Status.Assign.ArmedAt.Time, Reach: make(map[string]experiment.Reach), Bounds: s.Metrics.Bounds(), Phase: cmp.Or(e.Status.Phase, experiment.Draft),
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
	if s.End.Closes() || e.deleted() || r.ArmedAt.IsZero() {
		r.Open = experiment.Open{}
	}
	if s.Metrics.Before() > 0 && r.Phase == experiment.Warming && !s.End.Closes() && !e.deleted() {
		for _, percent := range s.Ramp.Steps {
			r.Baseline = append(r.Baseline, percent*experiment.Slots/100)
		}
	}
	return r
}

// CountsBaseline reports whether the arms have answered, and the first step waits only for the end of the baseline.
func (e *Experiment) CountsBaseline() bool {
	return e.Status.Phase == experiment.Warming && e.Spec.Metrics.Before() > 0 && len(e.Status.Assign.Services) > 0
}

// deleted reports whether somebody has deleted the experiment and it still exists, because its arms are deleted first.
func (e *Experiment) deleted() bool { return e.DeletionTimestamp != nil }

// base returns the base of a Service; nil if there is none.
func (e *Experiment) base(service string) *Base {
	for i := range e.Status.Bases {
		if e.Status.Bases[i].Name == service {
			return &e.Status.Bases[i]
		}
	}
	return nil
}

// AddToScheme registers the resources with a client's scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Experiment{}, &ExperimentList{}, &Metric{}, &MetricList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
