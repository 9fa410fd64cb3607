package store

import (
	"context"
	"sync"
	"time"

	"warble/shared/problem"
)

const (
	// renewAfter is how old a horizon is when the next one is read.
	renewAfter = 50 * time.Millisecond
	// staleAfter is how old a horizon is that no list uses: the list waits for the next one.
	staleAfter = 2 * renewAfter
	// overAfter is how long a transaction holds the horizon back: those of functions have ended by statementTimeout.
	overAfter = 2 * time.Second
	// lagOfIDs is how far behind the last id the ids of running transactions can be: overAfter, and the second by which an id
	// can be older than its draw (migration 002).
	lagOfIDs = int64((overAfter + time.Second) / time.Millisecond << 22)
)

// horizon is the id up to which lists are complete. Ids are drawn before the commit: beyond the horizon, a row can appear
// whose id is lower than that of a row which is there already.
type horizon struct {
	mu      sync.Mutex
	id      int64
	renewed time.Time
	renewal *renewal // nil unless one is under way

	settling settling // the renewal's alone
}

type renewal struct {
	done chan struct{}
	id   int64
	err  error
}

// Horizon returns the id up to which every row that will ever be there is there for a statement that starts now; at least
// 1. While lists are read, a process renews it every 50 ms, whatever their number. A transaction that runs on holds it back
// for 2 s at most, by when statement_timeout has ended those of the functions.
func (db *DB) Horizon(ctx context.Context) (int64, error) {
	h := &db.horizon
	h.mu.Lock()
	age := time.Since(h.renewed)
	if age >= renewAfter && h.renewal == nil {
		h.renewal = &renewal{done: make(chan struct{})}
		go h.renew(context.WithoutCancel(ctx), db, h.renewal, age >= staleAfter)
	}
	id, next := h.id, h.renewal
	h.mu.Unlock()
	if age < staleAfter {
		return id, nil
	}
	ctx, cancel := db.bound(ctx)
	defer cancel()
	select {
	case <-next.done:
		return next.id, next.err
	case <-ctx.Done():
		return 0, problem.Unavailable.Because(ctx.Err())
	}
}

// renew moves the horizon on. If it is stale, nobody has read a list for a while, and the first to do so wants what was
// written meanwhile: renew waits, up to staleAfter, until what is being written is there.
func (h *horizon) renew(ctx context.Context, db *DB, r *renewal, stale bool) {
	defer close(r.done)
	s := &h.settling
	r.err = s.read(ctx, db)
	for began := time.Now(); r.err == nil && stale && len(s.notes) > 0; r.err = s.read(ctx, db) {
		if time.Since(began) >= staleAfter {
			s.id = max(s.id, s.notes[0].id-lagOfIDs)
			break
		}
		time.Sleep(renewAfter / 10)
	}
	r.id = max(s.id, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renewal = nil
	if r.err == nil {
		h.id, h.renewed = r.id, time.Now()
	}
}

// settling finds out which of the ids that were drawn are settled: the transactions that drew ids up to them are over.
type settling struct {
	id    int64
	notes []note // of ids that are not settled, the oldest first
}

// note is an id that is settled once no transaction before xact runs.
type note struct {
	id, xact int64
	at       time.Time
}

func (s *settling) read(ctx context.Context, db *DB) error {
	var (
		n      note
		oldest int64
	)
	err := db.one(ctx, `select last, xact, oldest from last_id()`, nil, &n.id, &n.xact, &oldest)
	if err == nil {
		n.at = time.Now()
		s.add(n, oldest)
	}
	return err
}

// add notes an id, at which time oldest was the oldest transaction that ran.
func (s *settling) add(n note, oldest int64) {
	s.notes = append(s.notes, n)
	for len(s.notes) > 0 && (s.notes[0].xact <= oldest || n.at.Sub(s.notes[0].at) >= overAfter) {
		s.id, s.notes = s.notes[0].id, s.notes[1:]
	}
}
