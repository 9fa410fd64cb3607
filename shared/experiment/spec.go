package experiment

import (
	"slices"
	"time"
)

// Spec describes an experiment: it is the spec of the resource Experiment, and the column spec of the table experiments in
// PostgreSQL. Missing fields have the defaults of Default. Once the experiment has started, only Wishes may change. The markers
// below and Check refuse the same specs; a test compares them.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.services.all(s, self.services.exists_one(o, o == s))",message="services: expected each once"
// +kubebuilder:validation:XValidation:rule="!has(self.treatment.image) || self.treatment.image.all(s, s in self.services)",message="treatment.image: expected names of services"
// +kubebuilder:validation:XValidation:rule="!has(self.rebase) || !has(self.rebase.image) || self.rebase.image.all(s, s in self.services)",message="rebase.image: expected names of services"
// +kubebuilder:validation:XValidation:rule="!has(self.step) || self.step < self.ramp.steps.size()",message="step: expected a step of ramp.steps, counted from 0"
// +kubebuilder:validation:XValidation:rule="!has(self.exposure) || self.exposure.all(s, s in self.services)",message="exposure: expected names of services"
// +kubebuilder:validation:XValidation:rule="(self.assignment == 'list') == has(self.list)",message="list: expected the communities or users of both arms if assignment is list, and nothing otherwise"
// +kubebuilder:validation:XValidation:rule="self.assignment != 'list' || self.ramp.steps.size() == 1",message="ramp.steps: expected one step if assignment is list, because a list has no ramp"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || self.assignment != 'list'",message="assignment: expected slots with unit request, because no request is on a list"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.layer.slots)",message="layer.slots: expected none with unit request, because no request is assigned"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.exposure)",message="exposure: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.audience) || !has(self.audience.communities)",message="audience.communities: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || self.ramp.hold.units == 0",message="ramp.hold.units: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="(self.unit == 'request') != has(self.metrics.primary)",message="metrics.primary: expected a metric; none with unit request, which only guardrails judge"
// +kubebuilder:validation:XValidation:rule="(self.unit == 'request') != has(self.metrics.window)",message="metrics.window: expected a duration; none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.metrics.secondary)",message="metrics.secondary: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.metrics.noWorse)",message="metrics.noWorse: expected none with unit request"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || !has(self.metrics.baseline)",message="metrics.baseline: expected none with unit request, because no request is assigned"
// +kubebuilder:validation:XValidation:rule="!has(self.metrics.baseline) || self.services.size() * self.ramp.steps.size() <= 40",message="metrics.baseline: with a baseline, services times steps may be at most 40"
// +kubebuilder:validation:XValidation:rule="!has(self.identity) || self.identity.kind == 'token' || self.unit == 'user'",message="unit: expected user with identity issuer or visitor, because Warble knows only the communities of its own users"
// +kubebuilder:validation:XValidation:rule="!has(self.identity) || self.identity.kind != 'visitor' || !has(self.audience) || !has(self.audience.communities)",message="audience.communities: expected none with identity visitor, because visitors have no community"
// +kubebuilder:validation:XValidation:rule="!has(self.plan) || self.unit == 'user' && self.assignment != 'list'",message="plan: expected none, except with unit user and assignment slots, where units enter one by one"
// +kubebuilder:validation:XValidation:rule="self.unit != 'request' || has(self.metrics.guardrails)",message="metrics.guardrails: expected at least one with unit request, which only guardrails judge"
type Spec struct {
	// Title is the question that the experiment answers, for example "Do people post more when they can like?". Without a title,
	// reports show the experiment's name.
	// +optional
	// +kubebuilder:validation:MaxLength=120
	Title string `json:"title,omitempty"`
	// Hypothesis is what you expect, and why.
	// +optional
	// +kubebuilder:validation:MaxLength=1000
	Hypothesis string `json:"hypothesis,omitempty"`
	// Owner is who answers questions about the experiment: a person, a team or an address.
	// +optional
	// +kubebuilder:validation:MaxLength=120
	Owner string `json:"owner,omitempty"`
	// Services are the Knative Services that get two arms.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Services  []string `json:"services"`
	Treatment Treated  `json:"treatment"`
	// Unit is what is randomised: community, user or request.
	Unit Unit `json:"unit"`
	// Identity is how the edge recognises the people who call a guest, a Service that does not belong to Warble. By default, it
	// recognises users by Warble's access token.
	// +optional
	Identity Identity `json:"identity,omitzero"`
	// Assignment is slots, the default, or list: then List says who is in which arm.
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
	// Promote is manual, the default, or automatic: after a win, steer gives everyone the treatment.
	// +optional
	// +kubebuilder:validation:Enum=manual;automatic
	// +kubebuilder:default=manual
	Promote string `json:"promote,omitempty"`
	// PromoteBy is who writes the treatment into the Services at a promotion: steer, the default, or git. With git, steer does not
	// write Services, and waits until your manifests have brought the treatment.
	// +optional
	// +kubebuilder:validation:Enum=steer;git
	// +kubebuilder:default=steer
	PromoteBy string `json:"promoteBy,omitempty"`
	// WarmingDeadline is how long the arms may take until they answer; after that the experiment is rolled back. 10m by default.
	// +optional
	// +kubebuilder:default="10m"
	WarmingDeadline *Duration `json:"warmingDeadline,omitempty"`
	// Exposure lists the Services, out of services, whose use exposes an assigned user. Empty, the default, means all of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=63
	Exposure []string `json:"exposure,omitempty"`
	// Salt is the text that is hashed with each unit to find its slot. If it is empty, the default, a random salt is drawn at the start.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[-._/A-Za-z0-9]*$`
	Salt    string  `json:"salt,omitempty"`
	Metrics Metrics `json:"metrics"`
	// Plan is what you know of the units before the start. It replaces what the database knows of their past, for example if a guest's
	// visitors were in no experiment before.
	// +optional
	Plan Known `json:"plan,omitzero"`
	// Alpha is the chance of a verdict of harm or win if there is no effect: a share, 0.05 by default.
	// +optional
	// +kubebuilder:default=0.05
	// +kubebuilder:validation:Minimum=0.000001
	// +kubebuilder:validation:Maximum=0.5
	Alpha float64 `json:"alpha,omitempty"`
	// Power is the chance of finding an effect as large as the minimum effect: a share, 0.8 by default.
	// +optional
	// +kubebuilder:default=0.8
	// +kubebuilder:validation:Minimum=0.5
	// +kubebuilder:validation:Maximum=0.999
	Power float64 `json:"power,omitempty"`

	Wishes `json:",inline"`
}

// Treated is what the treatment changes. The control keeps the Service's own variables and image.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="has(self.env) || has(self.image)",message="expected env or image, because otherwise the arms are the same"
// +kubebuilder:validation:XValidation:rule="!has(self.env) || self.env.all(name, !name.startsWith('WARBLE_') && !name.startsWith('K_') && name != 'PORT')",message="env: expected names other than PORT, K_* and WARBLE_*, which Knative and steer set"
type Treated struct {
	// Env has environment variables of the treatment, by name. They replace the Service's variables, or are added to them.
	// None by default.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=20
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",message="expected names of environment variables"
	Env map[string]Value `json:"env,omitempty"`
	// Image is the treatment's container image, by Service. It must be from the same repository as the Service's image. A Service
	// that is missing here keeps its image.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=20
	Image map[string]Image `json:"image,omitempty"`
}

// Value is the value of an environment variable.
//
// +kubebuilder:validation:MaxLength=1024
type Value string

// Image is a reference to a container image.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
type Image string

// Audience is who takes part in the experiment; if it is empty, everyone does.
//
// +kubebuilder:object:generate=true
type Audience struct {
	// Communities are the slugs of the communities whose members take part. If it is empty, the default, everyone takes part.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Communities []string `json:"communities,omitempty"`
}

// LayerShare is the part of a layer that the experiment uses. An experiment that names no layer has its own, and is independent
// of all others.
//
// +kubebuilder:object:generate=true
type LayerShare struct {
	// Name is the layer's name. If it is empty, the default, the experiment has its own layer.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name,omitempty"`
	// Slots has two numbers: the experiment's first slot out of 10000, and the first slot after its last. If it is empty, the
	// experiment uses all slots.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=2
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:items:Maximum=10000
	// +kubebuilder:validation:XValidation:rule="self.size() != 2 || self[0] < self[1]",message="expected two slots: the first, and the one after the last"
	Slots []int `json:"slots,omitempty"`
}

// Ramp is how the experiment grows, step by step.
//
// +kubebuilder:object:generate=true
type Ramp struct {
	// Steps are the shares of all slots that each arm has at each step, in percent. They are whole numbers that rise, up to 50,
	// because both arms have equal shares. If requests are the unit, both arms together get twice this share of the requests.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=50
	// +kubebuilder:validation:XValidation:rule="self.all(step, self.filter(other, other <= step).size() == self.indexOf(step) + 1)",message="expected rising percents"
	Steps []int `json:"steps"`
	// +optional
	// +kubebuilder:default={}
	Hold Hold `json:"hold,omitzero"`
	// Approve is automatic, the default, or manual: then a person must approve each step after the first.
	// +optional
	// +kubebuilder:validation:Enum=automatic;manual
	// +kubebuilder:default=automatic
	Approve string `json:"approve,omitempty"`
}

// Hold is what must pass before the next step: a time, and a number of units that have entered in each arm.
//
// +kubebuilder:object:generate=true
type Hold struct {
	// Time is the shortest time that a step lasts; 24h by default.
	// +optional
	// +kubebuilder:default="24h"
	Time *Duration `json:"time,omitempty"`
	// Units is how many units must have entered each arm before the next step; 0, the default, waits for none.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	Units int `json:"units,omitempty"`
}

// Least returns the shortest time that a step lasts; 0 if the defaults have not been filled in.
func (h Hold) Least() time.Duration {
	if h.Time == nil {
		return 0
	}
	return time.Duration(*h.Time)
}

// Metrics has the metrics and guardrails that judge the experiment.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!has(self.baseline) || has(self.guardrails)",message="baseline: expected guardrails as well, because only they use a baseline"
type Metrics struct {
	// Window is how long a unit is observed after its entry, for example 7d; then its value is frozen. It has no default. Communities
	// and users need a window; requests have none.
	// +optional
	Window Duration `json:"window,omitempty"`
	// +optional
	Primary Primary `json:"primary,omitzero"`
	// Secondary has the names of further metrics that the report shows. They decide nothing; none by default.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Secondary []string `json:"secondary,omitempty"`
	// NoWorse has further metrics, each with a margin. The report says whether the treatment is shown to be worse by less than the
	// margin. They decide nothing; none by default.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	NoWorse []NoWorse `json:"noWorse,omitempty"`
	// Guardrails are shares of requests. If the treatment makes one worse by more than its margin, it is rolled back. None by default.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Guardrails []Guardrail `json:"guardrails,omitempty"`
	// Baseline is how long the guardrails' shares are counted before the first step, while nobody is treated, for example 1h. The units
	// that will be in an arm at the last step are counted. The difference between the arms in this time is subtracted from the harm.
	// None by default.
	// +optional
	Baseline *Duration `json:"baseline,omitempty"`
}

// Before returns how long the baseline is counted; 0 without a baseline.
func (g *Metrics) Before() time.Duration {
	if g.Baseline == nil {
		return 0
	}
	return time.Duration(*g.Baseline)
}

// Bounds returns the durations above which an answer is slow: each distinct Over of the guardrails, the lowest first. The edge counts
// slow answers for each bound, and rows store the counts in this order. The bounds do not change once the experiment has started.
func (g *Metrics) Bounds() (bounds []Duration) {
	for _, guardrail := range g.Guardrails {
		if guardrail.Over > 0 {
			bounds = append(bounds, guardrail.Over)
		}
	}
	slices.Sort(bounds)
	return slices.Compact(bounds)
}

// Known is what people know of the units and of the primary metric before the start. It sets how many units the experiment waits for.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="!has(self.cv) || has(self.mean)",message="cv: expected mean as well"
type Known struct {
	// UnitsPerDay is how many new units a day come to the services. It counts all units, whether they are in an arm or in
	// none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000000
	UnitsPerDay int `json:"unitsPerDay,omitempty"`
	// Mean is the primary metric's value per unit and window without the treatment. For a proportion it is the share, less
	// than 1.
	// +optional
	// +kubebuilder:validation:Minimum=0.000001
	// +kubebuilder:validation:Maximum=1000000000000
	Mean float64 `json:"mean,omitempty"`
	// CV is the coefficient of variation of a unit's value: the standard deviation, divided by the mean. A proportion needs none.
	// +optional
	// +kubebuilder:validation:Minimum=0.001
	// +kubebuilder:validation:Maximum=1000
	CV float64 `json:"cv,omitempty"`
}

// Primary is the metric that decides the verdict, and the smallest effect on it that is worth having.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.minimumEffect.matches('[1-9]')",message="minimumEffect: expected more than 0%"
type Primary struct {
	// Name is the name of the metric, for example tweets_per_user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`
	// MinimumEffect is the smallest change of the metric that is worth having, in percent of the control's value, for example 5%. The
	// plan computes how many units are needed to find it.
	MinimumEffect Percent `json:"minimumEffect"`
	// Cap is the largest value that counts for a user. Larger values count as the cap (winsorising), so that a few very active users
	// do not hide everyone else. It is fixed before the start; none by default.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Cap float64 `json:"cap,omitempty"`
}

// NoWorse is a metric that the treatment may not worsen by more than Margin (non-inferiority).
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.margin.matches('[1-9]')",message="margin: expected more than 0%"
type NoWorse struct {
	// Name is the name of the metric, for example retweets_per_user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`
	// Margin is how much worse the treatment's value may be, in percent of the control's value, for example 2%.
	Margin Percent `json:"margin"`
}

// Guardrail is a share of requests that the treatment may make worse by at most Margin.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.margin.matches('[1-9]') && double(self.margin.split('p')[0]) < 100.0",message="margin: expected more than 0pp and less than 100pp"
// +kubebuilder:validation:XValidation:rule="(self.name == 'slow_share') == has(self.over)",message="over: expected a duration with slow_share, and none with error_share"
// +kubebuilder:validation:XValidation:rule="!has(self.over) || !self.over.endsWith('d') && ['1ms', '1.5ms', '2ms', '3ms', '4ms', '5ms', '7.5ms', '10ms', '15ms', '20ms', '25ms', '30ms', '40ms', '50ms', '75ms', '100ms', '150ms', '200ms', '250ms', '300ms', '400ms', '500ms', '750ms', '1000ms', '1500ms', '2000ms', '2500ms', '3000ms', '4000ms', '5000ms', '7500ms', '10000ms', '15000ms', '20000ms', '30000ms'].exists(bound, duration(bound) == duration(self.over))",message="over: expected one of the bounds of latency histograms, for example 250ms"
type Guardrail struct {
	// Name is error_share, the share of answers that are errors, or slow_share, the share that took longer than Over.
	// +kubebuilder:validation:Enum=error_share;slow_share
	Name string `json:"name"`
	// Over is the longest time of an answer that is not slow, for example 250ms. It must be one of the bounds of the latency
	// histograms. slow_share needs it, and error_share must not have it.
	// +optional
	Over Duration `json:"over,omitempty"`
	// Margin is how much larger the treatment's share may be than the control's, in percentage points, for example 0.5pp.
	Margin Points `json:"margin"`
}
