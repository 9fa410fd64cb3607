//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"warble/shared/clocktest"
)

// The tests of this file stop what other tests need, so they are not parallel: they run before the parallel tests begin.

// If a client repeats each tweet with its key until it is acknowledged, each tweet exists once, even if the function
// is killed again and again.
func TestSIGKILLLosesNoAcknowledgedTweet(t *testing.T) {
	run := processes(t)
	const writers, each, kills = 8, 100, 3
	var (
		all          sync.WaitGroup
		acknowledged [writers][]string
		count, again atomic.Int64
		users        [writers]*user
		over         atomic.Bool // set when the kills are over
	)
	for i := range users {
		users[i] = register(t, "")
	}
	for i, ada := range users {
		all.Go(func() {
			deadline := time.Now().Add(5 * time.Minute)
			for n := 0; n < each || !over.Load(); n++ {
				id := persist(ada, fmt.Sprint("tweet ", n), deadline, &again)
				if id == "" {
					return
				}
				acknowledged[i] = append(acknowledged[i], id)
				count.Add(1)
			}
		})
	}
	defer over.Store(true) // even if the test fails
	for n := range int64(kills) {
		victim := only(t, run, "tweet")
		eventually(t, "load", 3*time.Minute, func() bool { return count.Load() >= (n+1)*writers*each/(kills+1) })
		if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		eventually(t, "another process", time.Minute, func() bool {
			pids := run.PIDs("tweet")
			return len(pids) == 1 && pids[0] != victim
		})
	}
	over.Store(true)
	all.Wait()
	t.Logf("%d tweets acknowledged, %d sends repeated", count.Load(), again.Load())
	if again.Load() == 0 {
		t.Error("no request noticed a kill: it proved nothing")
	}
	for i, ada := range users {
		slices.Reverse(acknowledged[i])
		if there := ada.all(ada.path("/tweets")); !slices.Equal(there, acknowledged[i]) {
			t.Errorf("%s has %d tweets, %d were acknowledged:\n%v\n%v", ada.name, len(there), len(acknowledged[i]), there, acknowledged[i])
		}
	}
}

// persist posts a tweet with one key until it is acknowledged, and returns its id. Every other answer must be a
// 503, a 409 while the attempt before still runs, or the connection's end.
func persist(u *user, text string, deadline time.Time, again *atomic.Int64) (id string) {
	u.t.Helper()
	for ; time.Now().Before(deadline); again.Add(1) {
		a, err := u.try("POST", "/2/tweets", object("text", text), "Idempotency-Key", strings.ReplaceAll(text, " ", "-"))
		switch {
		case err == nil && a.status == http.StatusCreated:
			_, rest, _ := strings.Cut(a.body, `"id":"`)
			id, _, _ = strings.Cut(rest, `"`)
			return id
		case err == nil && (a.status != http.StatusServiceUnavailable && a.status != http.StatusConflict || a.header.Get("Retry-After") == ""):
			u.t.Errorf("%d %s, want 201, 409 or 503", a.status, a.body)
			return ""
		}
	}
	u.t.Error("not acknowledged in time")
	return ""
}

// A rolling replacement like Knative's: the new process is ready and has the traffic before the old one gets SIGTERM.
func TestReplacingEveryFunctionFailsNoRequest(t *testing.T) {
	run := processes(t)
	const most = 5000 // requests of each worker
	ada := register(t, "")
	id := ada.post("ada's")
	before := run.PIDs("tweet")
	done := make(chan struct{})
	var (
		load sync.WaitGroup
		sent atomic.Int64
	)
	for _, work := range []func() answer{
		func() answer { return ada.do("POST", "/2/tweets", object("text", "on and on")) },
		func() answer { return ada.do("GET", "/2/tweets/"+id, "") },
		func() answer { return ada.do("GET", ada.path("/tweets"), "") },
		func() answer { return ada.do("POST", ada.path("/retweets"), object("tweet_id", id)) },
		func() answer { return ada.do("GET", "/auth/validate", "") },
		func() answer { return ada.do("POST", "/auth/login", object("email", ada.email, "password", password)) },
		func() answer { return ada.do("GET", "/2/users/me", "") },
	} {
		load.Go(func() {
			for range most {
				select {
				case <-done:
					return
				default:
				}
				if a := work(); a.status != http.StatusOK && a.status != http.StatusCreated {
					t.Errorf("%d %s", a.status, a.body)
				}
				sent.Add(1)
				time.Sleep(2 * time.Millisecond) // a moderate load, because the build of the new binaries needs CPU time too
			}
		})
	}
	err := run.Replace(t.Context())
	close(done)
	load.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if after := run.PIDs("tweet"); len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("the processes were %v and are %v", before, after)
	}
	t.Logf("%d requests", sent.Load())
}

const (
	// databaseLimit is the longest time of an answer while PostgreSQL is down.
	databaseLimit = 2 * time.Second
	// recoveryLimit is the longest time until the API works again: 2 s, and 2 s for the server, which makes dozens of
	// new connections.
	recoveryLimit = 4 * time.Second
)

func TestPostgreSQLStopsAndComesBack(t *testing.T) {
	processes(t)
	withoutDatabase(t,
		func() error { return warble.database.Stop() },
		func() error { return warble.startDatabase(t.Context()) })
}

// A server that accepts connections and never answers is worse than one that is down.
func TestPostgreSQLHangsAndComesBack(t *testing.T) {
	processes(t)
	text, err := os.ReadFile(warble.folder + "/data/postmaster.pid")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var postmaster int
	if _, err := fmt.Sscan(first, &postmaster); err != nil {
		t.Fatal(err)
	}
	signal := func(s syscall.Signal) func() error {
		return func() error {
			for _, pid := range append([]int{postmaster}, descendants(postmaster)...) {
				if err := syscall.Kill(pid, s); err != nil && err != syscall.ESRCH { //nolint:errorlint // a bare number
					return err
				}
			}
			return nil
		}
	}
	withoutDatabase(t, signal(syscall.SIGSTOP), signal(syscall.SIGCONT))
}

// withoutDatabase stops PostgreSQL, checks every endpoint, starts PostgreSQL and checks again.
func withoutDatabase(t *testing.T, stop, start func() error) {
	t.Helper()
	ada := register(t, "")
	id := ada.post("ada's")
	every := func(check func(e endpoint, a answer)) {
		t.Helper()
		var all sync.WaitGroup
		for _, e := range endpoints {
			path, body := e.about(ada, id)
			all.Go(func() {
				a, err := ada.try(e.method, path, body)
				if err != nil {
					t.Errorf("%s: %v", e.name(), err)
				}
				check(e, a)
			})
		}
		all.Wait()
	}
	probes := func(path string, want int) {
		t.Helper()
		var all sync.WaitGroup
		for _, function := range []string{"register", "login", "users", "tweet", "retweet", "timeline"} {
			address := addressOf(t, only(t, warble.run, function))
			all.Go(func() { // on a busy machine a probe may time out
				eventually(t, fmt.Sprintf("%d of %s%s", want, function, path), time.Minute, func() bool { return statusOf(address+path) == want })
			})
		}
		all.Wait()
	}
	every(func(endpoint, answer) {}) // makes every function open its connections
	everyTook := func(check func(e endpoint, a answer)) time.Duration { return clocktest.Took(func() { every(check) }) }
	probes("/readyz", http.StatusOK)
	back := sync.OnceValue(start)
	defer back() //nolint:errcheck // checked below
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	// The fastest of several attempts counts, because an API that is too slow is too slow every time. The machine's own
	// lateness is subtracted.
	fastest := time.Hour
	var mu sync.Mutex
	for round := 0; round < 10 && (round < 2 || fastest > databaseLimit); round++ {
		took := everyTook(func(e endpoint, a answer) {
			switch {
			case e.noDatabase && a.status >= 500:
				t.Errorf("%s needs no database: %d %s", e.name(), a.status, a.body)
			case !e.noDatabase && (a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || problemOf(a) != ""):
				t.Errorf("%s: %d %s %s", e.name(), a.status, a.body, problemOf(a))
			}
			if a.took > databaseLimit {
				t.Logf("%s took %s to say that it cannot answer", e.name(), a.took)
			}
		})
		fastest = min(fastest, took)
	}
	if fastest > databaseLimit {
		t.Errorf("the slowest endpoint took %s to say that it cannot answer, want %s at most", fastest, databaseLimit)
	}
	probes("/readyz", http.StatusServiceUnavailable)
	probes("/healthz", http.StatusOK)

	if err := back(); err != nil {
		t.Fatal(err)
	}
	var recovering time.Duration
	for well := false; !well; {
		well = true
		recovering += everyTook(func(e endpoint, a answer) {
			mu.Lock()
			defer mu.Unlock()
			if a.status >= 500 {
				well = false
				if recovering > recoveryLimit {
					t.Errorf("%s, %s after PostgreSQL's return: %d %s", e.name(), recovering, a.status, a.body)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("away, the slowest endpoint answered in %s; %s after the return all were well", fastest, recovering)
	every(func(e endpoint, a answer) {
		if a.status >= 500 && !outOfTime(a) {
			t.Errorf("%s was well and is not: %d %s", e.name(), a.status, a.body)
		}
	})
	probes("/readyz", http.StatusOK)
}

// Requests do not wait for a function that cannot start, and other functions are not affected.
func TestAFunctionThatKeepsDyingIsUnavailableAtOnce(t *testing.T) {
	run := processes(t)
	const atOnce = 5 * time.Second // a request that waits takes 15 s
	ada := register(t, "")
	pid := only(t, run, "retweet")
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program, program+".good"); err != nil {
		t.Fatal(err)
	}
	var restored bool
	restore := func() {
		if !restored {
			restored = true
			if err := os.Rename(program+".good", program); err != nil {
				t.Error(err)
			}
		}
	}
	defer restore()
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil { //nolint:gosec // it is to be executed
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	repeated := func() answer { return ada.do("GET", "/2/tweets/1/retweeted_by", "") }
	eventually(t, "503", time.Minute, func() bool { return repeated().status == http.StatusServiceUnavailable })
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) { // longer than several restarts
		var a answer
		took := clocktest.Took(func() { a = repeated() })
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || problemOf(a) != "" || took > atOnce {
			t.Errorf("%d %s after %s: %s", a.status, a.body, took, problemOf(a))
		}
	}
	ada.post("the rest goes on")
	restore()
	eventually(t, "the function's return", time.Minute, func() bool { return repeated().status == http.StatusNotFound })
}
