package experiment

// Spec is what an experiment is to be: the spec of the resource Experiment, and in PostgreSQL the column spec of the
// table experiments. Fields that are left out have the defaults of Default. Nothing but Wishes may change once it has
// started. What the markers and Check refuse is the same; a test holds them together.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.services.all(s, self.services.exists_one(o, o == s))",message="services: expected each once"
// +kubebuilder:validation:XValidation:rule="!has(self.treatment.image) || self.treatment.image.all(s, s in self.services)",message="treatment.image: expected names of services"
// +kubebuilder:validation:XValidation:rule="!has(self.rebase) || !has(self.rebase.image) || self.rebase.image.all(s, s in self.services)",message="rebase.image: expected names of services"
// +kubebuilder:validation:XValidation:rule="!has(self.step) || self.step < self.ramp.steps.size()",message="step: expected a place in ramp.steps, from 0"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || self.exposure.all(s, s in self.services)",message="exposure: expected names of services"
// +kubebuilder:validation:XValidation:rule="(self.assignment == 'list') == has(self.list)",message="list: expected the communities or users of both arms where assignment is list, and nothing else where it is not"
// +kubebuilder:validation:XValidation:rule="self.assignment != 'list' || self.ramp.steps.size() == 1",message="ramp.steps: expected one step where assignment is list, which is open or is not"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || self.assignment != 'list'",message="assignment: expected slots, for no request is on a list"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.layer.slots)",message="layer.slots: expected none, for Knative's percent takes unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.exposure)",message="exposure: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.audience) || !has(self.audience.communities)",message="audience.communities: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || self.ramp.hold.units == 0",message="ramp.hold.units: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="(self.unit == 'request') != has(self.metrics.primary)",message="metrics.primary: expected a metric, and none with unit request, which guardrails alone judge"
// +kubebuilder:validation:XValidation:rule="(self.unit == 'request') != has(self.metrics.window)",message="metrics.window: expected a duration, and none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.metrics.secondary)",message="metrics.secondary: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || has(self.metrics.guardrails)",message="metrics.guardrails: expected one at least with unit request, which nothing else judges"
type Spec struct {
	// Services are the Knative Services that get two arms.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Services  []string `json:"services"`
	Treatment Treated  `json:"treatment"`
	// Unit is what is randomised.
	Unit Unit `json:"unit"`
	// Assignment is slots, or list, where List says who is in which arm.
	// +optional
	// +kubebuilder:validation:Enum=slots;list
	// +kubebuilder:default=slots
	Assignment string `json:"assignment,omitempty"`
	// +optional
	List *List `json:"list,omitempty"`
	// +optional
	Audience Audience `json:"audience,omitzero"`
	// +optional
	// +kubebuilder:default={}
	Layer LayerShare `json:"layer,omitzero"`
	Ramp  Ramp       `json:"ramp"`
	// Promote is manual, or automatic: a win becomes what everyone has.
	// +optional
	// +kubebuilder:validation:Enum=manual;automatic
	// +kubebuilder:default=manual
	Promote string `json:"promote,omitempty"`
	// PromoteBy is who gives the Services the treatment: steer, or git. With git steer writes no Service, and waits until the
	// manifests have brought it.
	// +optional
	// +kubebuilder:validation:Enum=steer;git
	// +kubebuilder:default=steer
	PromoteBy string `json:"promoteBy,omitempty"`
	// WarmingDeadline is how long the arms may take to answer, before the experiment is rolled back.
	// +optional
	// +kubebuilder:default="10m"
	WarmingDeadline Duration `json:"warmingDeadline,omitempty"`
	// Exposure are those of Services at which an assigned user counts as exposed; all where it is empty.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=63
	Exposure []string `json:"exposure,omitempty"`
	// Salt is drawn at the start where it is empty.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[-._/A-Za-z0-9]*$`
	Salt    string  `json:"salt,omitempty"`
	Metrics Metrics `json:"metrics"`
	// Alpha is the chance of a verdict where there is no effect.
	// +optional
	// +kubebuilder:default=0.05
	// +kubebuilder:validation:Minimum=0.000001
	// +kubebuilder:validation:Maximum=0.5
	Alpha float64 `json:"alpha,omitempty"`
	// Power is the chance to see an effect of the least size that is worth having.
	// +optional
	// +kubebuilder:default=0.8
	// +kubebuilder:validation:Minimum=0.5
	// +kubebuilder:validation:Maximum=0.999
	Power float64 `json:"power,omitempty"`

	Wishes `json:",inline"`
}

// Treated is what the treatment has that the control has not.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="has(self.env) || has(self.image)",message="expected env or image, or the arms are the same"
// +kubebuilder:validation:XValidation:rule="!has(self.env) || self.env.all(name, !name.startsWith('WARBLE_') && !name.startsWith('K_') && name != 'PORT')",message="env: expected other names than PORT, K_ and WARBLE_, by which a revision is told what it is"
type Treated struct {
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=20
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",message="expected names of environment variables"
	Env map[string]Value `json:"env,omitempty"`
	// Image is by service.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=20
	Image map[string]Image `json:"image,omitempty"`
}

// Value is that of an environment variable.
//
// +kubebuilder:validation:MaxLength=1024
type Value string

// Image is a container's.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
type Image string

// Audience is whom the experiment is for; everyone where it is empty.
//
// +kubebuilder:object:generate=true
type Audience struct {
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Communities []string `json:"communities,omitempty"`
}

// LayerShare is the part of a layer that the experiment has. Experiments that name no layer have one of their own each, and
// are independent.
//
// +kubebuilder:object:generate=true
type LayerShare struct {
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name,omitempty"`
	// Slots are the first, and the first past it, of 10000; all where it is empty.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:items:Maximum=10000
	// +kubebuilder:validation:XValidation:rule="self.size() != 2 || self[0] < self[1]",message="expected the first slot and a greater one, the first past it"
	Slots []int `json:"slots,omitempty"`
}

// Ramp is how the experiment grows. Steps are percent of all slots, in each arm.
//
// +kubebuilder:object:generate=true
type Ramp struct {
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=50
	// +kubebuilder:validation:XValidation:rule="self.all(step, self.filter(other, other <= step).size() == self.indexOf(step) + 1)",message="expected percents that rise"
	Steps []int `json:"steps"`
	// +optional
	// +kubebuilder:default={}
	Hold Hold `json:"hold,omitzero"`
	// Approve is automatic, or manual: a person has to approve each step after the first.
	// +optional
	// +kubebuilder:validation:Enum=automatic;manual
	// +kubebuilder:default=automatic
	Approve string `json:"approve,omitempty"`
}

// Hold is how long a step lasts at least: the time, and the units that have entered in each arm.
//
// +kubebuilder:object:generate=true
type Hold struct {
	// +optional
	// +kubebuilder:default="24h"
	Time Duration `json:"time,omitempty"`
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	Units int `json:"units,omitempty"`
}

// Metrics is what the experiment is judged by.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!has(self.window) || self.window.matches('[1-9]')",message="window: expected more than no time"
type Metrics struct {
	// Window is how long after its entry a unit's value is frozen.
	// +optional
	Window Duration `json:"window,omitempty"`
	// +optional
	Primary Primary `json:"primary,omitzero"`
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Secondary []string `json:"secondary,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Guardrails []Guardrail `json:"guardrails,omitempty"`
}

// Primary is the metric that decides, and the least relative effect on it that is worth having.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.minimumEffect.matches('[1-9]')",message="minimumEffect: expected more than 0%"
type Primary struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Name          string  `json:"name"`
	MinimumEffect Percent `json:"minimumEffect"`
}

// Guardrail is a share that the treatment may worsen by less than Margin.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.margin.matches('[1-9]') && double(self.margin.split('p')[0]) < 100.0",message="margin: expected more than 0pp and less than 100pp"
// +kubebuilder:validation:XValidation:rule="(self.name == 'slow_share') == has(self.over)",message="over: expected a duration with slow_share, and none with error_share"
// +kubebuilder:validation:XValidation:rule="!has(self.over) || !self.over.endsWith('d') && ['1ms', '1.5ms', '2ms', '3ms', '4ms', '5ms', '7.5ms', '10ms', '15ms', '20ms', '25ms', '30ms', '40ms', '50ms', '75ms', '100ms', '150ms', '200ms', '250ms', '300ms', '400ms', '500ms', '750ms', '1000ms', '1500ms', '2000ms', '2500ms', '3000ms', '4000ms', '5000ms', '7500ms', '10000ms', '15000ms', '20000ms', '30000ms'].exists(bound, duration(bound) == duration(self.over))",message="over: expected an upper end of the buckets that latencies are counted in, as 250ms"
type Guardrail struct {
	// +kubebuilder:validation:Enum=error_share;slow_share
	Name string `json:"name"`
	// Over is what is slow: one of LatencyBounds.
	// +optional
	Over   Duration `json:"over,omitempty"`
	Margin Points   `json:"margin"`
}
