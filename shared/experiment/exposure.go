package experiment

// Exposure is what is kept of an assigned user's first request to a function that shows the difference.
type Exposure struct {
	Experiment string
	UserID     int64
	Unit       string // that was assigned: the user's id, or the community
	Assigned   string // an Arm
	Served     string // the Arm of the revision that answers, or NotServed
	Revision   string
	Generation int64 // of the rules by which the unit was assigned
}

// NotServed is the Served of an answer by a revision that is no arm of the experiment.
const NotServed = "none"
