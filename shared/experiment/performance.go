package experiment

import "time"

// Window is how long one row of performance covers. Windows begin at multiples of it, UTC.
const Window = 10 * time.Second

// Buckets is how many buckets the units of an arm are divided into, by hash. Units differ and stay as they are, so that their
// requests are not independent; the differences between buckets tell how much that matters (the jackknife over buckets).
const Buckets = 32

// Bucket returns the bucket of a unit, from 0 to Buckets - 1: its slot modulo Buckets. If requests are the unit, the unit is
// the request's id; a client that sends one id again and again has all of its requests in one bucket. It does not allocate.
func (r *Rules) Bucket(unit string) int { return Slot(r.Salt, unit) % Buckets }

// Outcomes is what one edge counted of one Service of an arm in one window, at one step, as users saw it. Each list of counts
// is by bucket, and has Buckets of them.
type Outcomes struct {
	Experiment string    `json:"experiment"`
	Step       int       `json:"step"`             // of the rules by which the request was assigned
	Before     bool      `json:"before,omitempty"` // counted for the baseline: Step is the one that will open the unit's slot
	Service    string    `json:"service"`
	Arm        Arm       `json:"arm"`
	Start      time.Time `json:"start"`
	Requests   []int64   `json:"requests"`
	Errors     []int64   `json:"errors"` // answers of 5xx, timeouts and what broke off; never 4xx

	// Slow has a list for each of the experiment's Bounds, in their order: requests that waited longer than it for the headers
	// of the answer, from when the edge sent them on.
	Slow [][]int64 `json:"slow"`

	// Latency is, for a guest's arm alone, how many requests waited how long for the headers of the answer, from when the edge sent
	// them on: per bucket of LatencyBounds, and those above. It is nil for functions, which count by themselves.
	Latency []int64 `json:"latency,omitempty"`
}

// LatencyBounds are the upper ends of the buckets in which functions count how long requests take, in milliseconds; what
// took longer than the last is in one more. A guardrail's `over` is one of them, so that a report's histograms have it too.
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
