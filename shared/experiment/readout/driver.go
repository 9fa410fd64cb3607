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

// Plan returns N*, of both arms together. A hopeless design has one too: whether it is started is for people to say.
func (d Driver) Plan(ctx context.Context, spec experiment.Spec) (units int64, err error) {
	p, err := Plan(ctx, d.DB, spec, time.Now())
	return p.Units, err
}

// Expect returns how many units each arm has at each step of the ramp if all come whom the database knows now; of requests
// nothing, and of a list what it names.
func (d Driver) Expect(ctx context.Context, spec experiment.Spec) (perArm []int64, err error) {
	f := newFrame(store.Started{Spec: spec}, time.Now())
	switch {
	case spec.Unit == experiment.Request:
		return nil, nil
	case f.observational():
		return []int64{int64(min(len(spec.List.Control), len(spec.List.Treatment)))}, nil
	}
	var units int64
	err = d.DB.Snapshot(ctx, func(ctx context.Context, s *store.Snapshot) (err error) {
		units, err = f.population(ctx, s)
		return err
	})
	for _, percent := range spec.Ramp.Steps {
		perArm = append(perArm, units*int64(percent)/100)
	}
	return perArm, err
}
