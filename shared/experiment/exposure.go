package experiment

import "time"

// Exposure is what is kept of an assigned user's first request to a function that shows the difference.
type Exposure struct {
	Experiment string `json:"experiment"`
	UserID     int64  `json:"userId,omitempty"` // 0 for a unit that is no user of Warble's
	Unit       string `json:"unit"`             // that was assigned: the user's id, the community, the visitor, or another issuer's user
	Assigned   string `json:"assigned"`         // an Arm
	Served     string `json:"served"`           // the Arm of the revision that answers, or NotServed
	Revision   string `json:"revision"`
	Generation int64  `json:"generation"` // of the rules by which the unit was assigned

	// At is when, of one that the edge has seen for a guest; zero for now.
	At time.Time `json:"at,omitzero"`
}

// NotServed is the Served of an answer by a revision that is no arm of the experiment.
const NotServed = "none"
