package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"warble/shared/store/migrations"
)

// condition is one of an object's status.
type condition struct {
	Type, Status, Reason, Message string
}

func find(conditions []condition, kind string) condition {
	if i := slices.IndexFunc(conditions, func(c condition) bool { return c.Type == kind }); i >= 0 {
		return conditions[i]
	}
	return condition{}
}

// migrate waits for the Jobs among objects. It deletes a Job that has failed, so that the next deployment runs it again.
func (d *deployment) migrate(ctx context.Context, objects []*object) error {
	for _, o := range objects {
		if o.Kind != "Job" {
			continue
		}
		name := o.Metadata.Name
		err := d.await(ctx, name)
		if errors.Is(err, errFailed) {
			err = errors.Join(err, d.cluster.Delete(ctx, jobs, name))
		}
		if err != nil {
			return fmt.Errorf("no function was changed: %w", err)
		}
	}
	return nil
}

// errFailed is returned for a Job that has ended without success.
var errFailed = errors.New("failed")

// await waits for the end of a Job, and prints what its pod reports.
func (d *deployment) await(ctx context.Context, name string) error {
	start, said := time.Now(), ""
	for {
		var job struct {
			Metadata struct{ UID string }
			Status   struct{ Conditions []condition }
		}
		if err := d.cluster.Get(ctx, &job, jobs, name); err != nil {
			return err
		}
		selector := "batch.kubernetes.io/controller-uid=" + job.Metadata.UID // not by name, because an earlier Job may have had the same name
		if find(job.Status.Conditions, "Complete").Status == "True" {
			line, _ := d.podSays(ctx, selector, lastLine)
			d.say("job %s: %s (%s)", name, line, time.Since(start).Round(time.Second))
			return nil
		}
		if find(job.Status.Conditions, "Failed").Status == "True" {
			reason, _ := d.podSays(ctx, selector, lastLine)
			return fmt.Errorf("job %s %w: %s", name, errFailed, reason)
		}
		if text, _ := d.podSays(ctx, selector, complaint); text != "" && text != said {
			said = text
			d.say("job %s: %s", name, said)
		}
		if time.Since(start) > d.timeout {
			return fmt.Errorf("job %s did not end within %s, the limit of -timeout: %s", name, d.timeout, said)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// migrateFromHere applies the migrations from this machine.
func (d *deployment) migrateFromHere(ctx context.Context, s settings) error {
	if s.direct == nil {
		return nil
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is pending on it
	before, after, err := migrations.Apply(ctx, conn)
	if err == nil {
		d.say("database: migration %d, was %d", after, before)
	}
	return err
}

// pollEvery is the time between two reads of the cluster's state.
const pollEvery = time.Second

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollEvery):
		return nil
	}
}
