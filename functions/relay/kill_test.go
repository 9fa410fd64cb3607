package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/process"
	"warble/shared/store/pgtest"
)

// Under load, two relays are killed at random moments in turn and started again. Every event arrives, and each user's events first
// arrive in their order.
func TestNothingIsLostIfRelaysAreKilled(t *testing.T) {
	t.Parallel()
	const users, rounds, kills = 40, 60, 10
	f := newFixture(t, func(event.Event) int {
		if rand.N(20) == 0 { //nolint:gosec // the sink also fails at times
			return 503
		}
		return 202
	})
	program := build(t)
	relays := [2]*exec.Cmd{}
	exits := [2]<-chan error{}
	start := func(i int) {
		relays[i] = exec.Command(program) //nolint:noctx // killed below
		relays[i].Env = append(os.Environ(), "HOST=127.0.0.1", "PORT=0", "METRICS_PORT=0", "LOG_LEVEL=error", "RELAY_LEASE=1s",
			"DATABASE_URL="+f.Database.URL(pgtest.Ops), "K_SINK="+f.Server.URL)
		relays[i].Stdout, relays[i].Stderr = t.Output(), t.Output()
		var err error
		if exits[i], err = process.Start(relays[i], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	kill := func(i int) {
		if err := relays[i].Process.Kill(); err != nil {
			t.Error(err)
		}
		<-exits[i]
	}
	for i := range relays {
		start(i)
		t.Cleanup(func() { kill(i) })
	}

	want := make(map[string][]string)
	var load sync.WaitGroup
	load.Go(func() {
		for n := range rounds {
			f.exec(`
				insert into outbox (id, user_id, type, data)
				select $2::bigint * 1000000 + u, u::bigint << 22, 'dev.warble.test.v1', '{"id": "1"}'
				from generate_series(1, $1::int) u`, users, n+1)
		}
	})
	for n := range rounds {
		for u := range users {
			user := strconv.Itoa((u + 1) << 22)
			want[user] = append(want[user], strconv.Itoa((n+1)*1000000+u+1))
		}
	}
	for n := range kills {
		arrived := f.arrived()
		eventually(t, "publishing", func() bool { return f.arrived() > arrived || f.isTrue(empty) })
		time.Sleep(rand.N(100 * time.Millisecond)) //nolint:gosec // a random moment
		kill(n % 2)
		start(n % 2)
	}
	load.Wait()
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	if !f.isTrue(noDeads) {
		t.Error("there are dead letters")
	}
	if diff := cmp.Diff(want, f.ids()); diff != "" {
		t.Error(diff)
	}
	t.Logf("%d events, of which %d arrived again, and %d relays were killed", users*rounds, f.arrived()-users*rounds, kills)
}

func (s *subscriber) arrived() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

// build builds the function, with the race detector if the test has it.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "relay")
	command := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	command.Env = apitest.Environment()
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("go build: %w\n%s", err, text))
	}
	return program
}
