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

// subscriber is an HTTP server that takes events as answer says, and remembers all that it was sent and took.
type subscriber struct {
	*httptest.Server
	t      testing.TB
	answer func(event.Event) int

	mu    sync.Mutex
	sent  []event.Event
	taken []event.Event
}

// subscribe starts one. A nil answer takes everything.
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

// ids of the events that were taken, first arrivals only, by user.
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

// world is a database, its relays and a subscriber.
type world struct {
	t testing.TB
	pgtest.Database
	*subscriber
	telemetry *telemetry.Telemetry // of the relay made last
	owner     *store.Conn          // asks what holds
}

func newWorld(t testing.TB, answer func(event.Event) int) *world {
	t.Helper()
	w := &world{t: t, Database: pgtest.New(t), subscriber: subscribe(t, answer)}
	var err error
	if w.owner, err = store.Connect(t.Context(), w.Database.URL(pgtest.Owner), time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.owner.Close(context.Background()) }) // nothing is pending on it
	return w
}

// relay makes one that is not running.
func (w *world) relay() *Relay {
	w.t.Helper()
	w.telemetry = function.NewTest(w.t.Output()).Telemetry
	return New(w.Open(w.t, pgtest.Ops), w.sink(w.t, w.telemetry), w.telemetry, "test", 5*time.Second)
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

// until polls.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if err := pgtest.Exec(w.t.Context(), w.Database.URL(pgtest.Owner), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// holds reports whether a condition is true in the database.
func (w *world) holds(condition string) (holds bool) {
	w.t.Helper()
	if err := w.owner.QueryRow(w.t.Context(), "select "+condition).Scan(&holds); err != nil {
		w.t.Fatalf("%s: %v", condition, err)
	}
	return holds
}

const (
	empty   = `not exists (select from outbox)`
	noDeads = `not exists (select from dead_letters)`
)

// happened writes n events of each of the users 1 to users, and returns their ids as the subscriber is to see them.
func (w *world) happened(users, n int) map[string][]string {
	w.t.Helper()
	w.exec(`
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
	w := newWorld(t, nil)
	want := w.happened(200, 23) // more users and more events than a look brings
	stop := run(t, w.relay())
	until(t, "empty", func() bool { return w.holds(empty) })
	if diff := cmp.Diff(want, w.ids()); diff != "" {
		t.Error(diff)
	}
	if len(w.sent) != 200*23 {
		t.Errorf("%d sent, want %d", len(w.sent), 200*23)
	}
	stop()
	if !w.holds(`not exists (select from relays) and not exists (select from outbox_leases where relay is not null)`) {
		t.Error("a relay that stopped holds leases")
	}
}

// As the writers do it: several connections, users in parallel, one user's writes one after the other.
func TestOrderUnderConcurrentWritesAndManyRelays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for range 3 {
		run(t, w.relay())
	}
	api := w.Open(t, pgtest.API)
	const users, tweets = 8, 40
	w.exec(`insert into users (id, username, name) select u::bigint << 22, 'u' || u, 'U' from generate_series(1, $1::int) u`, users)
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
	until(t, "empty", func() bool { return w.holds(empty) })
	arrived := 0
	for user, ids := range w.ids() {
		arrived += len(ids)
		if !slices.IsSortedFunc(ids, func(a, b string) int { return number(t, a) - number(t, b) }) {
			t.Errorf("user %s: %v", user, ids)
		}
	}
	if len(w.ids()) != users || !w.holds(fmt.Sprintf(`(select count(*) from tweets) = %d`, arrived)) {
		t.Errorf("%d events of %d users", arrived, len(w.ids()))
	}
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Error(err)
	}
	return n
}

// The one whose event is refused waits; all others, of the same partition too, go on.
func TestARefusedEventHoldsUpItsUserAlone(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	w := newWorld(t, func(e event.Event) int {
		if !open.Load() && e.ID() == "2000016" { // of user 16, in partition 0

			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	want := w.happened(64, 3)
	r := w.relay()
	retry := make(chan time.Time)
	r.after = func(time.Duration) <-chan time.Time { return retry }
	run(t, r)
	until(t, "down to the events of one", func() bool {
		return w.holds(`(select count(*) = 2 and min(id) = 2000016 and max(id) = 3000016 from outbox)`)
	})
	retry <- time.Now()
	until(t, "sent again", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.sent) == 64*3-2+2 })
	open.Store(true)
	retry <- time.Now()
	until(t, "empty", func() bool { return w.holds(empty) })
	if diff := cmp.Diff(want, w.ids()); diff != "" {
		t.Error(diff)
	}
}

// clock is one whose waits end at once, and are as long as they were meant to be to whoever asks for the time.
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
	w := newWorld(t, func(e event.Event) int {
		if !open.Load() && e.ID() == "1000001" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	happened := time.Now()
	w.happened(1, 2)
	c := &clock{at: happened.Add(lifetime - 10*time.Minute)} // the rest of the day would be more of the same
	r := w.relay()
	c.drive(r)
	run(t, r)
	until(t, "empty", func() bool { return w.holds(empty) })
	if !w.holds(`(select count(*) = 1 and min(id) = 1000001 and min(reason) like '%500 Internal Server Error%said the subscriber%' from dead_letters)`) {
		t.Error("the event is no dead letter")
	}
	if diff := cmp.Diff(map[string][]string{"4194304": {"2000001"}}, w.ids()); diff != "" {
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
	metrics := w.metrics()
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
	if n, err := store.ReplayDeadLetters(t.Context(), w.owner); n != 1 || err != nil {
		t.Errorf("%d replayed, %v", n, err)
	}
	until(t, "empty", func() bool { return w.holds(empty + ` and ` + noDeads) })
	if diff := cmp.Diff(map[string][]string{"4194304": {"2000001", "1000001"}}, w.ids()); diff != "" {
		t.Error(diff)
	}
}

func (w *world) metrics() string {
	answer := httptest.NewRecorder()
	w.telemetry.Metrics().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}

// An event of yesterday, for no relay ran, is not given up for one bad answer.
func TestAnOldEventHasItsAttempts(t *testing.T) {
	t.Parallel()
	var refusals sync.Map
	w := newWorld(t, func(e event.Event) int {
		if _, known := refusals.LoadOrStore(e.ID(), true); known {
			return http.StatusOK
		}
		return http.StatusBadGateway
	})
	want := w.happened(3, 2)
	w.exec(`update outbox set created_at = now() - interval '3 days'`)
	r := w.relay()
	(&clock{at: time.Now()}).drive(r)
	run(t, r)
	until(t, "empty", func() bool { return w.holds(empty) })
	if diff := cmp.Diff(want, w.ids()); diff != "" || !w.holds(noDeads) {
		t.Error(diff)
	}
}

// A relay whose database hangs or which was stopped loses its leases; another takes over without a word from it.
func TestLeasesOfADeadRelayAreTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	dead := w.Open(t, pgtest.Ops)
	const lease = 2 * time.Second
	began := time.Now()
	if mine, err := dead.LeasePartitions(t.Context(), "dead", lease); err != nil || len(mine) != 16 {
		t.Fatal(mine, err)
	}
	want := w.happened(64, 2)
	run(t, w.relay())
	until(t, "empty", func() bool { return w.holds(empty) })
	if took := time.Since(began); took < lease {
		t.Errorf("the lease was broken after %s", took)
	}
	if diff := cmp.Diff(want, w.ids()); diff != "" {
		t.Error(diff)
	}
}

// A relay that lost its lease in the middle of a user's events sends nothing more of them.
func TestARelayThatLostItsLeaseStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	r := w.relay()
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
