package main

import (
	"context"
	"errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"warble/shared/experiment"
	"warble/shared/problem"
	"warble/shared/rollout"
	"warble/shared/store"
)

// stored is what a database has of experiments, for whoever reaches no cluster: those of a local run have none.
type stored struct{ db *store.DB }

// Experiment is one as its last transition left it. Why it ended is told by that one's reason.
func (s stored) Experiment(ctx context.Context, name string) (*rollout.Experiment, error) {
	var started store.Started
	err := s.db.Snapshot(ctx, func(ctx context.Context, rows *store.Snapshot) (err error) {
		started, err = rows.Experiment(ctx, name)
		return err
	})
	if errors.Is(err, problem.NotFound) {
		return nil, exit(failed, "no experiment %s has been started", name)
	} else if err != nil {
		return nil, err
	}
	e := &rollout.Experiment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: started.Spec}
	e.Status.Salt, e.Status.Planned, e.Status.StartedAt = started.Salt, started.PlannedUnits, metav1.NewTime(started.At)
	for _, t := range started.Transitions {
		open := t.Percent * experiment.Slots / 100
		e.Status.Phase, e.Status.Step, e.Status.Message = rollout.Phase(t.Phase), t.Step, t.Reason
		e.Status.Open = experiment.Open{Control: open, Treatment: open}
		switch e.Status.Phase {
		case rollout.Running:
			e.Status.StepAt = metav1.NewTime(t.At)
		case rollout.Promoting:
			e.Status.Open.Control = 0
		}
	}
	return e, nil
}
