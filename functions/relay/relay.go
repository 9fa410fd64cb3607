package main

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"warble/shared/store"
	"warble/shared/telemetry"
)

const (
	// maxUsers is how many users' events are handled at the same time, being sent or waiting for another attempt. It limits the
	// memory, and the number of requests to a sink that works again after an hour.
	maxUsers = 2000
	// usersPerQuery and eventsPerUser limit what one query of a partition returns.
	usersPerQuery = 8
	eventsPerUser = 10
	// busyWait and idleWait are the shortest and the longest pause after a query that found nothing. The pause doubles each time.
	busyWait = 100 * time.Millisecond
	idleWait = time.Second
	// renewals is how often a lease is renewed within its duration.
	renewals = 5
)

// Relay publishes the outbox: each event at least once, the events of one user in the order of their ids.
//
// Order does not depend on leases. A relay sends an event only after the same user's previous event was delivered or became a dead
// letter. If the previous event is no longer in the outbox, another relay has delivered it or made it a dead letter. So an event first
// arrives after its predecessors have arrived. This is true for any number of relays, and if a relay is interrupted at any point.
// Deleting does not depend on leases either: a delivered event stays delivered.
//
// Leases keep relays from sending the same events. They cannot prevent every copy. A relay that stops between checking its lease
// and sending, for example because its virtual machine is moved, later sends one copy for each request that it was about to make. After a relay dies,
// the events that it delivered and did not delete are sent again.
//
// The order is that of ids among visible rows. An id is taken before its commit. So if one user makes two writes at the same time,
// the later id may become visible and be sent first. A write that began after another was answered, or that read the other's
// result, comes after it. Two writes that know nothing of each other need no order. Waiting until no older transaction exists would
// delay all events until the database's longest transaction ends: hours, for a backup.
type Relay struct {
	db    *store.DB
	send  Sink
	name  string
	lease time.Duration
	log   zerolog.Logger
	count *telemetry.Counter

	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	leased  [store.Partitions]atomic.Pointer[time.Time] // until when each partition is leased to this relay; nil if it is not
	renewed time.Time
	cursor  [store.Partitions]int64

	permits    chan struct{} // one for each request in progress
	deliveries sync.WaitGroup
	reports    chan progress
	inHand     map[int64]struct{} // users
	delivered  []int64            // events, to be deleted
	finished   []int64            // users whose delivery has finished, to be removed from inHand once their events are deleted

	age, deadLetters atomic.Int64 // seconds; events
}

// progress is a message from a delivery: it delivered an event, or it has finished a user.
type progress struct {
	event int64
	user  int64
}

// New makes a relay. Its name begins with host, to help people who read the leases.
func New(db *store.DB, send Sink, t *telemetry.Telemetry, host string, lease time.Duration) *Relay {
	r := &Relay{
		db: db, send: send, name: host + "-" + rand.Text()[:8], lease: lease, log: t.Log,
		count:   t.Counter("relay_events_total", "Attempts to publish an event, by type and outcome: delivered, refused (tried again later) or dead.", "type", "outcome"),
		now:     time.Now,
		after:   time.After,
		permits: make(chan struct{}, parallel),
		reports: make(chan progress, maxUsers),
		inHand:  make(map[int64]struct{}),
	}
	t.Gauge("outbox_oldest_event_age_seconds", "Age of the oldest undelivered event in all partitions.", func() float64 { return float64(r.age.Load()) })
	t.Gauge("outbox_dead_letters", "Dead letters: undelivered events that are no longer tried, until somebody replays them.", func() float64 { return float64(r.deadLetters.Load()) })
	return r
}

// Run publishes until ctx ends. Then it finishes its requests and releases its partitions. It waits for a database that does not
// answer.
func (r *Relay) Run(ctx context.Context) error {
	for wait := busyWait; ctx.Err() == nil; {
		found, err := r.startDeliveries(ctx)
		if found {
			wait = busyWait
		}
		if idle := !r.awaitReports(ctx, wait); idle || err != nil {
			wait = min(2*wait, idleWait, r.lease/renewals)
		}
		if err = errors.Join(err, r.sweep(ctx), r.renew(ctx)); err != nil {
			r.log.Warn().Err(err).Msg("outbox")
		}
	}
	return r.finish(context.WithoutCancel(ctx))
}

// renew renews the leases. It counts their duration from before the query, so that they end here before they end in the database.
func (r *Relay) renew(ctx context.Context) error {
	now := time.Now()
	if now.Sub(r.renewed) < r.lease/renewals {
		return nil
	}
	mine, err := r.db.LeasePartitions(ctx, r.name, r.lease)
	if err != nil {
		return err
	}
	r.renewed = now
	until := now.Add(r.lease)
	for p := range r.leased {
		if slices.Contains(mine, int16(p)) { //nolint:gosec // below 16
			r.leased[p].Store(&until)
		} else {
			r.leased[p].Store(nil)
		}
	}
	return nil
}

func (r *Relay) hasLease(partition int16) bool {
	until := r.leased[partition].Load()
	return until != nil && time.Now().Before(*until)
}

// startDeliveries starts a delivery for each user that it finds. From a partition with many users it takes the next few each time,
// in turn, so that no user waits for all others.
func (r *Relay) startDeliveries(ctx context.Context) (found bool, err error) {
	var from []store.Cursor
	for p, after := range r.cursor {
		if r.hasLease(int16(p)) { //nolint:gosec // below 16
			from = append(from, store.Cursor{Partition: int16(p), UserID: after}) //nolint:gosec // below 16
		}
	}
	if len(from) == 0 || len(r.inHand) >= maxUsers {
		return false, nil
	}
	events, err := r.db.UnpublishedEvents(ctx, from, slices.Collect(maps.Keys(r.inHand)), usersPerQuery, eventsPerUser)
	if err != nil {
		return false, err
	}
	var users [store.Partitions]int
	for theirs := range byUser(events) {
		user, partition := theirs[0].UserID, theirs[0].Partition
		users[partition]++
		r.cursor[partition] = user
		r.inHand[user] = struct{}{}
		r.deliveries.Go(func() {
			r.deliver(ctx, theirs)
			r.reports <- progress{user: user}
		})
	}
	for _, c := range from {
		if users[c.Partition] < usersPerQuery {
			r.cursor[c.Partition] = 0 // all users have had their turn: begin again
			found = found || c.UserID > 0
		}
	}
	return found || len(events) > 0, nil
}

// byUser yields each user's events together.
func byUser(events []store.Event) iter.Seq[[]store.Event] {
	return func(yield func([]store.Event) bool) {
		for len(events) > 0 {
			n := 1
			for n < len(events) && events[n].UserID == events[0].UserID {
				n++
			}
			if !yield(events[:n]) {
				return
			}
			events = events[n:]
		}
	}
}

// deliver sends one user's events in turn, each until it is delivered or dead. It stops when the partition belongs to another
// relay, or when ctx ends.
func (r *Relay) deliver(ctx context.Context, events []store.Event) {
	for _, e := range events {
		for failures := 1; ; failures++ {
			err := r.attempt(ctx, e)
			if errors.Is(err, errStopped) {
				return
			}
			if err == nil {
				r.count.Inc(e.Type, "delivered")
				r.reports <- progress{event: e.ID}
				break
			}
			if r.isHopeless(e, err, failures) && r.bury(ctx, e, err) {
				break
			}
			r.count.Inc(e.Type, "refused")
			if failures == 1 {
				r.log.Warn().Err(err).Int64("event", e.ID).Str("type", e.Type).Msg("an event was refused: its user's events wait")
			}
			select {
			case <-ctx.Done():
			case <-r.after(backoff(err, failures)):
			}
		}
	}
}

// errStopped means that this relay must not make the attempt, or not any more.
var errStopped = errors.New("stopped")

// attempt sends an event once, as soon as it has a permit. The end of ctx does not interrupt it: a request has its own time limit, and an
// answer that arrives saves a copy.
func (r *Relay) attempt(ctx context.Context, row store.Event) error {
	r.permits <- struct{}{}
	defer func() { <-r.permits }()
	if ctx.Err() != nil || !r.hasLease(row.Partition) {
		return errStopped
	}
	e, err := cloudEvent(row)
	if err != nil {
		return &malformed{err}
	}
	return r.send(context.WithoutCancel(ctx), e)
}

// bury makes an event a dead letter, and reports whether it succeeded. Delivery of the user's later events continues.
func (r *Relay) bury(ctx context.Context, e store.Event, reason error) bool {
	if err := r.db.BuryEvent(ctx, e.ID, reason.Error()); err != nil {
		return false // the event is tried again, and buried later
	}
	r.count.Inc(e.Type, "dead")
	r.log.Error().AnErr("reason", reason).Int64("event", e.ID).Str("type", e.Type).Msg("an event is now a dead letter")
	return true
}

// awaitReports waits for a report from a delivery. It handles all reports that have arrived and returns true. If none arrives
// within wait, it returns false.
func (r *Relay) awaitReports(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case first := <-r.reports:
		r.note(first)
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
	for range len(r.reports) {
		r.note(<-r.reports)
	}
	return true
}

func (r *Relay) note(n progress) {
	if n.event != 0 {
		r.delivered = append(r.delivered, n.event)
	} else {
		r.finished = append(r.finished, n.user)
	}
}

// sweep deletes all delivered events in one statement. Then it removes the finished users from inHand: if it did so earlier, a user
// with undeleted events would be found again.
func (r *Relay) sweep(ctx context.Context) error {
	if len(r.delivered) > 0 {
		if err := r.db.DeleteEvents(ctx, r.delivered); err != nil {
			return err
		}
	}
	for _, user := range r.finished {
		delete(r.inHand, user)
	}
	r.delivered, r.finished = r.delivered[:0], r.finished[:0]
	return nil
}

func (r *Relay) finish(ctx context.Context) error {
	go func() {
		r.deliveries.Wait()
		close(r.reports)
	}()
	for n := range r.reports {
		r.note(n)
	}
	return errors.Join(r.sweep(ctx), r.db.ReleasePartitions(ctx, r.name))
}

// Measure reads the values of the gauges.
func (r *Relay) Measure(ctx context.Context) error {
	backlog, err := r.db.Backlog(ctx)
	if err != nil {
		return err
	}
	r.age.Store(int64(backlog.Age.Seconds()))
	r.deadLetters.Store(int64(backlog.DeadLetters))
	return nil
}
