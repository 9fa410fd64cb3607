package function

import (
	"context"
	"errors"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/problem"
)

// served says to which arm of which experiment a process belongs; the zero served means that it belongs to none.
type served struct {
	experiment string
	arm        experiment.Arm
}

// readServed reads WARBLE_EXPERIMENT and WARBLE_ARM, which the revisions of an experiment's arms have.
func readServed(e *env.Reader) served {
	s := served{e.String(experiment.EnvExperiment, ""), experiment.Arm(e.String(experiment.EnvArm, ""))}
	switch {
	case s == served{}:
	case s.experiment == "":
		e.Required(experiment.EnvExperiment, "the name of the experiment, because "+experiment.EnvArm+" is set")
	case s.arm != experiment.Control && s.arm != experiment.Treatment:
		e.Reject(experiment.EnvArm, string(s.arm), "control or treatment, because "+experiment.EnvExperiment+" is set")
	}
	return s
}

// armIn returns the arm that the process serves in the named experiment; experiment.NotServed if it serves none.
func (s served) armIn(name string) string {
	if s.experiment == name {
		return string(s.arm)
	}
	return experiment.NotServed
}

// expose records the exposure of a request before it is answered, if the edge says that the request exposes its user. If the
// exposure cannot be recorded, the request must be answered as in the control. The only error is problem.Unauthenticated, for a
// user who does not exist.
func (x *Exchange) expose(ctx context.Context, write func(context.Context, experiment.Exposure) error) error {
	a, f := x.Assignment, x.function
	if !a.Exposes || write == nil {
		return nil
	}
	err := write(ctx, experiment.Exposure{
		Experiment: a.Experiment,
		UserID:     x.Caller.UserID,
		Unit:       a.Unit,
		Assigned:   string(a.Arm),
		Served:     f.served.armIn(a.Experiment),
		Revision:   f.revision,
		Generation: a.Generation,
	})
	if err != nil && !errors.Is(err, problem.Unauthenticated) {
		x.unexposed(a.Experiment, err)
		return nil
	}
	return err
}

// unexposed makes a request be answered as in the control, because no record would show that its user has seen the treatment.
func (x *Exchange) unexposed(name string, err error) {
	x.AsControl = true
	x.function.exposureFailures.Inc()
	x.function.Telemetry.Log.Error().Err(err).Str("request_id", x.RequestID).Str("experiment", name).
		Msg("could not record the exposure: served the control version")
}
