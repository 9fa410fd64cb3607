package readout

import (
	"context"
	"time"

	"warble/shared/experiment"
	"warble/shared/store"
)

// Driver gives shared/rollout the readout, which decides how experiments proceed.
type Driver struct{ DB *store.DB }

// Judge reads an experiment and returns what decides how it proceeds.
func (d Driver) Judge(ctx context.Context, name string, now time.Time) (experiment.Judgement, error) {
	r, err := Read(ctx, d.DB, name, now)
	if err != nil {
		return experiment.Judgement{}, err
	}
	return r.Judged()
}

// Plan returns N*, both arms together, as in Planned.Units. A hopeless design is no error here: people decide whether to
// start it.
func (d Driver) Plan(ctx context.Context, spec experiment.Spec, own []experiment.Metric) (units int64, err error) {
	p, err := Plan(ctx, d.DB, spec, own, time.Now())
	return p.Units, err
}
