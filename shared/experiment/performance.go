package experiment

import "time"

// Window is how long one row of performance covers. Windows begin at multiples of it, UTC.
const Window = 10 * time.Second

// Outcomes is what the edge counted of one arm in one window, as its users saw it.
type Outcomes struct {
	Experiment string    `json:"experiment"`
	Arm        Arm       `json:"arm"`
	Start      time.Time `json:"start"`
	Requests   int64     `json:"requests"`
	Errors     int64     `json:"errors"` // answers of 5xx, and timeouts; never 4xx
}

// LatencyBounds are the upper ends of the buckets in which functions count how long requests take, in milliseconds; what
// took longer than the last is in one more. A guardrail's `over` is one of them, or it could not be told exactly.
var LatencyBounds = []float64{
	1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750,
	1000, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10_000, 15_000, 20_000, 30_000,
}

// Latencies is what one process of a function counted of one arm in one window, measured inside of it, so that waiting
// for it to start does not count.
type Latencies struct {
	Experiment string    `json:"experiment"`
	Arm        Arm       `json:"arm"`
	Service    string    `json:"service"`
	Start      time.Time `json:"start"`
	Buckets    []int64   `json:"buckets"` // requests, per bucket of LatencyBounds, and those above
}

// Suspension is what the tripwire of an edge has seen of a treatment: from Start on it sends nobody to either arm, and
// compares how the untouched Services do for the same users.
type Suspension struct {
	Experiment string    `json:"experiment"`
	Start      time.Time `json:"start"`
	Users      int64     `json:"users"`   // who met the errors
	Answers    int64     `json:"answers"` // of the treatment, since its errors began to add up
	Errors     int64     `json:"errors"`  // of these

	Untouched       int64 `json:"untouched"`       // answers of the untouched Services since Start
	UntouchedErrors int64 `json:"untouchedErrors"` // of these

	// Verdict is whose fault it is: the treatment's, which is rolled back, or everything's, after which the edge goes on as
	// before; empty as long as that is not known.
	Verdict Fault `json:"verdict"`
}

// Fault is whose fault a suspension is.
type Fault string

// The faults.
const (
	FaultUnknown    Fault = ""
	FaultTreatment  Fault = "treatment"
	FaultEverything Fault = "everything"
)
