package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"

	"warble/shared/env"
	"warble/shared/function"
	"warble/shared/idempotency"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// subscriber is an HTTP server that takes events as answer decides. It remembers the events that were sent and those that it took.
type subscriber struct {
	*httptest.Server
	t      testing.TB
	answer func(event.Event) int

	mu    sync.Mutex
	sent  []event.Event
	taken []event.Event
}

// subscribe starts a subscriber. A nil answer takes everything.
func subscribe(t testing.TB, answer func(event.Event) int) *subscriber {
	s := &subscriber{t: t, answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, err := cehttp.NewEventFromHTTPRequest(r)
	if err != nil {
		s.t.Errorf("not an event: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	status := http.StatusAccepted
	if s.answer != nil {
		status = s.answer(*e)
	}
	s.mu.Lock()
	s.sent = append(s.sent, *e)
	if status/100 == 2 {
		s.taken = append(s.taken, *e)
	}
	s.mu.Unlock()
	w.WriteHeader(status)
	fmt.Fprint(w, "said the subscriber")
}

// ids returns the ids of the events that were taken, by user, each at its first arrival.
func (s *subscriber) ids() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make(map[string][]string)
	seen := make(map[string]bool)
	for _, e := range s.taken {
		if user := e.Extensions()["partitionkey"].(string); !seen[e.ID()] {
			seen[e.ID()] = true
			ids[user] = append(ids[user], e.ID())
		}
	}
	return ids
}

func (s *subscriber) sink(t testing.TB, tel *telemetry.Telemetry) Sink {
	t.Helper()
	e := env.New(func(name string) (string, bool) { return s.URL, name == "K_SINK" })
	sink := SinkFromEnv(e, tel)
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	return sink
}

// fixture is a database, its relays and a subscriber.
type fixture struct {
	t testing.TB
	pgtest.Database
	*subscriber
	telemetry *telemetry.Telemetry // of the relay made last
	owner     *store.Conn          // for isTrue
}

func newFixture(t testing.TB, answer func(event.Event) int) *fixture {
	t.Helper()
	f := &fixture{t: t, Database: pgtest.New(t), subscriber: subscribe(t, answer)}
	var err error
	if f.owner, err = store.Connect(t.Context(), f.Database.URL(pgtest.Owner), time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.owner.Close(context.Background()) }) // nothing can fail: no query is pending
	return f
}

// relay returns a relay that is not running.
func (f *fixture) relay() *Relay {
	f.t.Helper()
	f.telemetry = function.NewTest(f.t.Output()).Telemetry
	return New(f.Open(f.t, pgtest.Ops), f.sink(f.t, f.telemetry), f.telemetry, "test", 5*time.Second)
}

// run runs a relay until the test ends or stop is called.
func run(t testing.TB, r *Relay) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if err := pgtest.Exec(f.t.Context(), f.Database.URL(pgtest.Owner), sql, args...); err != nil {
		f.t.Fatal(err)
	}
}

// isTrue reports whether a condition is true in the database.
func (f *fixture) isTrue(condition string) (holds bool) {
	f.t.Helper()
	if err := f.owner.QueryRow(f.t.Context(), "select "+condition).Scan(&holds); err != nil {
		f.t.Fatalf("%s: %v", condition, err)
	}
	return holds
}

const (
	empty   = `not exists (select from outbox)`
	noDeads = `not exists (select from dead_letters)`
)

// writeEvents writes n events for each of the users 1 to users. It returns their ids in the order in which the subscriber must see
// them.
func (f *fixture) writeEvents(users, n int) map[string][]string {
	f.t.Helper()
	f.exec(`
		insert into outbox (id, user_id, type, data)
		select n * 1000000 + u, u::bigint << 22, 'dev.warble.test.v1', jsonb_build_object('id', n::text)
		from generate_series(1, $1::int) u, generate_series(1, $2::int) n`, users, n)
	ids := make(map[string][]string)
	for u := range int64(users) {
		user := strconv.FormatInt((u+1)<<22, 10)
		for n := range int64(n) {
			ids[user] = append(ids[user], strconv.FormatInt((n+1)*1000000+u+1, 10))
		}
	}
	return ids
}

func TestEveryEventArrivesOnceInTheOrderOfItsUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	want := f.writeEvents(200, 23) // more users and more events than one query returns
	stop := run(t, f.relay())
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	if diff := cmp.Diff(want, f.ids()); diff != "" {
		t.Error(diff)
	}
	if len(f.sent) != 200*23 {
		t.Errorf("%d sent, want %d", len(f.sent), 200*23)
	}
	stop()
	if !f.isTrue(`not exists (select from relays) and not exists (select from outbox_leases where relay is not null)`) {
		t.Error("a relay that stopped holds leases")
	}
}

// Writes come as from the real writers: several connections, different users in parallel, one user's writes in turn.
func TestOrderIsKeptWithConcurrentWritesAndManyRelays(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for range 3 {
		run(t, f.relay())
	}
	api := f.Open(t, pgtest.API)
	const users, tweets = 8, 40
	f.exec(`insert into users (id, username, name) select u::bigint << 22, 'u' || u, 'U' from generate_series(1, $1::int) u`, users)
	var writers sync.WaitGroup
	for u := range int64(users) {
		writers.Go(func() {
			for n := range tweets {
				_, err := api.CreateTweet(t.Context(), store.NewTweet{AuthorID: (u + 1) << 22, Text: strconv.Itoa(n)}, idempotency.Key{}, store.Body{Status: 201})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	arrived := 0
	for user, ids := range f.ids() {
		arrived += len(ids)
		if !slices.IsSortedFunc(ids, func(a, b string) int { return number(t, a) - number(t, b) }) {
			t.Errorf("user %s: %v", user, ids)
		}
	}
	if len(f.ids()) != users || !f.isTrue(fmt.Sprintf(`(select count(*) from tweets) = %d`, arrived)) {
		t.Errorf("%d events of %d users", arrived, len(f.ids()))
	}
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Error(err)
	}
	return n
}

// The user with the refused event waits. All other users continue, including those of the same partition.
func TestARefusedEventDelaysOnlyItsUser(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	f := newFixture(t, func(e event.Event) int {
		if !open.Load() && e.ID() == "2000016" { // of user 16, in partition 0

			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	want := f.writeEvents(64, 3)
	r := f.relay()
	retry := make(chan time.Time)
	r.after = func(time.Duration) <-chan time.Time { return retry }
	run(t, r)
	eventually(t, "down to the events of one", func() bool {
		return f.isTrue(`(select count(*) = 2 and min(id) = 2000016 and max(id) = 3000016 from outbox)`)
	})
	retry <- time.Now()
	eventually(t, "sent again", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.sent) == 64*3-2+2 })
	open.Store(true)
	retry <- time.Now()
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	if diff := cmp.Diff(want, f.ids()); diff != "" {
		t.Error(diff)
	}
}

// clock ends each wait immediately, but its time advances by the intended duration.
type clock struct {
	mu    sync.Mutex
	at    time.Time
	waits []time.Duration
}

func (c *clock) drive(r *Relay) {
	r.now = func() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
	r.after = func(wait time.Duration) <-chan time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at = c.at.Add(wait)
		c.waits = append(c.waits, wait)
		ended := make(chan time.Time)
		close(ended)
		return ended
	}
}

func TestADayOfRefusalsMakesADeadLetterThatCanBeReplayed(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	f := newFixture(t, func(e event.Event) int {
		if !open.Load() && e.ID() == "1000001" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	happened := time.Now()
	f.writeEvents(1, 2)
	c := &clock{at: happened.Add(lifetime - 10*time.Minute)} // the rest of the day would test nothing more
	r := f.relay()
	c.drive(r)
	run(t, r)
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	if !f.isTrue(`(select count(*) = 1 and min(id) = 1000001 and min(reason) like '%500 Internal Server Error%said the subscriber%' from dead_letters)`) {
		t.Error("the event is no dead letter")
	}
	if diff := cmp.Diff(map[string][]string{"4194304": {"2000001"}}, f.ids()); diff != "" {
		t.Error(diff)
	}
	c.mu.Lock()
	if day := c.at.Sub(happened); day < lifetime || day > lifetime+2*maxBackoff {
		t.Errorf("it was given up after %s", day)
	}
	for i, least := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if wait := c.waits[i]; wait < least*time.Second/2 || wait > least*time.Second {
			t.Errorf("wait %d was %s, want %s to %s", i, wait, least*time.Second/2, least*time.Second)
		}
	}
	c.mu.Unlock()
	if err := r.Measure(t.Context()); err != nil {
		t.Error(err)
	}
	metrics := f.metrics()
	for _, line := range []string{
		`relay_events_total{outcome="dead",type="dev.warble.test.v1"} 1`,
		`relay_events_total{outcome="delivered",type="dev.warble.test.v1"} 1`,
		`outbox_dead_letters 1`,
		`outbox_oldest_event_age_seconds 0`,
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("no %q in %s", line, metrics)
		}
	}

	open.Store(true)
	if n, err := store.ReplayDeadLetters(t.Context(), f.owner); n != 1 || err != nil {
		t.Errorf("%d replayed, %v", n, err)
	}
	eventually(t, "empty", func() bool { return f.isTrue(empty + ` and ` + noDeads) })
	if diff := cmp.Diff(map[string][]string{"4194304": {"2000001", "1000001"}}, f.ids()); diff != "" {
		t.Error(diff)
	}
}

func (f *fixture) metrics() string {
	answer := httptest.NewRecorder()
	f.telemetry.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

// After a day without a relay, an old event is not given up because of one bad answer.
func TestAnOldEventIsTriedMoreThanOnce(t *testing.T) {
	t.Parallel()
	var refusals sync.Map
	f := newFixture(t, func(e event.Event) int {
		if _, known := refusals.LoadOrStore(e.ID(), true); known {
			return http.StatusOK
		}
		return http.StatusBadGateway
	})
	want := f.writeEvents(3, 2)
	f.exec(`update outbox set created_at = now() - interval '3 days'`)
	r := f.relay()
	(&clock{at: time.Now()}).drive(r)
	run(t, r)
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	if diff := cmp.Diff(want, f.ids()); diff != "" || !f.isTrue(noDeads) {
		t.Error(diff)
	}
}

// A relay that was stopped, or whose database hangs, loses its leases. Another relay takes them over without its help.
func TestLeasesOfADeadRelayAreTakenOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	dead := f.Open(t, pgtest.Ops)
	const lease = 2 * time.Second
	began := time.Now()
	if mine, err := dead.LeasePartitions(t.Context(), "dead", lease); err != nil || len(mine) != 16 {
		t.Fatal(mine, err)
	}
	want := f.writeEvents(64, 2)
	run(t, f.relay())
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	if took := time.Since(began); took < lease {
		t.Errorf("the lease was broken after %s", took)
	}
	if diff := cmp.Diff(want, f.ids()); diff != "" {
		t.Error(diff)
	}
}

// A relay that loses its lease while it sends a user's events sends no more of them.
func TestARelayThatLostItsLeaseStops(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	r := f.relay()
	soon := time.Now().Add(time.Minute)
	r.leased[1].Store(&soon)
	sent := 0
	r.send = func(context.Context, event.Event) error {
		sent++
		past := time.Now()
		r.leased[1].Store(&past)
		return nil
	}
	row := store.Event{ID: 1, UserID: 1 << 22, Partition: 1, Type: "t", Data: []byte(`{}`)}
	r.deliver(t.Context(), []store.Event{row, row, row})
	if sent != 1 || len(r.reports) != 1 {
		t.Errorf("%d sent, %d reported", sent, len(r.reports))
	}
}
