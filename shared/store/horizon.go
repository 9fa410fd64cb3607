package store

import (
	"context"
	"sync"
	"time"

	"warble/shared/problem"
)

const (
	// renewAfter is the age at which a horizon is renewed.
	renewAfter = 50 * time.Millisecond
	// staleAfter is the age from which a horizon is not used. A list then waits for the next one.
	staleAfter = 2 * renewAfter
	// overAfter is how long a transaction can hold the horizon back. Transactions of functions end by statementTimeout.
	overAfter = 2 * time.Second
	// lagOfIDs is how far the ids of running transactions can be below the last id: overAfter, plus the second by which an id can
	// be older than the moment at which it was drawn (migration 002).
	lagOfIDs = int64((overAfter + time.Second) / time.Millisecond << 22)
)

// horizon is the id up to which lists are complete. Ids are drawn before the commit. So above the horizon, a row can appear later
// although its id is lower than that of a row that is already visible.
type horizon struct {
	mu      sync.Mutex
	id      int64
	renewed time.Time
	renewal *renewal // nil unless one is under way

	settling settling // used only by the renewal
}

// renewal is a renewal under way. Its results are set when done is closed.
type renewal struct {
	done chan struct{}
	id   int64
	err  error
}

// Horizon returns the id up to which a statement that starts now sees every row that will ever exist; at least 1. While lists are
// read, a process renews its horizon every 50 ms, no matter how many lists it reads. A long transaction holds the horizon back for
// at most 2 s. By then, statement_timeout has ended the transactions of functions.
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
	ctx, cancel := db.withDeadline(ctx)
	defer cancel()
	select {
	case <-next.done:
		return next.id, next.err
	case <-ctx.Done():
		return 0, problem.Unavailable.Because(ctx.Err())
	}
}

// renew renews the horizon. If it was stale, nobody has read a list for a while, and the first reader wants to see what was written
// meanwhile. So renew then waits, for up to staleAfter, until the present writes are committed.
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

// settling finds out which ids are settled, that is, all transactions that drew ids up to them are over. id is the last one known
// to be settled.
type settling struct {
	id    int64
	notes []note // of ids that are not settled, oldest first
}

// note is an id that is settled once no transaction older than xact runs.
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

// add adds a note, and removes the notes whose ids are settled. oldest is the oldest transaction that ran at the time of the note.
func (s *settling) add(n note, oldest int64) {
	s.notes = append(s.notes, n)
	for len(s.notes) > 0 && (s.notes[0].xact <= oldest || n.at.Sub(s.notes[0].at) >= overAfter) {
		s.id, s.notes = s.notes[0].id, s.notes[1:]
	}
}
