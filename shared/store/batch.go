package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"warble/shared/problem"
)

const (
	// maxBatch is how many tweets leave together: more of them make the first wait longer than they save.
	maxBatch = 64
	// hurry is the time that a request must have left to leave with others, because its deadline becomes theirs.
	hurry = 500 * time.Millisecond
)

// batches sends tweets without an Idempotency-Key. While a connection is free, each leaves alone and at once. Those that
// have to wait for one leave together: the same statement for each, in one round trip and one commit.
type batches struct {
	pool  *pgxpool.Pool
	spans pgx.QueryTracer // of the pool, nil where it has none
	most  int             // senders at the same time: as many as there are connections

	mu      sync.Mutex
	senders int
	waiting []*member // in the order in which they came
	closed  bool
	ended   sync.Cond // a sender has
}

// member is a tweet that waits.
type member struct {
	ctx   context.Context
	until time.Time // of the request
	args  []any
	done  chan outcome // has room for the one outcome
}

// outcome is what came of a member. One that is to go alone was not written, and has until then to be.
type outcome struct {
	body  []byte
	err   error
	alone bool
	until time.Time
}

// write writes a tweet and returns the answer's body.
func (b *batches) write(ctx context.Context, timeout time.Duration, args []any) ([]byte, error) {
	until := deadline(ctx, timeout)
	m := &member{ctx, until, args, nil}
	switch b.join(m) {
	case goesAlone:
		return b.alone(ctx, until, args)
	case sends:
		defer b.next()
		return b.alone(ctx, until, args)
	}
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var o outcome
	select {
	case o = <-m.done:
	case <-waiting.Done():
		if b.drop(m) {
			return nil, problem.Unavailable.Because(context.Cause(waiting))
		}
		o = <-m.done // it has left: what becomes of it is known by the batch's deadline
	}
	if o.alone {
		return b.alone(ctx, o.until, args)
	}
	return o.body, o.err
}

type way int

const (
	goesAlone way = iota
	sends         // alone, and makes place for the next then
	waits
)

func (b *batches) join(m *member) way {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed || time.Until(m.until) < hurry:
		return goesAlone
	case b.senders < b.most:
		b.senders++
		return sends
	default:
		m.done = make(chan outcome, 1)
		b.waiting = append(b.waiting, m)
		return waits
	}
}

// drop takes a member out, unless it has left.
func (b *batches) drop(m *member) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, m)
	if i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
	return i >= 0
}

// next passes a sender's place on to those who wait.
func (b *batches) next() {
	if first := b.first(); first != nil {
		go b.send(first)
	}
}

// first is the member that has waited longest; where there is none, a sender has ended.
func (b *batches) first() *member {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) > 0 {
		return b.waiting[0]
	}
	b.senders--
	b.ended.Broadcast()
	return nil
}

// send sends batches until nobody waits.
func (b *batches) send(first *member) {
	for ; first != nil; first = b.first() {
		ctx, cancel := context.WithDeadline(context.WithoutCancel(first.ctx), first.until)
		conn, err := b.pool.Acquire(ctx)
		if err == nil {
			b.leave(conn)
			conn.Release()
		} else {
			b.refuse(err, ctx.Err() != nil)
		}
		cancel()
	}
}

// refuse tells those who wait that there is no connection. Where it is only late, the others may still see one.
func (b *batches) refuse(err error, late bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.waiting = slices.DeleteFunc(b.waiting, func(m *member) bool {
		refused := !late || !m.until.After(now)
		if refused {
			m.done <- outcome{err: problem.Unavailable.Because(err)}
		}
		return refused
	})
}

// take takes out those who leave now. One that is in a hurry by now is told to go alone.
func (b *batches) take() (members []*member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := 0
	for _, m := range b.waiting {
		if len(members) == maxBatch {
			break
		}
		taken++
		switch {
		case m.ctx.Err() != nil:
			m.done <- outcome{err: problem.Unavailable.Because(context.Cause(m.ctx))}
		case time.Until(m.until) < hurry:
			m.done <- outcome{alone: true, until: m.until}
		default:
			members = append(members, m)
		}
	}
	b.waiting = slices.Delete(b.waiting, 0, taken)
	return members
}

// leave sends those who wait, and tells each what came of it.
func (b *batches) leave(conn *pgxpool.Conn) {
	members := b.take()
	if len(members) == 0 {
		return
	}
	until := members[0].until
	for _, m := range members {
		if m.until.Before(until) {
			until = m.until
		}
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(members[0].ctx), until)
	defer cancel()
	if len(members) == 1 {
		body, err := created(conn.QueryRow(ctx, CreateTweetSQL, members[0].args...))
		members[0].done <- outcome{body: body, err: failure(err)}
		return
	}
	batch := new(pgx.Batch)
	for _, m := range members {
		batch.Queue(CreateTweetSQL, m.args...)
	}
	finish := b.trace(conn.Conn(), members)
	bodies, err := sendBatch(ctx, conn.Conn(), batch)
	finish(err)
	for i, m := range members {
		switch {
		case err == nil:
			m.done <- outcome{body: bodies[i]}
		case rolledBack(conn.Conn(), err):
			m.done <- outcome{alone: true, until: until}
		default: // they may have been written
			m.done <- outcome{err: problem.Unavailable.Because(err)}
		}
	}
}

// sendBatch returns the bodies once all is committed, which is when Close has read the end of the answer.
func sendBatch(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) (bodies [][]byte, err error) {
	results := conn.SendBatch(ctx, batch)
	for range batch.Len() {
		var body []byte
		if body, err = created(results.QueryRow()); err != nil {
			break
		}
		bodies = append(bodies, body)
	}
	if closing := results.Close(); err == nil {
		err = closing
	}
	return bodies, err
}

// created reads the row of CreateTweetSQL, which without a key is there and claimed.
func created(row pgx.Row) (body []byte, err error) {
	var claimed bool
	err = row.Scan(&body, &claimed)
	return body, err
}

// rolledBack reports whether err proves that nothing of a batch was written: PostgreSQL itself says ERROR, and is ready for
// the next. What it says when it ends a connection (FATAL) may come after the commit, and a pooler's words prove nothing.
func rolledBack(conn *pgx.Conn, err error) bool {
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && said.SeverityUnlocalized == "ERROR" && !conn.IsClosed()
}

// trace begins a span for each member that is within a trace, as if its statement ran by itself. The driver's own tracer of
// batches knows of one context only.
func (b *batches) trace(conn *pgx.Conn, members []*member) (finish func(error)) {
	if b.spans == nil {
		return func(error) {}
	}
	contexts := make([]context.Context, len(members))
	for i, m := range members {
		contexts[i] = b.spans.TraceQueryStart(m.ctx, conn, pgx.TraceQueryStartData{SQL: CreateTweetSQL, Args: m.args})
	}
	return func(err error) {
		tag := pgconn.NewCommandTag("SELECT 1")
		if err != nil {
			tag = pgconn.CommandTag{}
		}
		for _, ctx := range contexts {
			b.spans.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
		}
	}
}

// alone writes one tweet by itself.
func (b *batches) alone(ctx context.Context, until time.Time, args []any) ([]byte, error) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	body, err := created(b.pool.QueryRow(ctx, CreateTweetSQL, args...))
	return body, failure(err)
}

// close returns once nobody waits and no batch is under way. Tweets that come later go alone.
func (b *batches) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for b.senders > 0 {
		b.ended.Wait()
	}
}
