package main

import (
	"context"
	"fmt"
	"net/http"
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
	return function.Routes{
		"POST /":         http.HandlerFunc(s.event),
		"POST /turn":     function.FromEdge(function.JSON(s.asked)),
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
}

// FromRequest says what is wrong with it.
func (c *counted) FromRequest(*http.Request) error {
	const most = 253 // of the name of a pod
	if c.Pod == "" || len(c.Pod) > most {
		return problem.Invalid.Field("pod", "pod must be the name of who has counted, of 1 to %d characters", most)
	}
	for i, o := range c.Windows {
		field := fmt.Sprintf("windows[%d]", i)
		switch {
		case experiment.CheckName(o.Experiment) != nil:
			return problem.Invalid.Field(field+".experiment", "%s.experiment must be the name of an experiment", field)
		case o.Arm != experiment.Control && o.Arm != experiment.Treatment:
			return problem.Invalid.Field(field+".arm", "%s.arm must be control or treatment", field)
		case !o.Start.Equal(o.Start.Truncate(experiment.Window)):
			return problem.Invalid.Field(field+".start", "%s.start must be a multiple of %s", field, experiment.Window)
		case o.Errors < 0 || o.Requests < o.Errors:
			return problem.Invalid.Field(field+".errors", "%s.errors must be from 0 to its requests", field)
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
	return nil
}

// outcomes stores them; sent again they are the same rows. A treatment that has been found to fail is rolled back before the
// answer.
func (s *steer) outcomes(ctx context.Context, c counted) (function.None, error) {
	if err := s.db.RecordOutcomes(ctx, c.Pod, c.Windows); err != nil {
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
