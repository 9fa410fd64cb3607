package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// ids takes count ids in each of several sessions, 100 with each statement, and returns them. It checks that the ids of a session
// rise, and that none repeats.
func ids(t *testing.T, d pgtest.Database, sessions, count int) []int64 {
	t.Helper()
	var (
		mu    sync.Mutex
		taken []int64
		all   sync.WaitGroup
	)
	for range sessions {
		conn := connect(t, d, pgtest.API)
		all.Go(func() {
			last := int64(0)
			for range count / 100 {
				rows, _ := conn.Query(t.Context(), `select next_id() from generate_series(1, 100)`)
				some, err := pgx.CollectRows(rows, pgx.RowTo[int64])
				if err != nil {
					t.Error(err)
					return
				}
				for _, id := range some {
					if id <= last {
						t.Errorf("%d after %d", id, last)
					}
					last = id
				}
				mu.Lock()
				taken = append(taken, some...)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(taken)
	if distinct := len(slices.Compact(slices.Clone(taken))); distinct != len(taken) {
		t.Errorf("%d ids came again", len(taken)-distinct)
	}
	return taken
}

func TestIDsRiseAndNeverRepeat(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	began := time.Now()
	taken := ids(t, d, 8, 2000)
	if low, high := store.FirstID(began.Add(-time.Second)), store.FirstID(time.Now().Add(time.Minute)); taken[0] < low || taken[len(taken)-1] > high {
		t.Errorf("[%d, %d] is not of this time: [%d, %d]", taken[0], taken[len(taken)-1], low, high)
	}
}

// If the clock steps back, the sequence is ahead of the clock. Here the sequence starts at the end of a millisecond, and the clock
// catches up while ids are taken. Ids could repeat where the sequence jumps, and where the clock catches up.
func TestIDsRiseAndNeverRepeatWhenTheClockStepsBack(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	before := ids(t, d, 1, 100)
	for _, lead := range []int64{20, 3_600_000} {
		ahead := query[int64](t, d, `select setval('id_clock', ((last_value >> 12) + $1 << 12) + 2045) from id_clock`, lead)
		after := ids(t, d, 8, 2000)
		if first := ahead>>12<<22 | ahead&4095; after[0] <= first || after[0] <= before[len(before)-1] {
			t.Errorf("%d after %d", after[0], first)
		}
		before = after
	}
}

// The session that makes the sequence jump may stall. The others continue with the following numbers, as long as those belong to
// this second.
func TestAJumpThatStallsDoesNotDelayOtherSessions(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	stalled, conn := connect(t, d, pgtest.Owner), connect(t, d, pgtest.Owner)
	run := func(c *store.Conn, sql string) error {
		t.Helper()
		_, err := c.Exec(t.Context(), sql)
		return err
	}
	if err := errors.Join(run(stalled, `select pg_advisory_lock(7236478291)`), run(conn, `set lock_timeout = '100ms'`)); err != nil {
		t.Fatal(err)
	}
	const aged = `select setval('id_clock', ((extract(epoch from clock_timestamp()) * 1000)::bigint - 1767225600000 - %d) << 12)`
	// If the machine stalls during the test, for the rest of the second, the test is tried again.
	for deadline := time.Now().Add(time.Minute); ; {
		err := run(conn, fmt.Sprintf(aged+`; select next_id() from generate_series(1, 100)`, 500))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if err := run(conn, fmt.Sprintf(aged+`; select next_id()`, 3_600_000)); err == nil {
		t.Error("an id of an hour ago was given out")
	}
	if err := run(stalled, `select pg_advisory_unlock(7236478291)`); err != nil {
		t.Fatal(err)
	}
	if id := query[int64](t, d, `select next_id()`); id < store.FirstID(time.Now().Add(-time.Minute)) {
		t.Errorf("%d is not of this time", id)
	}
}

// A jump that fails half-way, for example by a timeout, must release its lock.
func TestAJumpThatFailsReleasesItsLock(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	before := ids(t, d, 1, 100)
	conn := connect(t, d, pgtest.API)
	exec(t, d, `alter sequence id_clock maxvalue `+query[string](t, d, `select (last_value + 1000)::text from id_clock`))
	if _, err := conn.Exec(t.Context(), `select next_id()`); err == nil {
		t.Fatal("the sequence has room left")
	}
	if locks := query[int](t, d, `select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`); locks != 0 {
		t.Errorf("%d locks are left", locks)
	}
	exec(t, d, `alter sequence id_clock no maxvalue`)
	if after := ids(t, d, 4, 100); after[0] <= before[len(before)-1] {
		t.Errorf("%d after %d", after[0], before[len(before)-1])
	}
}

func TestIDsCarryTheirNode(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	if id := query[int64](t, d, `select next_id()`); id>>12&1023 != 0 {
		t.Errorf("node %d", id>>12&1023)
	}
	name := query[string](t, d, `select current_database()`)
	exec(t, d, `alter database `+name+` set warble.node = 5`)
	if id := query[int64](t, d, `select next_id()`); id>>12&1023 != 5 {
		t.Errorf("node %d", id>>12&1023)
	}
}

// A list's start_time and end_time become ids, and must agree with the created_at of the rows.
func TestARangeOfTimeIsARangeOfIDs(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	db := d.Open(t, pgtest.API)
	ada := user(t, d, "ada", "")
	if created := query[time.Time](t, d, `select created_at from users`); store.FirstID(created) > ada || store.FirstID(created.Add(time.Millisecond)) <= ada {
		t.Errorf("user %d of %s", ada, created)
	}
	id := post(t, db, ada, "hello")
	tweets, err := db.Tweets(t.Context(), []int64{id})
	if err != nil || len(tweets) != 1 {
		t.Fatalf("%+v %v", tweets, err)
	}
	if created := tweets[0].CreatedAt; store.FirstID(created) > id || store.FirstID(created.Add(time.Millisecond)) <= id {
		t.Errorf("tweet %d of %s", id, created)
	}
}
