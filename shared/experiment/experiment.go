// Package experiment is what an experiment is: its spec, the phases of its life and what people wish of it, who is in which
// arm, and how a request carries that from the edge to the functions. It knows no cluster and no database: shared/rollout
// moves an experiment through its life, shared/store keeps what was seen, and shared/readout judges it.
package experiment

import (
	"slices"
	"strconv"
	"time"
)

// Arm is one side of an experiment; the empty Arm is neither.
type Arm string

// The arms.
const (
	Control   Arm = "control"
	Treatment Arm = "treatment"
)

// Unit is what is randomised.
//
// +kubebuilder:validation:Enum=community;user;request
type Unit string

// The kinds of units. Requests are taken at random, by the edge, and halved by Knative's percent: nobody is assigned.
const (
	Community Unit = "community"
	User      Unit = "user"
	Request   Unit = "request"
)

// Rules is all that assigning takes, and where the arms are: what is in force of an experiment now. The edge gets it with
// each change.
type Rules struct {
	Name       string           `json:"name"`
	Generation int64            `json:"generation"` // of the resource, so that a row can be told from which rules it came
	Services   []string         `json:"services"`
	Exposure   []string         `json:"exposure"` // the services at which an assigned user counts as exposed
	Unit       Unit             `json:"unit"`
	Identity   Identity         `json:"identity,omitzero"`  // by what the edge knows the units
	Audience   []string         `json:"audience,omitempty"` // communities; empty for everyone
	Layer      Layer            `json:"layer"`
	Salt       string           `json:"salt"`
	Step       int              `json:"step"`
	Open       Open             `json:"open"`             // how many slots each arm has now
	List       *List            `json:"list,omitempty"`   // instead of slots
	Reach      map[string]Reach `json:"reach,omitempty"`  // by service
	ArmedAt    time.Time        `json:"armedAt,omitzero"` // since when all of Reach has answered

	// Baseline is how many slots each arm will have, step by step, while the baseline is counted and nobody is treated yet; else none.
	Baseline []int `json:"baseline,omitempty"`

	Bounds []Duration `json:"bounds,omitempty"` // what is slow: Metrics.Bounds of the spec
	Phase  Phase      `json:"phase,omitempty"`  // Open says what is in force; once the phase is Over, nothing is counted
}

// Reach is where the arms of one Service are reached, as host or host:port.
//
// +kubebuilder:object:generate=true
type Reach struct {
	// Host is of both arms, half and half; empty where nothing splits.
	Host string `json:"host,omitempty"`

	Control   Side `json:"control"`
	Treatment Side `json:"treatment"`
}

// Of returns the side of an arm.
func (r *Reach) Of(arm Arm) Side {
	if arm == Treatment {
		return r.Treatment
	}
	return r.Control
}

// Side is where one arm is, and the name of its revision.
type Side struct {
	// Host is where the arm answers, as host or host:port.
	Host string `json:"host"`
	// Revision is the name of the revision that answers there.
	Revision string `json:"revision"`
}

// Layer shares its slots among experiments, so that no unit is in two of them. One without a name is the experiment's own.
type Layer struct {
	Name string `json:"name"`
	From int    `json:"from"` // the first slot of the experiment
	To   int    `json:"to"`   // the first slot past it
}

// Open is how many slots an arm has: control those from 0 up, treatment those from Slots - 1 down. Of requests, where those
// are the unit, it is the part of both arms together that each has.
type Open struct {
	// Control is how many of the 10000 slots are the control's.
	Control int `json:"control"`
	// Treatment is how many of the 10000 slots are the treatment's.
	Treatment int `json:"treatment"`
}

// List assigns communities or users by hand: an observation, no experiment.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.control.all(unit, !(unit in self.treatment))",message="expected nobody in both arms"
type List struct {
	// Control are the slugs of the communities, or the ids of the users, that are in the control.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Control []string `json:"control"`
	// Treatment are the slugs of the communities, or the ids of the users, that are in the treatment.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Treatment []string `json:"treatment"`
}

// Arms are both.
var Arms = []Arm{Control, Treatment}

// Assign returns the arm of a user and the unit that was assigned: the user's id, or the community. A user whom the
// experiment does not take has no arm: one outside of the audience or of its slots, one without a community where
// communities are assigned, nobody (id 0) where users are, and anyone while no slot is open. Lists and audiences are
// searched from end to end, as they are written by hand. It allocates the id of a user that has an arm, and nothing else.
func (r *Rules) Assign(userID int64, community string) (arm Arm, unit string) {
	arm, unit, _ = r.Place(userID, community)
	return arm, unit
}

// Place is Assign with the slot that the unit has, which tells since which step: see Step. It is 0 for one that is on a list.
func (r *Rules) Place(userID int64, community string) (arm Arm, unit string, slot int) {
	if r.Open == (Open{}) || r.Unit == User && userID == 0 || r.Identity.Foreign() || len(r.Audience) > 0 && !slices.Contains(r.Audience, community) {
		return "", "", 0
	}
	id := make([]byte, 0, 64) // on the stack, and enough for a community's slug
	switch r.Unit {
	case Community:
		id = append(id, community...)
	case User:
		id = strconv.AppendInt(id, userID, 10)
	}
	if len(id) == 0 {
		return "", "", 0
	}
	switch arm, slot = r.place(id); {
	case arm == "":
		return "", "", 0
	case r.Unit == Community:
		return arm, community, slot
	}
	return arm, string(id), slot
}

// place is Place by the bytes of the unit.
func (r *Rules) place(id []byte) (arm Arm, slot int) {
	if r.Layer.From > 0 || r.Layer.To < Slots { // one that has all of its layer is spared half of the hashing
		if at := slotOf(layerPrefix, r.Layer.Name, id); at < r.Layer.From || at >= r.Layer.To {
			return "", 0
		}
	}
	return r.arm(id)
}

// PlaceForeign is Place for a unit that is no user of Warble's: a visitor, or another issuer's user, by their id. The empty unit
// is nobody's, and has no arm.
func (r *Rules) PlaceForeign(unit, community string) (arm Arm, slot int) {
	if unit == "" || r.Open == (Open{}) || len(r.Audience) > 0 && !slices.Contains(r.Audience, community) {
		return "", 0
	}
	return r.place([]byte(unit))
}

// ForeseeForeign is Foresee for a unit that is no user of Warble's.
func (r *Rules) ForeseeForeign(unit, community string) (arm Arm, step int) {
	if len(r.Baseline) == 0 {
		return "", 0
	}
	last := r.Baseline[len(r.Baseline)-1]
	then := *r
	then.Open = Open{last, last}
	arm, slot := then.PlaceForeign(unit, community)
	return arm, Step(slot, r.Baseline)
}

// Foresee is Place while the baseline is counted: the arm that a user will have, and the step that will open the unit's slot.
func (r *Rules) Foresee(userID int64, community string) (arm Arm, unit string, step int) {
	if len(r.Baseline) == 0 {
		return "", "", 0
	}
	last := r.Baseline[len(r.Baseline)-1]
	then := *r
	then.Open = Open{last, last}
	arm, unit, slot := then.Place(userID, community)
	return arm, unit, Step(slot, r.Baseline)
}

// Step returns the first of some steps that opens a slot, given how many slots each of them opens in either arm; len(opens)
// where none does.
func Step(slot int, opens []int) int {
	for i, open := range opens {
		if slot < open || slot >= Slots-open {
			return i
		}
	}
	return len(opens)
}

func (r *Rules) arm(unit []byte) (arm Arm, slot int) {
	if r.List == nil {
		slot = slotOf("", r.Salt, unit)
		switch {
		case slot < r.Open.Control:
			return Control, slot
		case slot >= Slots-r.Open.Treatment:
			return Treatment, slot
		}
		return "", slot
	}
	is := func(listed string) bool { return listed == string(unit) }
	switch {
	case slices.ContainsFunc(r.List.Control, is):
		return Control, 0
	case slices.ContainsFunc(r.List.Treatment, is):
		return Treatment, 0
	}
	return "", 0
}
