package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/clocktest"
	"warble/shared/idempotency"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// nobody is an id that no user has.
const nobody = 1

// queue is a database with one connection. A tweet of the user blocked holds it. Tweets that are sent meanwhile wait, and are then
// sent in one batch.
type queue struct {
	t       *testing.T
	d       pgtest.Database
	db      *store.DB
	blocked int64
	release func()
	first   <-chan sent
}

type sent struct {
	answer idempotency.Answer
	err    error
}

func newQueue(t *testing.T, url func(pgtest.Database) string) *queue {
	t.Helper()
	d := pgtest.New(t)
	db, err := store.Open(url(d), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	db.Limit(time.Minute)
	q := &queue{t: t, d: d, db: db, blocked: user(t, d, "blocked", "")}
	q.release = q.lock(q.blocked)
	q.first = q.send(t.Context(), q.blocked, "first")
	q.eventually("the first waits for the lock", func() bool { return q.atLocks() == 1 })
	return q
}

// owner has no lock_timeout.
func owner(d pgtest.Database) string { return d.URL(pgtest.Owner) }

// lock makes every write of a user wait until release.
func (q *queue) lock(id int64) (release func()) {
	q.t.Helper()
	conn := connect(q.t, q.d, pgtest.Owner)
	if _, err := conn.Exec(q.t.Context(), "begin"); err != nil {
		q.t.Fatal(err)
	}
	if _, err := conn.Exec(q.t.Context(), `select from users where id = $1 for update`, id); err != nil {
		q.t.Fatal(err)
	}
	return func() {
		q.t.Helper()
		if _, err := conn.Exec(q.t.Context(), "rollback"); err != nil {
			q.t.Fatal(err)
		}
	}
}

func (q *queue) atLocks() int {
	return query[int](q.t, q.d, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
}

func (q *queue) tweets() int { return query[int](q.t, q.d, `select count(*) from tweets`) }

func (q *queue) transactions() int {
	return query[int](q.t, q.d, `select count(distinct xmin::text) from tweets`)
}

func (q *queue) eventually(what string, done func() bool) {
	q.t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			q.t.Fatalf("not so within a minute: %s", what)
		}
	}
}

func (q *queue) send(ctx context.Context, author int64, text string) <-chan sent {
	done := make(chan sent, 1)
	go func() {
		a, err := q.db.CreateTweet(ctx, store.NewTweet{AuthorID: author, Text: text}, idempotency.Key{}, posted)
		done <- sent{a, err}
	}()
	return done
}

// wait sends tweets, in this order, and returns when they wait in the queue.
func (q *queue) wait(ctx context.Context, authors ...int64) (all []<-chan sent) {
	q.t.Helper()
	before := q.db.Waiting()
	for i, author := range authors {
		all = append(all, q.send(ctx, author, fmt.Sprint("tweet ", i)))
		q.eventually("it waits", func() bool { return q.db.Waiting() == before+i+1 })
	}
	return all
}

func (q *queue) users(n int) (ids []int64) {
	for i := range n {
		ids = append(ids, user(q.t, q.d, fmt.Sprint("u", i), ""))
	}
	return ids
}

// written checks that all tweets were written, and returns their ids.
func written(t *testing.T, all ...<-chan sent) (ids []int64) {
	t.Helper()
	for _, one := range all {
		s := <-one
		if s.err != nil {
			t.Fatal(s.err)
		}
		if s.answer.Status != posted.Status || s.answer.Replayed {
			t.Errorf("%+v", s.answer)
		}
		ids = append(ids, idOf(t, s.answer))
	}
	return ids
}

// refused checks that all were answered with 503.
func refused(t *testing.T, all ...<-chan sent) {
	t.Helper()
	for i, one := range all {
		if s := <-one; !errors.Is(s.err, problem.Unavailable) || s.answer.Body != nil {
			t.Errorf("%d: %s %v", i, s.answer.Body, s.err)
		}
	}
}

// cache_describe is for poolers that do not support prepared statements. The others are the remaining modes of pgx.
func TestBatchIsOneTransactionInTheOrderOfArrival(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			q := newQueue(t, func(d pgtest.Database) string { return owner(d) + "&default_query_exec_mode=" + mode })
			u := q.users(2)
			all := q.wait(t.Context(), u[0], u[1], u[0], u[0], u[1])
			q.release()
			ids := written(t, append([]<-chan sent{q.first}, all...)...)
			if n := q.transactions(); n != 2 || !slices.IsSorted(ids) {
				t.Errorf("%d transactions, ids %d", n, ids)
			}
			events := query[[]string](t, q.d, `select array_agg(data->>'text' order by id) from outbox where user_id = $1`, u[0])
			if strings.Join(events, ",") != "tweet 0,tweet 2,tweet 3" {
				t.Errorf("events are %q", events)
			}
			if text := query[string](t, q.d, `select text from tweets where id = $1`, ids[4]); text != "tweet 3" {
				t.Errorf("the fourth was answered with the id of %q", text)
			}
		})
	}
}

func TestABatchHasAtMostSixtyFourMembers(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	all := q.wait(t.Context(), slices.Repeat(q.users(1), 65)...)
	q.release()
	written(t, append(all, q.first)...)
	if n := q.transactions(); n != 3 {
		t.Errorf("%d transactions, want the first, 64 and 1", n)
	}
}

// If PostgreSQL rolls back a batch, each member is sent again alone.
func TestARefusedMemberDoesNotFailTheOthersOfItsBatch(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			q := newQueue(t, func(d pgtest.Database) string { return owner(d) + "&default_query_exec_mode=" + mode })
			u := q.users(3)
			all := q.wait(t.Context(), u[0], nobody, u[1])
			empty := q.send(t.Context(), u[1], "")
			q.eventually("it waits", func() bool { return q.db.Waiting() == 4 })
			all = append(all, q.wait(t.Context(), u[2])...)
			q.release()
			written(t, q.first, all[0], all[2], all[3])
			if s := <-empty; s.err == nil || !strings.Contains(s.err.Error(), "tweets_check") {
				t.Errorf("a violation: %v", s.err)
			}
			if s := <-all[1]; !errors.Is(s.err, problem.Unauthenticated) {
				t.Errorf("nobody's: %v", s.err)
			}
			if tweets, n := q.tweets(), q.transactions(); tweets != 4 || n != 4 {
				t.Errorf("%d tweets in %d transactions", tweets, n)
			}
		})
	}
}

// A function's login has a lock_timeout. A member that fails by it does not keep the others from writing.
func TestAMemberThatWaitsForALockDoesNotFailTheOthersOfItsBatch(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	db, err := store.Open(q.d.URL(pgtest.API), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Limit(time.Minute)
	u := q.users(3)
	q.lock(u[1])
	q.db = db
	first := q.send(t.Context(), q.blocked, "first")
	all := q.wait(t.Context(), u...)
	q.release()
	if s := <-first; s.err != nil && !errors.Is(s.err, problem.Unavailable) { // its own wait may have been too long
		t.Error(s.err)
	}
	written(t, all[0], all[2])
	refused(t, all[1])
	written(t, q.first)
}

// batch sends a batch whose second member waits in PostgreSQL for a lock, until release.
func (q *queue) batch(ctx context.Context) (members []<-chan sent, release func()) {
	q.t.Helper()
	u := q.users(3)
	release = q.lock(u[1])
	members = q.wait(ctx, u...)
	q.release()
	written(q.t, q.first)
	q.eventually("the batch waits for the lock", func() bool { return q.db.Waiting() == 0 && q.atLocks() == 1 })
	return members, release
}

func TestBatchIsNotSentAgainAfterItsConnectionIsEnded(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	members, release := q.batch(t.Context())
	if n := query[int](t, q.d, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`); n != 1 {
		t.Fatalf("%d connections ended", n)
	}
	refused(t, members...)
	release()
	written(t, q.send(t.Context(), q.blocked, "later"))
	if n := q.tweets(); n != 2 {
		t.Errorf("%d tweets, want the first and the later", n)
	}
}

// If the answer to a commit is lost, the tweets exist, and only once.
func TestBatchIsNotSentAgainAfterItsAnswerIsLost(t *testing.T) {
	t.Parallel()
	var p *proxy
	q := newQueue(t, func(d pgtest.Database) string {
		p = newProxy(t, owner(d))
		return p.url
	})
	members, release := q.batch(t.Context())
	p.cut()
	release()
	refused(t, members...)
	q.eventually("the batch is written", func() bool { return q.tweets() == 4 })
	written(t, q.send(t.Context(), q.blocked, "later"))
	if n := q.tweets(); n != 5 {
		t.Errorf("%d tweets, want the first, three and the later", n)
	}
}

func TestBatchEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	u := q.users(4)
	release := q.lock(u[1])
	late := q.wait(t.Context(), u[:3]...)
	soon, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	late = append(late, q.wait(soon, u[3])...)
	q.release()
	written(t, q.first)
	took := clocktest.Took(func() { refused(t, late...) })
	if took > 30*time.Second {
		t.Errorf("the batch took %s: expected the deadline of the member that has least time", took)
	}
	q.eventually("PostgreSQL has given up, too", func() bool { return q.atLocks() == 0 })
	release()
	written(t, q.send(t.Context(), q.blocked, "later"))
	if n := q.tweets(); n != 2 {
		t.Errorf("%d tweets, want the first and the later", n)
	}
}

func TestABatchLeavesOutRequestsThatWereCancelled(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	u := q.users(2)
	all := q.wait(t.Context(), u...)
	gone, hangUp := context.WithCancel(t.Context())
	hungUp := q.wait(gone, u[0])
	hangUp()
	refused(t, hungUp...) // immediately, because nothing was sent
	q.release()
	written(t, append(all, q.first)...)
	if n := q.tweets(); n != 3 {
		t.Errorf("%d tweets", n)
	}
}

func TestABatchThatWasSentIsWrittenEvenIfItsRequestsAreCancelled(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	ctx, hangUp := context.WithCancel(t.Context())
	members, release := q.batch(ctx)
	hangUp()
	release()
	written(t, members...)
	if n := q.transactions(); n != 2 {
		t.Errorf("%d transactions", n)
	}
}

func TestARequestWithLittleTimeIsSentAlone(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	soon, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	refused(t, q.send(soon, q.blocked, "soon")) // it waited for the connection by itself
	if n := q.db.Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
	q.release()
	written(t, q.first)
}

func TestCloseWaitsUntilWaitingTweetsAreWritten(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	all := q.wait(t.Context(), q.users(3)...)
	closed := make(chan struct{})
	go func() {
		q.db.Close()
		close(closed)
	}()
	q.release()
	written(t, append(all, q.first)...)
	<-closed
	refused(t, q.send(t.Context(), q.blocked, "later"))
}

// Load with everything at the same time: members that are refused, that hang up, and that have little time.
func TestBatchesUnderLoad(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	spans := new(recorder)
	db.TraceBatches(spans)
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		ids    = map[int64]bool{}
		failed int
	)
	authors := make([]int64, 16)
	for i := range authors {
		authors[i] = user(t, d, fmt.Sprint("u", i), "")
	}
	for i := range 32 {
		all.Go(func() {
			last := int64(0)
			for n := range 30 {
				author := authors[i%len(authors)]
				if (i+n)%40 == 0 {
					author = nobody
				}
				a, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: author, Text: "x"}, idempotency.Key{}, posted)
				if author == nobody {
					if !errors.Is(err, problem.Unauthenticated) {
						t.Errorf("nobody's: %v", err)
					}
					continue
				}
				mu.Lock()
				if err != nil {
					failed++
					t.Error(err)
				} else if id := idOf(t, a); id <= last || ids[id] {
					t.Errorf("%d after %d", id, last)
				} else {
					ids[id], last = true, id
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if n := query[int](t, d, `select count(*) from tweets`); n != len(ids) {
		t.Errorf("%d tweets, and %d were answered", n, len(ids))
	}
	if n := query[int](t, d, `select count(distinct xmin::text) from tweets`); n >= len(ids) {
		t.Errorf("%d transactions for %d tweets: expected some to share one", n, len(ids))
	}
	if started, ended := spans.count(); started == 0 || started != ended {
		t.Errorf("%d spans began and %d ended", started, ended)
	}
}

// Each member has a span in its own trace.
func TestEachMemberOfABatchHasItsOwnSpan(t *testing.T) {
	t.Parallel()
	q := newQueue(t, owner)
	spans := new(recorder)
	q.db.TraceBatches(spans)
	u := q.users(3)
	var all []<-chan sent
	for i, id := range u {
		all = append(all, q.wait(context.WithValue(t.Context(), request{}, i), id)...)
	}
	q.release()
	written(t, append(all, q.first)...)
	if want := []string{"0 began", "1 began", "2 began", "0 ended: <nil>", "1 ended: <nil>", "2 ended: <nil>"}; !slices.Equal(spans.events, want) {
		t.Errorf("%q", spans.events)
	}
}

type request struct{}

// recorder is a tracer that records its calls.
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprint(ctx.Value(request{}), " began"))
	return ctx
}

func (r *recorder) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprint(ctx.Value(request{}), " ended: ", data.Err))
}

func (r *recorder) count() (started, ended int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if strings.HasSuffix(e, "began") {
			started++
		} else {
			ended++
		}
	}
	return started, ended
}

// proxy stands between a pool and its server.
type proxy struct {
	url  string
	mu   sync.Mutex
	deaf []*end
}

// end is a connection whose answers can be held back.
type end struct {
	client, server net.Conn
	mu             sync.Mutex
	lost           bool
}

func newProxy(t *testing.T, url string) *proxy {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "warble-proxy-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	socket := fmt.Sprintf(".s.PGSQL.%d", config.Port)
	listener, err := net.Listen("unix", filepath.Join(folder, socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	p := &proxy{url: fmt.Sprintf("host=%s port=%d user=%s database=%s sslmode=disable", folder, config.Port, config.User, config.Database)}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", filepath.Join(config.Host, socket))
			if err != nil {
				_ = client.Close()
				return
			}
			e := &end{client: client, server: server}
			p.mu.Lock()
			p.deaf = append(p.deaf, e)
			p.mu.Unlock()
			go e.forward()
			go e.answer()
		}
	}()
	return p
}

// cut makes each connection end when the server sends the next answer, so that the client never gets the answer.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.deaf {
		e.mu.Lock()
		e.lost = true
		e.mu.Unlock()
	}
	p.deaf = nil
}

func (e *end) forward() {
	_, _ = io.Copy(e.server, e.client)
	_ = e.server.Close()
}

func (e *end) answer() {
	defer e.client.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := e.server.Read(buffer)
		e.mu.Lock()
		lost := e.lost
		e.mu.Unlock()
		if err != nil || lost {
			return
		}
		if _, err := e.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
