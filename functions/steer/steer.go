package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/rs/zerolog"

	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/readout"
	"warble/shared/rollout"
	"warble/shared/store"
	"warble/shared/telemetry"
)

// turnLimit limits a turn, which checks and moves all experiments for one request. The next request comes after a minute, and the
// answer must be sent before the server's own limit.
const turnLimit = 45 * time.Second

// New returns the routes of the function. If cluster is nil, experiments are not moved. connections is how many connections the
// database has for functions; 0 if unknown.
func New(db *store.DB, cluster rollout.Cluster, connections int, t *telemetry.Telemetry) function.Routes {
	s := &steer{db: db, log: t.Log}
	if cluster != nil {
		s.driver = &rollout.Driver{
			Cluster: cluster, Store: db, Readout: readout.Driver{DB: db}, Now: time.Now, Actor: "steer", Connections: connections,
			Say: func(line string) { s.log.Info().Msg(line) },
		}
	}
	t.Gauge("steer_last_turn_timestamp_seconds", "When all experiments were last checked, in seconds since 1970; 0 before the first time.",
		func() float64 { return float64(s.lastTurn.Load()) })
	s.eventsTotal = t.Counter("steer_events_total", "Events from Triggers for metrics, by outcome: taken, refused, unknown or failed.", "outcome")
	return function.Routes{
		"POST /":         http.HandlerFunc(s.serveEvent),
		"POST /turn":     function.FromEdge(function.JSON(s.serveTurn)),
		"POST /events":   http.HandlerFunc(s.measure),
		"POST /outcomes": function.FromEdge(function.JSON(s.outcomes)),
	}
}

type steer struct {
	db         *store.DB
	driver     *rollout.Driver // nil without a cluster
	log        zerolog.Logger
	turning    atomic.Bool
	askedAgain atomic.Bool  // another request arrived during a turn
	lastTurn   atomic.Int64 // Unix seconds

	lastLearned atomic.Int64 // when the cluster was last asked for unknown metrics, in Unix seconds
	eventsTotal *telemetry.Counter
}

// serveEvent starts a turn for any CloudEvent. The event's content does not matter, because steer reads in the cluster what must be
// done. The answer has no body, because a body would be taken for an event.
func (s *steer) serveEvent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		function.Fail(w, r, problem.Malformed.Detail("expected a CloudEvent such as a PingSource sends").Because(err))
		return
	}
	if err := s.moveExperiments(r.Context()); err != nil {
		function.Fail(w, r, problem.Unavailable.Because(err))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// turnRequest is an edge's request for a turn.
type turnRequest struct{}

// FromRequest accepts every request.
func (*turnRequest) FromRequest(*http.Request) error { return nil }

// serveTurn answers an edge that has seen a new wish.
func (s *steer) serveTurn(ctx context.Context, _ turnRequest) (function.None, error) {
	if err := s.moveExperiments(ctx); err != nil {
		return function.None{}, problem.Unavailable.Because(err)
	}
	return function.None{}, nil
}

// moveExperiments moves every experiment. While one of them waits for only some seconds, it moves all of them again, within its time
// limit. A request that arrives during another request's turn makes that turn check all experiments once more.
func (s *steer) moveExperiments(ctx context.Context) error {
	if s.driver == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	s.askedAgain.Store(true)
	for s.askedAgain.Load() && s.turning.CompareAndSwap(false, true) {
		s.askedAgain.Store(false)
		err := s.driver.Run(ctx, s.askedAgain.Load)
		s.turning.Store(false)
		if err != nil || ctx.Err() != nil { // then some experiments were not checked
			return err
		}
		s.lastTurn.Store(time.Now().Unix())
	}
	return nil
}

// outcomesReport is what an edge sends: the counts of arms, suspensions, and exposures.
type outcomesReport struct {
	Pod         string                  `json:"pod"`
	Periods     []experiment.Outcomes   `json:"windows"`
	Suspensions []experiment.Suspension `json:"suspensions"`
	Exposures   []experiment.Exposure   `json:"exposures"` // to guests
}

// FromRequest returns what is wrong with a report.
func (c *outcomesReport) FromRequest(*http.Request) error {
	const most = 253 // of the name of a pod
	if c.Pod == "" || len(c.Pod) > most {
		return problem.Invalid.Field("pod", "pod must be the name of the pod that counted, of 1 to %d characters", most)
	}
	for i, o := range c.Periods {
		if err := checkOutcomes(fmt.Sprintf("windows[%d]", i), o); err != nil {
			return err
		}
		if !o.Start.Equal(c.Periods[0].Start) {
			field := fmt.Sprintf("windows[%d].start", i)
			return problem.Invalid.Field(field, "%s must equal windows[0].start: a request may contain only one count period", field)
		}
		if slices.ContainsFunc(c.Periods[:i], func(other experiment.Outcomes) bool { return sameCounts(o, other) }) {
			field := fmt.Sprintf("windows[%d]", i)
			return problem.Invalid.Field(field, "%s repeats an earlier count: expected another experiment, step, Service or arm", field)
		}
	}
	for i, s := range c.Suspensions {
		field := fmt.Sprintf("suspensions[%d]", i)
		switch {
		case experiment.CheckName(s.Experiment) != nil:
			return problem.Invalid.Field(field+".experiment", "%s.experiment must be the name of an experiment", field)
		case s.Errors < 0 || s.Answers < s.Errors || s.UntouchedErrors < 0 || s.Untouched < s.UntouchedErrors:
			return problem.Invalid.Field(field+".errors", "%s.errors must be from 0 to its answers, and untouchedErrors from 0 to untouched", field)
		case s.Fault != experiment.FaultUnknown && s.Fault != experiment.FaultTreatment && s.Fault != experiment.FaultEverything:
			return problem.Invalid.Field(field+".verdict", "%s.verdict must be treatment, everything or empty", field)
		}
	}
	for i, e := range c.Exposures {
		if err := checkExposure(fmt.Sprintf("exposures[%d]", i), e); err != nil {
			return err
		}
	}
	return nil
}

// checkExposure returns what is wrong with an exposure to a guest.
func checkExposure(field string, e experiment.Exposure) error {
	arm := func(name string) bool {
		return name == string(experiment.Control) || name == string(experiment.Treatment)
	}
	switch {
	case experiment.CheckName(e.Experiment) != nil:
		return problem.Invalid.Field(field+".experiment", "%s.experiment must be the name of an experiment", field)
	case experiment.CheckUnit(e.Unit) != nil:
		return problem.Invalid.Field(field+".unit", "%s.unit must be the id of a unit: %v", field, experiment.CheckUnit(e.Unit))
	case e.UserID < 0:
		return problem.Invalid.Field(field+".userId", "%s.userId must be a user's id, or missing", field)
	case !arm(e.Assigned):
		return problem.Invalid.Field(field+".assigned", "%s.assigned must be control or treatment", field)
	case !arm(e.Served) && e.Served != experiment.NotServed:
		return problem.Invalid.Field(field+".served", "%s.served must be control, treatment or %s", field, experiment.NotServed)
	case len(e.Revision) > maxRevision:
		return problem.Invalid.Field(field+".revision", "%s.revision must have %d characters at most", field, maxRevision)
	case e.At.IsZero():
		return problem.Invalid.Field(field+".at", "%s.at must be the time at which the unit was exposed", field)
	}
	return nil
}

// maxRevision is the longest name of an object in a cluster.
const maxRevision = 253

// sameCounts reports whether two counts of one count period belong to the same Service and the same arm.
func sameCounts(a, b experiment.Outcomes) bool {
	return a.Experiment == b.Experiment && a.Step == b.Step && a.Before == b.Before && a.Service == b.Service && a.Arm == b.Arm
}

// maxCount is the largest count of one edge for a bucket in a count period: a hundred thousand requests a second. A column of the table
// windows can hold the sum over 32 buckets and dozens of edges.
const maxCount = 1_000_000

// checkOutcomes returns what is wrong with the counts of one Service's arm.
func checkOutcomes(field string, o experiment.Outcomes) error {
	switch {
	case experiment.CheckName(o.Experiment) != nil:
		return problem.Invalid.Field(field+".experiment", "%s.experiment must be the name of an experiment", field)
	case o.Step < 0 || o.Step >= maxSteps:
		return problem.Invalid.Field(field+".step", "%s.step must be from 0 to %d", field, maxSteps-1)
	case o.Service == "" || len(o.Service) > maxService:
		return problem.Invalid.Field(field+".service", "%s.service must be the name of a Service, of 1 to %d characters", field, maxService)
	case o.Arm != experiment.Control && o.Arm != experiment.Treatment:
		return problem.Invalid.Field(field+".arm", "%s.arm must be control or treatment", field)
	case !o.Start.Equal(o.Start.Truncate(experiment.CountPeriod)):
		return problem.Invalid.Field(field+".start", "%s.start must be a multiple of %s", field, experiment.CountPeriod)
	case len(o.Slow) > maxBounds:
		return problem.Invalid.Field(field+".slow", "%s.slow must have %d lists at most", field, maxBounds)
	}
	if len(o.Requests) != experiment.Buckets || slices.Max(o.Requests) > maxCount {
		return problem.Invalid.Field(field+".requests", "%s.requests must be %d counts, each %d at most", field, experiment.Buckets, maxCount)
	}
	if o.Latency != nil && (len(o.Latency) != len(experiment.LatencyBounds)+1 || slices.Min(o.Latency) < 0 || slices.Max(o.Latency) > maxCount) {
		return problem.Invalid.Field(field+".latency", "%s.latency must be %d counts, each from 0 to %d", field, len(experiment.LatencyBounds)+1, maxCount)
	}
	counts, names := append([][]int64{o.Errors}, o.Slow...), []string{field + ".errors"}
	for i := range o.Slow {
		names = append(names, fmt.Sprintf("%s.slow[%d]", field, i))
	}
	for i, list := range counts {
		if !withinRequests(list, o.Requests) {
			return problem.Invalid.Field(names[i], "%s must be %d counts, each from 0 to its requests", names[i], experiment.Buckets)
		}
	}
	return nil
}

const (
	maxSteps   = 20 // of a ramp
	maxService = 63
	maxBounds  = 20
)

// withinRequests reports whether each count is from 0 to the number of requests in its bucket.
func withinRequests(counts, requests []int64) bool {
	for i, n := range counts {
		if n < 0 || i >= len(requests) || n > requests[i] {
			return false
		}
	}
	return len(counts) == len(requests)
}

// outcomes stores a report. A repeated report changes nothing. If a tripwire blames the treatment, the experiment is rolled back
// before the edge gets its answer.
func (s *steer) outcomes(ctx context.Context, c outcomesReport) (function.None, error) {
	if err := s.db.RecordOutcomes(ctx, c.Pod, c.Periods); err != nil {
		return function.None{}, err
	}
	if err := s.db.RecordExposures(ctx, c.Exposures); err != nil {
		return function.None{}, err
	}
	if err := s.db.RecordSuspensions(ctx, c.Pod, c.Suspensions); err != nil {
		return function.None{}, err
	}
	for _, suspension := range c.Suspensions {
		if suspension.Fault == experiment.FaultTreatment {
			return s.serveTurn(ctx, turnRequest{})
		}
	}
	return function.None{}, nil
}
