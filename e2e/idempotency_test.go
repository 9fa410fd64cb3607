//go:build e2e

package e2e_test

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A hundred sends with one Idempotency-Key are one tweet, and another user hardly notices.
func TestAHundredSendsWithOneKey(t *testing.T) {
	// Not parallel: it measures.
	const (
		sends  = 100
		rounds = 5
		// extra is what another user's POST may take more beside a hundred sends of one key than beside as many of a key
		// each. So a busy machine slows both, and what is left is the waiting on the key.
		extra = 100 * time.Millisecond
	)
	bob := register(t, "")
	beside := func(u *user, key func(i int) string) (answers []answer, took time.Duration) {
		answers = make([]answer, sends)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				answers[i] = u.do("POST", "/2/tweets", object("text", "once"), "Idempotency-Key", key(i))
			})
		}
		start := time.Now()
		bob.post("meanwhile")
		took = time.Since(start)
		all.Wait()
		return answers, took
	}
	var normal, meanwhile []time.Duration
	for range rounds {
		// One user's calls stay below a public API's limits.
		_, took := beside(register(t, ""), func(i int) string { return "k" + strconv.Itoa(i) })
		normal = append(normal, took)
		ada := register(t, "")
		answers, took := beside(ada, func(int) string { return "k" })
		meanwhile = append(meanwhile, took)
		oneTweet(t, ada, answers)
		if a := ada.do("POST", "/2/tweets", object("text", "other"), "Idempotency-Key", "k"); a.status != http.StatusUnprocessableEntity || problemOf(a) != "" {
			t.Errorf("same key, other body: %d %s", a.status, a.body)
		}
	}
	t.Logf("another user's POST took %v beside sends of a key each, %v beside sends of one key", normal, meanwhile)
	limit := extra
	if warble.run == nil {
		limit *= 3 // a hundred sends also pass an ingress and its proxies, which are on the cores of the functions
	}
	if more := median(meanwhile) - median(normal); more > limit {
		t.Errorf("another user's POST takes %s longer beside sends of one key, want at most %s", more, limit)
	}
}

// Two processes of the function share nothing but PostgreSQL.
func TestOneKeyAcrossTwoProcesses(t *testing.T) {
	run := processes(t)
	t.Parallel()
	ada := register(t, "")
	addresses := []string{addressOf(t, only(t, run, "tweet")), twin(t, only(t, run, "tweet"))}
	answers := make([]answer, 100)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i] = ada.at(addresses[i%2]).do("POST", "/2/tweets", object("text", "once"), "Idempotency-Key", "k")
		})
	}
	all.Wait()
	oneTweet(t, ada, answers)
}

// oneTweet checks the answers to sends with one key, of a user who posted nothing else.
func oneTweet(t *testing.T, u *user, answers []answer) {
	t.Helper()
	first := 0
	for _, a := range answers {
		if a.status != http.StatusCreated || a.body != answers[0].body {
			t.Errorf("%d %s, want %s", a.status, a.body, answers[0].body)
		}
		if a.header.Get("Idempotency-Replayed") == "" {
			first++
		}
	}
	if ids := u.all(u.path("/tweets")); len(ids) != 1 || first != 1 {
		t.Errorf("%d tweets, and %d answers are not replayed: want one of each", len(ids), first)
	}
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
