package experiment

import "time"

// Exposure records an assigned user's first request to a Service that the experiment counts.
type Exposure struct {
	Experiment string `json:"experiment"`
	UserID     int64  `json:"userId,omitempty"` // 0 for a foreign unit
	Unit       string `json:"unit"`             // the id that was assigned: of the user, the community, the visitor, or another issuer's user
	Assigned   string `json:"assigned"`         // an Arm
	Served     string `json:"served"`           // the Arm of the revision that answers, or NotServed
	Revision   string `json:"revision"`
	Generation int64  `json:"generation"` // of the rules by which the unit was assigned

	// At is the time of the request, if the edge recorded it for a guest. Zero means now.
	At time.Time `json:"at,omitzero"`
}

// NotServed is the value of Served if the revision that answers is no arm of the experiment.
const NotServed = "none"
