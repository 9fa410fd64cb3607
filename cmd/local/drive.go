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
	// movingInterval is how often experiments are looked at while one takes only some time, or could not be looked at.
	movingInterval = time.Second
	// liveInterval is how often they are while one is live: a readout takes as long as a page of requests.
	liveInterval = 5 * time.Second
	// idleInterval is how often they are while nothing is to be expected but what people want, which wakes the loop.
	idleInterval = time.Minute
)

// databaseURL is the file of the state folder by which `kn experiment` reads what is stored.
const databaseURL = "database-url"

// steerURL is the file of the state folder with where steer listens, which takes the events of metrics at /events as a Trigger brings
// them.
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
		default: // it is about to look
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

// drive moves the experiments until ctx ends, and looks again at once when it is woken.
func (c *cluster) drive(ctx context.Context, d *rollout.Driver, woken <-chan struct{}) {
	for _, e := range c.records.list().Items {
		c.say(e.Name + ": " + e.Describe())
	}
	said := ""
	for ctx.Err() == nil {
		// A turn rather than Run, which would be deaf until nothing moves any more.
		moving, err := d.Turn(ctx)
		if err2 := c.forget(); err == nil {
			err = err2
		}
		if err != nil && err.Error() != said && ctx.Err() == nil {
			c.say(err.Error())
		}
		interval := c.interval(moving)
		if said = ""; err != nil {
			said, interval = err.Error(), movingInterval
		}
		select {
		case <-ctx.Done():
		case <-woken:
		case <-time.After(interval):
		}
	}
}

// interval is how long nothing has to be looked at, unless somebody changes something.
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
