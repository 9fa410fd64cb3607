//go:build e2e

package e2e_test

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// A hundred requests with one Idempotency-Key make one tweet. Another user's requests succeed meanwhile.
func TestAHundredSendsWithOneKey(t *testing.T) {
	t.Parallel()
	ada, bob := register(t, ""), register(t, "")
	answers := make([]answer, 100)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = ada.postOnce(ada.url) })
	}
	bob.post("meanwhile")
	all.Wait()
	oneTweet(t, ada, answers)
	if a := ada.do("POST", "/2/tweets", object("text", "other"), "Idempotency-Key", "k"); a.status != http.StatusUnprocessableEntity || problemOf(a) != "" {
		t.Errorf("same key, other body: %d %s", a.status, a.body)
	}
}

// postOnce posts with the key k at an address, and tries again if another request with the key still runs.
func (u *user) postOnce(url string) (a answer) {
	u.t.Helper()
	for deadline := time.Now().Add(politeness); ; {
		a = u.withURL(url).do("POST", "/2/tweets", object("text", "once"), "Idempotency-Key", "k")
		if a.status != http.StatusConflict || time.Now().After(deadline) {
			return a
		}
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
		all.Go(func() { answers[i] = ada.postOnce(addresses[i%2]) })
	}
	all.Wait()
	oneTweet(t, ada, answers)
}

// oneTweet checks the answers to requests with one key, of a user who posted nothing else.
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
