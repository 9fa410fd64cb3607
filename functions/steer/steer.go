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

// turn is how long one request's work takes at most: the next comes after a minute, and the answer has to be out before the
// server's own limit.
const turn = 45 * time.Second

// New returns the routes of the function. A nil cluster is none: nothing is moved then. connections is how many the database
// has for functions, 0 where nobody has said so.
func New(db *store.DB, cluster rollout.Cluster, connections int, t *telemetry.Telemetry) function.Routes {
	s := &steer{db: db, log: t.Log}
	if cluster != nil {
		s.driver = &rollout.Driver{
			Cluster: cluster, Store: db, Readout: readout.Driver{DB: db}, Now: time.Now, Actor: "steer", Connections: connections,
			Say: func(line string) { s.log.Info().Msg(line) },
		}
	}
	t.Gauge("steer_last_turn_timestamp_seconds", "When every experiment was last looked at, in seconds since 1970; 0 before the first time.",
		func() float64 { return float64(s.turned.Load()) })
	s.measured = t.Counter("steer_events_total", "Events that Triggers have brought for metrics, by what became of them: taken, refused, unknown or failed.", "outcome")
	return function.Routes{
		"POST /":         http.HandlerFunc(s.event),
		"POST /turn":     function.FromEdge(function.JSON(s.asked)),
		"POST /events":   http.HandlerFunc(s.measure),
		"POST /outcomes": function.FromEdge(function.JSON(s.outcomes)),
	}
}

type steer struct {
	db      *store.DB
	driver  *rollout.Driver // nil where there is no cluster
	log     zerolog.Logger
	turning atomic.Bool
	again   atomic.Bool  // somebody has asked while it was turning
	turned  atomic.Int64 // Unix seconds

	learned  atomic.Int64 // when the cluster was last asked for the metrics of an event that the database has none of, in Unix seconds
	measured *telemetry.Counter
}

// event takes a CloudEvent, whichever: what there is to do is seen in the cluster. Its answer has no body, for that would
// be taken for an event.
func (s *steer) event(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err == nil {
		err = e.Validate()
	}
	if err != nil {
		function.Fail(w, r, problem.Malformed.Detail("expected a CloudEvent, as a PingSource sends it").Because(err))
		return
	}
	if err := s.take(r.Context()); err != nil {
		function.Fail(w, r, problem.Unavailable.Because(err))
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// asking is an edge's request for a turn.
type asking struct{}

// FromRequest has nothing against any.
func (*asking) FromRequest(*http.Request) error { return nil }

// asked is of an edge that has seen a wish.
func (s *steer) asked(ctx context.Context, _ asking) (function.None, error) {
	if err := s.take(ctx); err != nil {
		return function.None{}, problem.Unavailable.Because(err)
	}
	return function.None{}, nil
}

// take moves every experiment, again and again while one of them waits for nothing but some seconds, until its turn is over.
// Whoever asks while another turns has that one look once more.
func (s *steer) take(ctx context.Context) error {
	if s.driver == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	s.again.Store(true)
	for s.again.Load() && s.turning.CompareAndSwap(false, true) {
		s.again.Store(false)
		err := s.driver.Run(ctx, s.again.Load)
		s.turning.Store(false)
		if err != nil || ctx.Err() != nil { // in which case the last ones were not looked at
			return err
		}
		s.turned.Store(time.Now().Unix())
	}
	return nil
}

// counted is what an edge has counted.
type counted struct {
	Pod         string                  `json:"pod"`
	Windows     []experiment.Outcomes   `json:"windows"`
	Suspensions []experiment.Suspension `json:"suspensions"`
	Exposures   []experiment.Exposure   `json:"exposures"` // to guests
}

// FromRequest says what is wrong with it.
func (c *counted) FromRequest(*http.Request) error {
	const most = 253 // of the name of a pod
	if c.Pod == "" || len(c.Pod) > most {
		return problem.Invalid.Field("pod", "pod must be the name of who has counted, of 1 to %d characters", most)
	}
	for i, o := range c.Windows {
		if err := checkOutcomes(fmt.Sprintf("windows[%d]", i), o); err != nil {
			return err
		}
		if !o.Start.Equal(c.Windows[0].Start) {
			field := fmt.Sprintf("windows[%d].start", i)
			return problem.Invalid.Field(field, "%s must be that of windows[0]: expected one window in a request", field)
		}
		if slices.ContainsFunc(c.Windows[:i], func(other experiment.Outcomes) bool { return sameCounts(o, other) }) {
			field := fmt.Sprintf("windows[%d]", i)
			return problem.Invalid.Field(field, "%s must be of another experiment, step, Service or arm than those before it", field)
		}
	}
	for i, s := range c.Suspensions {
		field := fmt.Sprintf("suspensions[%d]", i)
		switch {
		case experiment.CheckName(s.Experiment) != nil:
			return problem.Invalid.Field(field+".experiment", "%s.experiment must be the name of an experiment", field)
		case s.Errors < 0 || s.Answers < s.Errors || s.UntouchedErrors < 0 || s.Untouched < s.UntouchedErrors:
			return problem.Invalid.Field(field+".errors", "%s.errors must be from 0 to its answers, and untouchedErrors from 0 to untouched", field)
		case s.Verdict != experiment.FaultUnknown && s.Verdict != experiment.FaultTreatment && s.Verdict != experiment.FaultEverything:
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

// checkExposure says what is wrong with an exposure to a guest.
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
		return problem.Invalid.Field(field+".at", "%s.at must be when the unit was exposed", field)
	}
	return nil
}

// maxRevision is the longest name of an object in a cluster.
const maxRevision = 253

// sameCounts tells whether two of one window are of the same Service of the same arm.
func sameCounts(a, b experiment.Outcomes) bool {
	return a.Experiment == b.Experiment && a.Step == b.Step && a.Before == b.Before && a.Service == b.Service && a.Arm == b.Arm
}

// maxCount bounds what one edge counts of a bucket in a window: a hundred thousand requests a second. Columns of the table
// windows hold the sum of 32 buckets and of dozens of edges.
const maxCount = 1_000_000

// checkOutcomes says what is wrong with what was counted of one Service of an arm.
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
	case !o.Start.Equal(o.Start.Truncate(experiment.Window)):
		return problem.Invalid.Field(field+".start", "%s.start must be a multiple of %s", field, experiment.Window)
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
		if !partOf(list, o.Requests) {
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

// partOf tells whether each count is from 0 to the request's of its bucket.
func partOf(counts, requests []int64) bool {
	for i, n := range counts {
		if n < 0 || i >= len(requests) || n > requests[i] {
			return false
		}
	}
	return len(counts) == len(requests)
}

// outcomes stores them; sent again they change nothing. A treatment that has been found to fail is rolled back before the
// answer.
func (s *steer) outcomes(ctx context.Context, c counted) (function.None, error) {
	if err := s.db.RecordOutcomes(ctx, c.Pod, c.Windows); err != nil {
		return function.None{}, err
	}
	if err := s.db.RecordExposures(ctx, c.Exposures); err != nil {
		return function.None{}, err
	}
	if err := s.db.RecordSuspensions(ctx, c.Pod, c.Suspensions); err != nil {
		return function.None{}, err
	}
	for _, suspension := range c.Suspensions {
		if suspension.Verdict == experiment.FaultTreatment {
			return s.asked(ctx, asking{})
		}
	}
	return function.None{}, nil
}
