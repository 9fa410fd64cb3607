package main

import (
	"context"
	"time"

	"warble/shared/experiment"
)

// nowhere is the store of whoever has no DATABASE_URL.
type nowhere struct{}

func (nowhere) StartExperiment(context.Context, experiment.Start) error { return errNoDatabase }

func (nowhere) Transition(context.Context, string, experiment.Transition) error {
	return errNoDatabase
}

func (nowhere) ArchiveExperiment(context.Context, string, time.Time) error { return errNoDatabase }
