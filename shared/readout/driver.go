package readout

import (
	"context"
	"time"

	"warble/shared/experiment"
	"warble/shared/store"
)

// Driver is the readout by which experiments move: shared/rollout asks it.
type Driver struct{ DB *store.DB }

// Judge is Read, as far as an experiment moves by it.
func (d Driver) Judge(ctx context.Context, name string, now time.Time) (experiment.Verdict, error) {
	r, err := Read(ctx, d.DB, name, now)
	if err != nil {
		return experiment.Verdict{}, err
	}
	return r.Judged()
}

// Plan returns N*, of both arms together, as Planned.Units has it. That a design is hopeless is no error here: whether it is
// started all the same is for people to say.
func (d Driver) Plan(ctx context.Context, spec experiment.Spec, own []experiment.Metric) (units int64, err error) {
	p, err := Plan(ctx, d.DB, spec, own, time.Now())
	return p.Units, err
}
