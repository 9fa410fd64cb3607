package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/rs/zerolog"

	"warble/shared/experiment"
	"warble/shared/experiment/readout"
	"warble/shared/function"
	"warble/shared/problem"
	"warble/shared/rollout"
	"warble/shared/store"
	"warble/shared/telemetry"
)

const (
	// turn is how long one event's work takes at most: the next comes after a minute, and the answer has to be out before
	// the server's own limit.
	turn = 45 * time.Second
	// pause is between two looks at what only takes its time, such as a revision that starts.
	pause = 2 * time.Second
)

// New returns the routes of the function. A nil cluster is none: nothing is moved then.
func New(db *store.DB, cluster rollout.Cluster, t *telemetry.Telemetry) function.Routes {
	s := &steer{db: db, cluster: cluster, log: t.Log}
	t.Gauge("steer_last_turn_timestamp_seconds", "When every experiment was last looked at, in seconds since 1970; 0 before the first time.",
		func() float64 { return float64(s.turned.Load()) })
	return function.Routes{
		"POST /":         http.HandlerFunc(s.event),
		"POST /outcomes": function.FromEdge(function.JSON(s.outcomes)),
	}
}

type steer struct {
	db      *store.DB
	cluster rollout.Cluster
	log     zerolog.Logger
	turning atomic.Bool
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
	if s.cluster != nil && s.turning.CompareAndSwap(false, true) { // else this is being done
		defer s.turning.Store(false)
		if err := s.all(r.Context()); err != nil {
			function.Fail(w, r, problem.Unavailable.Because(err))
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// all reconciles every experiment, again and again while one of them waits for nothing but time, until its turn is over.
// An experiment that cannot be moved does not keep the others.
func (s *steer) all(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	r := rollout.Reconciler{
		Cluster: s.cluster, Store: s.db, Readout: readout.Driver{DB: s.db}, Now: time.Now, Actor: "steer",
		Say: func(line string) { s.log.Info().Msg(line) },
	}
	for {
		experiments, err := s.cluster.Experiments(ctx)
		if err != nil {
			return err
		}
		var failed []error
		moving := false
		for _, e := range experiments {
			o, err := r.Reconcile(ctx, e.Name)
			switch {
			case errors.Is(err, rollout.ErrLocked), errors.Is(err, rollout.ErrNotFound): // by whom it is moved, or gone
			case err != nil:
				failed = append(failed, fmt.Errorf("%s: %w", e.Name, err))
			default:
				moving = moving || o.Moving()
			}
		}
		if ctx.Err() == nil { // else the last ones were not looked at
			s.turned.Store(time.Now().Unix())
		}
		if err := errors.Join(failed...); err != nil || !moving {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the next event goes on
		case <-time.After(pause):
		}
	}
}

// windows is what an edge has counted.
type windows struct {
	Pod     string                `json:"pod"`
	Windows []experiment.Outcomes `json:"windows"`
}

// FromRequest says what is wrong with it.
func (w *windows) FromRequest(*http.Request) error {
	const most = 253 // of the name of a pod
	if w.Pod == "" || len(w.Pod) > most {
		return problem.Invalid.Field("pod", "pod must be the name of who has counted, of 1 to %d characters", most)
	}
	for i, o := range w.Windows {
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
	return nil
}

// outcomes stores them; sent again they are the same rows.
func (s *steer) outcomes(ctx context.Context, w windows) (function.None, error) {
	return function.None{}, s.db.RecordOutcomes(ctx, w.Pod, w.Windows)
}
