package experiment

import "time"

// CountPeriod is the length of a count period: requests are counted by the count period in which they were answered. Count periods begin
// at multiples of CountPeriod, in UTC.
const CountPeriod = 10 * time.Second

// Buckets is how many buckets the units of an arm are divided into, by hash. Units differ, and keep their differences, so their
// requests are not independent. The differences between buckets show how much this matters (the jackknife over buckets).
const Buckets = 32

// Bucket returns the bucket of a unit, from 0 to Buckets - 1: its slot modulo Buckets. If requests are the unit, the unit is the
// request's id; if a client sends the same id again and again, all its requests are in one bucket. Bucket does not allocate.
func (r *Rules) Bucket(unit string) int { return Slot(r.Salt, unit) % Buckets }

// Outcomes has one edge's counts for one Service, arm, count period and step, as users saw the answers. Each list of counts has one entry
// for each of the Buckets.
type Outcomes struct {
	Experiment string    `json:"experiment"`
	Step       int       `json:"step"`             // of the rules by which the request was assigned
	Before     bool      `json:"before,omitempty"` // counted for the baseline: Step is the step that will open the unit's slot
	Service    string    `json:"service"`
	Arm        Arm       `json:"arm"`
	Start      time.Time `json:"start"`
	Requests   []int64   `json:"requests"`
	Errors     []int64   `json:"errors"` // answers of 5xx, timeouts and answers that broke off; never 4xx

	// Slow has a list for each of the experiment's Bounds, in the same order. It counts requests that waited longer than the
	// bound. The wait begins when the edge passes the request on, and ends with the headers of the answer.
	Slow [][]int64 `json:"slow"`

	// Latency is a histogram of the same waits: a count for each interval of LatencyBounds, and one for longer waits. Only a guest's arm
	// has it. It is nil for Warble's functions, which count their latencies themselves.
	Latency []int64 `json:"latency,omitempty"`
}

// LatencyBounds are the upper ends of the intervals of latency histograms, in milliseconds. One more interval has all longer times. A
// guardrail's `over` must be one of them, so that a report's histograms also show it.
var LatencyBounds = []float64{
	1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250, 300, 400, 500, 750,
	1000, 1500, 2000, 2500, 3000, 4000, 5000, 7500, 10_000, 15_000, 20_000, 30_000,
}

// Latencies is one process's histogram for one arm and count period. The function measures it itself, so the wait for a cold start is not
// included.
type Latencies struct {
	Experiment string    `json:"experiment"`
	Arm        Arm       `json:"arm"`
	Service    string    `json:"service"`
	Start      time.Time `json:"start"`
	Counts     []int64   `json:"buckets"` // requests, for each interval of LatencyBounds, and for longer times
}

// Suspension is an edge's report about a treatment that has tripped its tripwire. From Start on the edge sends nobody to either arm, and
// compares the answers of the untouched Services to the same users.
type Suspension struct {
	Experiment string    `json:"experiment"`
	Start      time.Time `json:"start"`
	Users      int64     `json:"users"`   // who got the errors
	Answers    int64     `json:"answers"` // of the treatment, since the tripwire began to add up errors
	Errors     int64     `json:"errors"`  // how many of these answers are errors

	Untouched       int64 `json:"untouched"`       // answers of the untouched Services since Start
	UntouchedErrors int64 `json:"untouchedErrors"` // how many of these answers are errors

	// Fault says what is at fault. If the treatment is, steer rolls it back. If everything fails, the edge resumes the experiment
	// later. It is empty until this is known.
	Fault Fault `json:"verdict"`
}

// Fault says what is at fault in a suspension.
type Fault string

// The faults.
const (
	FaultUnknown    Fault = ""
	FaultTreatment  Fault = "treatment"
	FaultEverything Fault = "everything"
)
