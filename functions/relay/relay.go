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
	// maxUsers is how many users' events are in hand at once, being sent or waiting to be sent again. It bounds the memory,
	// and what a sink that is back after an hour gets at once.
	maxUsers = 2000
	// usersPerLook and eventsPerUser bound what one look into a partition brings.
	usersPerLook  = 8
	eventsPerUser = 10
	// busyWait and idleWait are the pause between looks that find nothing; it doubles from one to the other.
	busyWait = 100 * time.Millisecond
	idleWait = time.Second
	// renewals is how often a lease is renewed before it would end.
	renewals = 5
)

// Relay publishes the outbox: each event at least once, those of a user in the order of their ids.
//
// Order needs no lease. Whoever sends an event has seen the user's event before it delivered (or made a dead letter), or
// gone because another relay saw that; so an event arrives for the first time after those before it have, however many
// relays send and whichever of them is cut off in the middle. Nor does sweeping need one: what was delivered is delivered.
// The lease is there to spare the subscribers that many copies. What it cannot spare them: a relay that stops between
// looking at its lease and sending (a virtual machine is moved, say) sends one late copy per request it had under way, and
// one that dies leaves what it delivered and had not yet swept to be sent again.
//
// The order is that of ids among the rows that can be seen. Ids are taken before the commit, so of two writes of one user
// that run at the same time, the later id may be seen and sent first. A write that began after another was answered, or
// that has read the other's result, comes after it, and no one can ask more of writes that knew nothing of each other.
// Waiting until no transaction is older would put every event behind the database's longest one, a backup's for hours.
type Relay struct {
	db    *store.DB
	send  Sink
	name  string
	lease time.Duration
	log   zerolog.Logger
	count *telemetry.Counter

	now   func() time.Time
	after func(time.Duration) <-chan time.Time

	leased  [store.Partitions]atomic.Pointer[time.Time] // until when each partition is ours; nil where it is not
	renewed time.Time
	cursor  [store.Partitions]int64

	slots      chan struct{} // one for each request under way
	deliveries sync.WaitGroup
	reports    chan report
	inHand     map[int64]struct{} // users
	delivered  []int64            // events, to be deleted
	finished   []int64            // users, to be let go once their events are deleted

	age, deadLetters atomic.Int64 // seconds; events
}

// report is what a delivery tells: an event that was delivered, or that it is done with a user.
type report struct {
	event int64
	user  int64
}

// New makes a relay. Its name begins with host, for people who look at the leases.
func New(db *store.DB, send Sink, t *telemetry.Telemetry, host string, lease time.Duration) *Relay {
	r := &Relay{
		db: db, send: send, name: host + "-" + rand.Text()[:8], lease: lease, log: t.Log,
		count:   t.Counter("relay_events_total", "Attempts to publish an event, by its type and outcome: delivered, refused (and to be tried again) or dead.", "type", "outcome"),
		now:     time.Now,
		after:   time.After,
		slots:   make(chan struct{}, parallel),
		reports: make(chan report, maxUsers),
		inHand:  make(map[int64]struct{}),
	}
	t.Gauge("outbox_oldest_event_age_seconds", "Age of the oldest event that was not delivered, of all partitions.", func() float64 { return float64(r.age.Load()) })
	t.Gauge("outbox_dead_letters", "Events that were given up and wait to be replayed.", func() float64 { return float64(r.deadLetters.Load()) })
	return r
}

// Run publishes until ctx ends, then finishes the requests that are under way and gives its partitions up. A database
// that goes away is waited for.
func (r *Relay) Run(ctx context.Context) error {
	for wait := busyWait; ctx.Err() == nil; {
		found, err := r.look(ctx)
		if found {
			wait = busyWait
		}
		if idle := !r.await(ctx, wait); idle || err != nil {
			wait = min(2*wait, idleWait, r.lease/renewals)
		}
		if err = errors.Join(err, r.sweep(ctx), r.renew(ctx)); err != nil {
			r.log.Warn().Err(err).Msg("outbox")
		}
	}
	return r.finish(context.WithoutCancel(ctx))
}

// renew keeps the leases. It begins to count before it asks, so that they end here before they end in the database.
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

func (r *Relay) mine(partition int16) bool {
	until := r.leased[partition].Load()
	return until != nil && time.Now().Before(*until)
}

// look starts a delivery for each user it finds. Of a partition with many users it takes the next few each time, in turn,
// so that none waits for all others.
func (r *Relay) look(ctx context.Context) (found bool, err error) {
	var from []store.Cursor
	for p, after := range r.cursor {
		if r.mine(int16(p)) { //nolint:gosec // below 16
			from = append(from, store.Cursor{Partition: int16(p), UserID: after}) //nolint:gosec // below 16
		}
	}
	if len(from) == 0 || len(r.inHand) >= maxUsers {
		return false, nil
	}
	events, err := r.db.UnpublishedEvents(ctx, from, slices.Collect(maps.Keys(r.inHand)), usersPerLook, eventsPerUser)
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
			r.reports <- report{user: user}
		})
	}
	for _, c := range from {
		if users[c.Partition] < usersPerLook {
			r.cursor[c.Partition] = 0 // that was the last of them: from the beginning again
			found = found || c.UserID > 0
		}
	}
	return found || len(events) > 0, nil
}

// byUser yields the events of one user after the other.
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

// deliver sends one user's events one after the other, each until it is delivered or dead. It stops when the partition
// is another's, or ctx ends.
func (r *Relay) deliver(ctx context.Context, events []store.Event) {
	for _, e := range events {
		for failures := 1; ; failures++ {
			err := r.attempt(ctx, e)
			if errors.Is(err, errStopped) {
				return
			}
			if err == nil {
				r.count.Inc(e.Type, "delivered")
				r.reports <- report{event: e.ID}
				break
			}
			if r.hopeless(e, err, failures) && r.bury(ctx, e, err) {
				break
			}
			r.count.Inc(e.Type, "refused")
			if failures == 1 {
				r.log.Warn().Err(err).Int64("event", e.ID).Str("type", e.Type).Msg("event refused: its user's events wait")
			}
			select {
			case <-ctx.Done():
			case <-r.after(backoff(err, failures)):
			}
		}
	}
}

// errStopped is what an attempt ends with that is not for this relay to make, or not any more.
var errStopped = errors.New("stopped")

// attempt sends an event once, when there is a slot. It is not cut short when ctx ends: a request under way has an end of
// its own, and an answer that was heard is a copy spared.
func (r *Relay) attempt(ctx context.Context, row store.Event) error {
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	if ctx.Err() != nil || !r.mine(row.Partition) {
		return errStopped
	}
	e, err := cloudEvent(row)
	if err != nil {
		return &malformed{err}
	}
	return r.send(context.WithoutCancel(ctx), e)
}

// bury makes an event a dead letter, and reports whether it is one. Its user's later events go on.
func (r *Relay) bury(ctx context.Context, e store.Event, reason error) bool {
	if err := r.db.BuryEvent(ctx, e.ID, reason.Error()); err != nil {
		return false // then it is tried again, and buried another time
	}
	r.count.Inc(e.Type, "dead")
	r.log.Error().AnErr("reason", reason).Int64("event", e.ID).Str("type", e.Type).Msg("event is a dead letter")
	return true
}

// await returns true once a delivery has reported, with all that have, or false after wait.
func (r *Relay) await(ctx context.Context, wait time.Duration) bool {
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

func (r *Relay) note(n report) {
	if n.event != 0 {
		r.delivered = append(r.delivered, n.event)
	} else {
		r.finished = append(r.finished, n.user)
	}
}

// sweep deletes what was delivered, in one statement for all users, and then lets go of those who are finished: a user
// whose events are still there would be found again.
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

// Measure reads what the gauges show.
func (r *Relay) Measure(ctx context.Context) error {
	backlog, err := r.db.Backlog(ctx)
	if err != nil {
		return err
	}
	r.age.Store(int64(backlog.Age.Seconds()))
	r.deadLetters.Store(int64(backlog.DeadLetters))
	return nil
}
