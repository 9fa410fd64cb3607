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
	// maxBatch is how many tweets are sent together, at most. In a larger batch, the first tweet would wait longer than the
	// others save.
	maxBatch = 64
	// hurry is how much time a request must have left to be sent with others, because the earliest deadline applies to all.
	hurry = 500 * time.Millisecond
)

// batches sends tweets without an Idempotency-Key. While a connection is free, each tweet is sent immediately and alone. Tweets
// that have to wait for a connection are sent together: one statement for each, all in one round trip and one commit.
type batches struct {
	pool  *pgxpool.Pool
	spans pgx.QueryTracer // the pool's tracer; nil if it has none
	most  int             // how many senders there may be: as many as connections

	mu      sync.Mutex
	senders int
	waiting []*member // in order of arrival
	closed  bool
	ended   sync.Cond // signalled when a sender has ended
}

// member is a tweet that waits to be sent.
type member struct {
	ctx   context.Context
	until time.Time // of the request
	args  []any
	done  chan outcome // buffered for its one outcome
}

// outcome is the result of a member. If alone is set, the tweet was not written, and its request must send it alone by until.
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
		return b.sendAlone(ctx, until, args)
	case sends:
		defer b.next()
		return b.sendAlone(ctx, until, args)
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
		o = <-m.done // it was sent: the result comes by the batch's deadline
	}
	if o.alone {
		return b.sendAlone(ctx, o.until, args)
	}
	return o.body, o.err
}

// role is what a request has to do with its tweet.
type role int

const (
	goesAlone role = iota // send it alone, without being a sender
	sends                 // send it alone as a sender, whose place the waiting tweets get afterwards
	waits                 // wait until a sender sends it
)

// join decides the role of a new tweet, and adds it to those that wait if it has to.
func (b *batches) join(m *member) role {
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

// drop removes a member that waits. It returns false if the member was sent already.
func (b *batches) drop(m *member) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, m)
	if i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
	return i >= 0
}

// next gives a sender's place to the tweets that wait, or ends the sender if there are none.
func (b *batches) next() {
	if first := b.first(); first != nil {
		go b.send(first)
	}
}

// first returns the member that has waited longest. If there is none, it returns nil and counts the sender as ended.
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

// send sends batches until no tweet waits.
func (b *batches) send(first *member) {
	for ; first != nil; first = b.first() {
		ctx, cancel := context.WithDeadline(context.WithoutCancel(first.ctx), first.until)
		conn, err := b.pool.Acquire(ctx)
		if err == nil {
			b.sendWaiting(conn)
			conn.Release()
		} else {
			b.refuse(err, ctx.Err() != nil)
		}
		cancel()
	}
}

// refuse gives the members that wait the error that there is no connection. If the error is only that the time was up, the members
// with more time keep waiting.
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

// take removes and returns the members of the next batch. A member that has too little time by now is sent back to go alone.
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

// sendWaiting sends the members that wait, and gives each its outcome.
func (b *batches) sendWaiting(conn *pgxpool.Conn) {
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

// sendBatch sends a batch and returns the bodies. Everything is committed only when Close has read the end of the answer.
func sendBatch(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) (bodies [][]byte, err error) {
	results := conn.SendBatch(ctx, batch)
	for range batch.Len() {
		var body []byte
		if body, err = created(results.QueryRow()); err != nil {
			break
		}
		bodies = append(bodies, body)
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return bodies, err
}

// created reads the row of CreateTweetSQL. Without a key there always is one, with claimed set.
func created(row pgx.Row) (body []byte, err error) {
	var claimed bool
	err = row.Scan(&body, &claimed)
	return body, err
}

// rolledBack reports whether err proves that nothing of a batch was written: PostgreSQL itself has sent an ERROR, and the
// connection is still usable. An error that ends the connection (FATAL) may come after the commit, and an error of a pooler proves
// nothing.
func rolledBack(conn *pgx.Conn, err error) bool {
	pgError, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgError.SeverityUnlocalized == "ERROR" && !conn.IsClosed()
}

// trace begins a span for each member whose request is traced, as if its statement ran alone. The driver's own tracing of batches supports
// only one context.
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

// sendAlone writes one tweet by itself.
func (b *batches) sendAlone(ctx context.Context, until time.Time, args []any) ([]byte, error) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	body, err := created(b.pool.QueryRow(ctx, CreateTweetSQL, args...))
	return body, failure(err)
}

// close returns when no tweet waits and no batch is under way. Later tweets are sent alone.
func (b *batches) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for b.senders > 0 {
		b.ended.Wait()
	}
}
