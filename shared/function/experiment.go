package function

import (
	"context"
	"errors"

	"warble/shared/env"
	"warble/shared/experiment"
	"warble/shared/problem"
)

// served is the arm that a process is of; the zero served is none.
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
		e.Required(experiment.EnvExperiment, "the name of the experiment that "+experiment.EnvArm+" is of")
	case s.arm != experiment.Control && s.arm != experiment.Treatment:
		e.Reject(experiment.EnvArm, string(s.arm), "control or treatment, for "+experiment.EnvExperiment+" is set")
	}
	return s
}

// as is what the process serves of the named experiment.
func (s served) as(name string) string {
	if s.experiment == name {
		return string(s.arm)
	}
	return experiment.NotServed
}

// expose has the exposure of a request written, where the edge says that it exposes its user, before anything is
// answered. Where that is not possible the answer is to be the control's. The error is that of a user who does not exist.
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
		Served:     f.served.as(a.Experiment),
		Revision:   f.revision,
		Generation: a.Generation,
	})
	if err != nil && !errors.Is(err, problem.Unauthenticated) {
		x.unexposed(a.Experiment, err)
		return nil
	}
	return err
}

// unexposed has a request answered as the control's, for nothing would tell that its user has seen the other arm.
func (x *Exchange) unexposed(name string, err error) {
	x.AsControl = true
	x.function.exposureFailures.Inc()
	x.function.Telemetry.Log.Error().Err(err).Str("request_id", x.RequestID).Str("experiment", name).
		Msg("exposure not written: answering as the control")
}
