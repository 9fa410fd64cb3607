// Package experiment defines an experiment: its spec, the phases of its life, people's wishes, which unit is in which arm, and how a
// request carries its assignment from the edge to the functions. It knows no cluster and no database: shared/rollout moves an
// experiment through its life, shared/store stores its rows, and shared/readout judges it.
package experiment

import (
	"slices"
	"strconv"
	"time"
)

// Arm is one side of an experiment; the empty Arm means that there is no arm.
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

// The kinds of units. With Request nobody is assigned: the edge takes requests at random, and Knative's traffic percent splits them
// between the arms.
const (
	Community Unit = "community"
	User      Unit = "user"
	Request   Unit = "request"
)

// Rules has what the edge needs of an experiment now: how to assign units, and where the arms are. The edge gets new Rules with each
// change.
type Rules struct {
	Name       string           `json:"name"`
	Generation int64            `json:"generation"` // of the resource; a row stores it, to show by which rules it was written
	Services   []string         `json:"services"`
	Exposure   []string         `json:"exposure"` // the services at which an assigned user counts as exposed
	Unit       Unit             `json:"unit"`
	Identity   Identity         `json:"identity,omitzero"`  // how the edge recognises the units
	Audience   []string         `json:"audience,omitempty"` // communities; empty for everyone
	Layer      Layer            `json:"layer"`
	Salt       string           `json:"salt"`
	Step       int              `json:"step"`
	Open       Open             `json:"open"`             // how many slots each arm has now
	List       *List            `json:"list,omitempty"`   // instead of slots
	Reach      map[string]Reach `json:"reach,omitempty"`  // by service
	ArmedAt    time.Time        `json:"armedAt,omitzero"` // when all of Reach had answered

	// Baseline is set while the baseline is counted and nobody is treated yet: the slots that each arm will have, step by step.
	Baseline []int `json:"baseline,omitempty"`

	Bounds []Duration `json:"bounds,omitempty"` // the limits of slow answers: Metrics.Bounds of the spec
	Phase  Phase      `json:"phase,omitempty"`  // once it is Over, nothing is counted. Who is assigned depends on Open, not on Phase
}

// Reach is where the arms of one Service can be reached.
//
// +kubebuilder:object:generate=true
type Reach struct {
	// Host is the host, or host:port, that sends half of its requests to each arm; empty if the edge chooses the arm.
	Host string `json:"host,omitempty"`

	Control   Side `json:"control"`
	Treatment Side `json:"treatment"`
}

// Side returns the side of an arm.
func (r *Reach) Side(arm Arm) Side {
	if arm == Treatment {
		return r.Treatment
	}
	return r.Control
}

// Side is the address of one arm, and the name of its revision.
type Side struct {
	// Host is where the arm answers, as host or host:port.
	Host string `json:"host"`
	// Revision is the name of the revision that answers there.
	Revision string `json:"revision"`
}

// Layer divides its slots among experiments, so that no unit is in two of them. A layer without a name belongs to one experiment.
type Layer struct {
	Name string `json:"name"`
	From int    `json:"from"` // the first slot of the experiment
	To   int    `json:"to"`   // the first slot after the experiment's last
}

// Open is how many slots each arm has. Control has the slots from 0 up, treatment those from Slots - 1 down. If requests are the
// unit, it is each arm's share of the requests, in slots.
type Open struct {
	// Control is how many of the 10000 slots the control has.
	Control int `json:"control"`
	// Treatment is how many of the 10000 slots the treatment has.
	Treatment int `json:"treatment"`
}

// List assigns communities or users by hand. This is an observation, not an experiment, because the arms are not random.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.control.all(unit, !(unit in self.treatment))",message="expected nobody in both arms"
type List struct {
	// Control has the slugs of the communities, or the ids of the users, in the control.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Control []string `json:"control"`
	// Treatment has the slugs of the communities, or the ids of the users, in the treatment.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Treatment []string `json:"treatment"`
}

// Arms has both arms.
var Arms = []Arm{Control, Treatment}

// Assign returns a user's arm and the unit that was assigned: the user's id, or the community. arm and unit are empty if
//
//   - the user is outside the audience or outside the experiment's slots,
//   - communities are assigned and the user has none,
//   - users are assigned and userID is 0, which means that nobody is signed in, or
//   - no slot is open.
//
// Lists and audiences are searched linearly, because they are written by hand and short. Assign allocates only the id of a user who
// has an arm.
func (r *Rules) Assign(userID int64, community string) (arm Arm, unit string) {
	arm, unit, _ = r.Place(userID, community)
	return arm, unit
}

// Place is Assign, and also returns the unit's slot. The function Step tells at which step a unit with this slot entered.
// slot is 0 for a unit on a List.
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

// place is Place for a unit's bytes.
func (r *Rules) place(id []byte) (arm Arm, slot int) {
	if r.Layer.From > 0 || r.Layer.To < Slots { // an experiment with its whole layer need not hash twice
		if at := slotOf(layerPrefix, r.Layer.Name, id); at < r.Layer.From || at >= r.Layer.To {
			return "", 0
		}
	}
	return r.arm(id)
}

// PlaceForeign is Place for the id of a foreign unit: a visitor, or another issuer's user. The empty unit has no arm.
func (r *Rules) PlaceForeign(unit, community string) (arm Arm, slot int) {
	if unit == "" || r.Open == (Open{}) || len(r.Audience) > 0 && !slices.Contains(r.Audience, community) {
		return "", 0
	}
	return r.place([]byte(unit))
}

// ForeseeForeign is Foresee for a foreign unit.
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

// Foresee returns, while the baseline is counted, the arm that a user will have, the unit, and the step that will open the unit's slot.
// Without a baseline all are empty.
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

// Step returns the first step that opens a slot, counted from 0; len(opens) if none does. opens has the number of open slots in each
// arm, step by step.
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
