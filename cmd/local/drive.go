package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"warble/shared/experiment"
	"warble/shared/manifest"
	"warble/shared/readout"
	"warble/shared/rollout"
	"warble/shared/store"
)

const (
	// movingInterval is the time between two turns while a move only needs time, and after an error.
	movingInterval = time.Second
	// liveInterval is the time between two turns while an experiment is live. It is longer because a readout costs as much as a page of
	// requests.
	liveInterval = 5 * time.Second
	// idleInterval is the time between two turns while only a person's wish could change something. A wish wakes the loop.
	idleInterval = time.Minute
)

// databaseURL is the file of the state folder with the DATABASE_URL for `kn experiment`.
const databaseURL = "database-url"

// steerURL is the file of the state folder with steer's URL. Steer receives the events of metrics at /events, as from a Trigger.
const steerURL = "steer-url"

// moveExperiments serves the control plane and moves the experiments, until stop is called.
func moveExperiments(ctx context.Context, s state, c *cluster, d *database) (stop func(), err error) {
	url := d.secrets[manifest.KeyRef{Name: "warble-database-ops", Key: "url"}]
	if err := errors.Join(os.WriteFile(s.path(databaseURL), []byte(url+"\n"), 0o600), os.WriteFile(s.path(steerURL), []byte(c.fleet.steer+"\n"), 0o600)); err != nil {
		return nil, err
	}
	db, err := store.Open(url, pool)
	if err != nil {
		return nil, err
	}
	woken := make(chan struct{}, 1)
	served, err := openControl(s, c.records, func() {
		select {
		case woken <- struct{}{}:
		default: // the loop is woken already
		}
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	closeControl := served.serve(ctx)
	driver := &rollout.Driver{Cluster: c, Store: db, Readout: readout.Driver{DB: db}, Now: time.Now, Actor: "local", Say: c.say}
	var driving sync.WaitGroup
	driving.Go(func() { c.drive(ctx, driver, woken) })
	return func() {
		cancel()
		closeControl()
		driving.Wait()
		db.Close()
	}, nil
}

// drive moves the experiments until ctx ends. When it is woken, it makes the next turn immediately.
func (c *cluster) drive(ctx context.Context, d *rollout.Driver, woken <-chan struct{}) {
	for _, e := range c.records.list().Items {
		c.say(e.Name + ": " + e.Describe())
	}
	printed := "" // the error of the last turn
	for ctx.Err() == nil {
		// Turn and not Run, because Run does not return while anything moves, and a wish would have to wait.
		moving, err := d.Turn(ctx)
		if err2 := c.dropUnused(); err == nil {
			err = err2
		}
		if err != nil && err.Error() != printed && ctx.Err() == nil {
			c.say(err.Error())
		}
		interval := c.interval(moving)
		if printed = ""; err != nil {
			printed, interval = err.Error(), movingInterval
		}
		select {
		case <-ctx.Done():
		case <-woken:
		case <-time.After(interval):
		}
	}
}

// interval returns the time until the next turn, if nobody changes anything before.
func (c *cluster) interval(moving bool) time.Duration {
	if moving {
		return movingInterval
	}
	for _, e := range c.records.read().Experiments {
		phase, waits := e.Status.Phase, false
		switch phase {
		case "", experiment.Draft:
			waits = e.Spec.Start || e.Spec.StartAt != ""
		case experiment.Concluded, experiment.Archived:
			waits = !e.Status.Swept || len(e.Status.Unrecorded) > 0
		default:
			waits = true
		}
		if waits {
			return liveInterval
		}
	}
	return idleInterval
}
