// Package experiment is what an experiment is: its spec, the phases of its life and what people wish of it, who is in which
// arm, and how a request carries that from the edge to the functions. It knows no cluster and no database: shared/rollout
// moves an experiment through its life, shared/store keeps what was seen, and shared/readout judges it.
package experiment

import (
	"slices"
	"strconv"
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
	Audience   []string         `json:"audience,omitempty"` // communities; empty for everyone
	Layer      Layer            `json:"layer"`
	Salt       string           `json:"salt"`
	Step       int              `json:"step"`
	Open       Open             `json:"open"`            // how many slots each arm has now
	List       *List            `json:"list,omitempty"`  // instead of slots
	Reach      map[string]Reach `json:"reach,omitempty"` // by service
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
	Host     string `json:"host"`
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
	Control   int `json:"control"`
	Treatment int `json:"treatment"`
}

// List assigns communities or users by hand: an observation, no experiment.
//
// +kubebuilder:object:generate=true
// +kubebuilder:validation:XValidation:rule="self.control.all(unit, !(unit in self.treatment))",message="expected nobody in both arms"
type List struct {
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=64
	Control []string `json:"control"`
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
	if r.Open == (Open{}) || r.Unit == User && userID == 0 || len(r.Audience) > 0 && !slices.Contains(r.Audience, community) {
		return "", ""
	}
	id := make([]byte, 0, 64) // on the stack, and enough for a community's slug
	switch r.Unit {
	case Community:
		id = append(id, community...)
	case User:
		id = strconv.AppendInt(id, userID, 10)
	}
	if len(id) == 0 {
		return "", ""
	}
	if r.Layer.From > 0 || r.Layer.To < Slots { // one that has all of its layer is spared half of the hashing
		if at := slot(layerPrefix, r.Layer.Name, id); at < r.Layer.From || at >= r.Layer.To {
			return "", ""
		}
	}
	switch arm = r.arm(id); {
	case arm == "":
		return "", ""
	case r.Unit == Community:
		return arm, community
	}
	return arm, string(id)
}

func (r *Rules) arm(unit []byte) Arm {
	if r.List == nil {
		switch at := slot("", r.Salt, unit); {
		case at < r.Open.Control:
			return Control
		case at >= Slots-r.Open.Treatment:
			return Treatment
		}
		return ""
	}
	is := func(listed string) bool { return listed == string(unit) }
	switch {
	case slices.ContainsFunc(r.List.Control, is):
		return Control
	case slices.ContainsFunc(r.List.Treatment, is):
		return Treatment
	}
	return ""
}
