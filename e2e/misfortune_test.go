//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warble/shared/experiment"
	"warble/shared/store"
)

// If a client repeats each tweet with its key until it is acknowledged, each tweet exists once: the function's processes are
// killed while they write, and then its pods are deleted.
func TestClusterLosesNoAcknowledgedTweetWithAPod(t *testing.T) {
	cluster(t)
	const writers, kills = 16, 2 // only two, because the kubelet waits before a container's third restart
	var (
		all          sync.WaitGroup
		acknowledged [writers][]string
		count, again atomic.Int64
		users        [writers]*user
	)
	for i := range users {
		users[i] = register(t, "")
	}
	users[0].do("GET", users[0].path("/tweets"), "") // the timeline is there
	done := make(chan struct{})
	stop := sync.OnceFunc(func() { close(done); all.Wait() })
	defer stop()
	for i, ada := range users {
		all.Go(func() {
			deadline := time.Now().Add(15 * time.Minute)
			for n := 0; ; n++ {
				id := persist(ada, fmt.Sprint("tweet ", n), deadline, &again)
				if id == "" {
					return
				}
				acknowledged[i] = append(acknowledged[i], id)
				count.Add(1)
				select {
				case <-done:
					return
				case <-time.After(pause(writers)):
				}
			}
		})
	}
	more := func() { // checks that the killed processes are back and serve writes
		t.Helper()
		before := count.Load()
		eventually(t, "load", readyLimit, func() bool { return count.Load() >= before+10*writers })
	}
	more()
	for range kills {
		if _, err := execute(t.Context(), "", "e2e/cluster/signal.sh", "tweet", "KILL"); err != nil {
			t.Error(err)
		}
		more()
	}
	victims := pods(t, "tweet")
	if len(victims) == 0 {
		t.Error("tweets are acknowledged, and no pod of tweet is there")
	}
	run(t, append([]string{"delete", "pod", "--force", "--grace-period=0"}, victims...)...)
	more()
	stop()
	t.Logf("%d tweets acknowledged, %d sends repeated, %v taken away", count.Load(), again.Load(), victims)
	if again.Load() == 0 {
		t.Error("no request noticed a kill: it proved nothing")
	}
	for i, ada := range users {
		slices.Reverse(acknowledged[i])
		if there := ada.all(ada.path("/tweets")); !slices.Equal(there, acknowledged[i]) {
			t.Errorf("%s has %d tweets, %d were acknowledged:\n%v\n%v", ada.name, len(there), len(acknowledged[i]), there, acknowledged[i])
		}
	}
	if after := pods(t, "tweet"); slices.ContainsFunc(after, func(pod string) bool { return slices.Contains(victims, pod) }) {
		t.Errorf("%v were taken away, and there are %v", victims, after)
	}
}

// An arm is killed after it has sent a tweet to the database and before it has the answer, and the tweet is stored. If the request had a
// key, the edge repeats it at the untouched, and the answer names the tweet that was stored. If it had none, the edge does not repeat it,
// and the client gets an error. Both tweets exist once.
func TestClusterATweetWhoseAnswerIsLostExistsOnce(t *testing.T) {
	cluster(t)
	const (
		kills = 2 // the kubelet waits before a container's third restart
		most  = 5 // kills, if the machine is so busy that a statement ends before the function does
	)
	e := newExperiment(t, func(s *experiment.Spec) { s.Services, s.Salt = []string{"tweet"}, "pinned" })
	db, err := store.Connect(t.Context(), os.Getenv("DATABASE_DIRECT_URL"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background()) //nolint:errcheck // nothing is pending on it
	count := func(sql string, args ...any) (n int) {
		t.Helper()
		if err := db.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	do := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer db.Exec(context.Background(), `rollback`) //nolint:errcheck // a warning if no transaction is open

	people := registerCrowd(t, []string{""}, 16)
	id := people[0].post("before the experiment")
	e.mustKn("start", "-f", e.file, "--anyway")
	// Only the control is killed. A tripwire would take a treatment that is killed for one that fails, and end the experiment.
	people = slices.DeleteFunc(people, func(m *member) bool { return m.assigned(e.rules(50)) != experiment.Control })
	if len(people) < 2 {
		t.Fatalf("%d of 16 users are in the control", len(people))
	}
	keyed, plain := people[0], people[1]
	served := func(m *member, revision string) bool {
		return m.do("GET", "/2/tweets/"+id, "").header.Get("X-Revision") == revision
	}
	control := e.revisions(experiment.Control)["tweet"]
	var again atomic.Int64
	proven := 0
	for n := range most {
		within(t, "the control", readyLimit, func() bool { return served(keyed, control) && served(plain, control) })
		(&user{t: t}).do("GET", "/2/tweets/"+id, "") // the untouched has a pod
		text := fmt.Sprint("tweet ", n)
		do(`begin`)
		if authors := count(`select count(*) from (select from users where id in ($1, $2) for update) as authors`, keyed.id, plain.id); authors != 2 {
			t.Fatalf("%d authors are locked, want 2", authors)
		} // both statements have begun, and wait for their author
		var acknowledged string
		var lost answer
		var failed error
		all.Go(func() { acknowledged = persist(keyed.user, text, time.Now().Add(readyLimit), &again) })
		var tooLate atomic.Bool // for a kill, because the statement has waited as long as it may
		all.Go(func() {
			lost, failed = plain.try("POST", "/2/tweets", object("text", text))
			tooLate.Store(true)
		})
		eventually(t, "both statements", time.Minute, func() bool {
			return tooLate.Load() || count(`
				select count(*)
				from pg_locks own
				join pg_locks waits using (transactionid)
				where own.pid = pg_backend_pid() and own.granted and not waits.granted`) >= 2
		})
		if _, err := execute(t.Context(), "", "e2e/cluster/signal.sh", "tweet", "KILL", "WARBLE_ARM=control"); err != nil {
			t.Fatal(err)
		}
		do(`commit`) // PostgreSQL does not know that nobody waits for the answers
		all.Wait()
		do(`begin`)
		do(`lock table tweets in share mode`) // after all statements that write tweets
		const written = `select count(*) from tweets where author_id = $1 and text = $2`
		with, without := count(written, keyed.id, text), count(written, plain.id, text)
		same := count(`select count(*) from tweets where id = $1 and author_id = $2 and text = $3`, acknowledged, keyed.id, text)
		do(`commit`)
		t.Logf("%s: with a key %d, of which %d acknowledged; without %d, and the answer was %d %v", text, with, same, without, lost.status, failed)
		switch {
		case with != 1 || same != 1:
			t.Errorf("the tweet with a key exists %d times, and the answer names %s", with, acknowledged)
		case without > 1:
			t.Errorf("the tweet without a key exists %d times", without)
		case without == 1 && (failed != nil || lost.status >= http.StatusInternalServerError):
			proven++
		}
		if proven == kills || t.Failed() {
			break
		}
	}
	if proven < kills && !t.Failed() {
		t.Errorf("%d of %d kills took away the answer of a tweet that was stored, want %d", proven, most, kills)
	}
	if o := e.object(); o.Status.Phase != experiment.Running {
		t.Errorf("it is %s, because %q", o.Status.Phase, o.Status.Because)
	}
	e.mustKn("stop", e.name)
	e.checkServicesUnchanged()
}

// A revision that cannot start reports the reason in one line, and the old revision continues to serve.
func TestClusterKeepsWhatServesWhereANewRevisionCannot(t *testing.T) {
	cluster(t)
	for name, c := range map[string]struct {
		change change
		says   string // in its pod's log or state
	}{
		"a secret that is not there": {
			withVariable(map[string]any{"name": "MISSING", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "nobody-made-it", "key": "url"}}}),
			`"nobody-made-it" not found`,
		},
		"a database that never answered": {
			withVariable(map[string]any{"name": "DATABASE_URL", "value": "postgres://nobody@127.0.0.1:1/warble"}),
			"127.0.0.1:1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ada := register(t, "")
			if c.change.Value.(map[string]any)["name"] == "DATABASE_URL" {
				c.change.Op, c.change.Path = "replace", envPath+"/0"
				if first := run(t, "get", "ksvc/users", "--output=jsonpath={.spec.template.spec.containers[0].env[0].name}"); first != "DATABASE_URL" {
					t.Fatalf("users' first variable is %s, want DATABASE_URL", first)
				}
			}
			var broken string
			t.Cleanup(func() { // otherwise Knative tries the revision for ten more minutes
				if _, err := kubectl(context.Background(), "", "delete", "revision", broken); err != nil {
					t.Error(err)
				}
			})
			before := patch(t, "users", c.change)
			within(t, "a new revision", readyLimit, func() bool {
				broken = serviceOf(t, "users").Status.LatestCreatedRevisionName
				return broken != before.Status.LatestCreatedRevisionName
			})
			selector := "--selector=serving.knative.dev/revision=" + broken
			within(t, "a line that says why", readyLimit, func() bool {
				state := run(t, "get", "pods", selector, "--output=jsonpath={.items[*].status.containerStatuses[*].state.waiting.message}")
				log, _ := kubectl(t.Context(), "", "logs", selector, "--container=user-container", "--tail=50") // there may be no log yet
				return strings.Contains(state+log, c.says)
			})
			if ready := run(t, "get", "pods", selector, `--output=jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`); strings.Contains(ready, "True") {
				t.Errorf("a pod that cannot serve is ready: %s", ready)
			}
			for range 10 {
				a := ada.do("GET", "/2/users/me", "")
				if got := a.header.Get("X-Revision"); a.status != http.StatusOK || got != before.Status.LatestReadyRevisionName {
					t.Errorf("%d of %s, want 200 of %s: %s", a.status, got, before.Status.LatestReadyRevisionName, a.body)
				}
			}
		})
	}
}

// If routes are wrong, the old routes stay, and an Event of the Service says so.
func TestClusterRefusesABadRoutesAnnotation(t *testing.T) {
	cluster(t)
	w := inside(t)
	reached := func() bool { return (&user{t: t}).do("GET", "/witness", "").status == http.StatusOK }
	w.route(t, "/witness")
	within(t, "the route", readyLimit, reached)
	w.route(t, "/witness/{")
	within(t, "an Event", readyLimit, func() bool {
		return strings.Contains(run(t, "get", "events", "--field-selector=involvedObject.name=witness,type=Warning", "--output=jsonpath={.items[*].message}"), "/witness/{")
	})
	if !reached() {
		t.Error("the route before is gone")
	}
}
