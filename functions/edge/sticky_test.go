package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/experiment"
)

// TestEveryUserSeesOneArm sends the requests of 300 users in 60 communities through two edges, which are processes. Meanwhile the
// ramp goes from 10 to 25 to 50 percent, and the edges are replaced one after the other. Nobody changes or leaves their arm. The
// counts of all edges, including those that ended, equal what the users saw.
func TestEveryUserSeesOneArm(t *testing.T) {
	t.Parallel()
	const users, communities = 300, 60
	k, stored := newKeys(t), newSink(t)
	issuer, _ := tokensOf(t, k.private, k.public)
	at := func(revision string) string {
		url, _ := k.startProcess(t, "function", "K_SERVICE=mirror", "K_REVISION="+revision)
		return url
	}
	service := functionEntry{Name: "mirror", URL: at("untouched"), Routes: []string{"/m/"}}
	rules := openTo("likes", experiment.Community, "mirror")
	rules.Reach["mirror"] = experiment.Reach{Control: sideAt(at("control"), "control"), Treatment: sideAt(at("treatment"), "treatment")}
	file := filepath.Join(t.TempDir(), "routes.json")
	ramp := func(percent int) {
		t.Helper()
		rules.Open = experiment.Open{Control: percent * 100, Treatment: percent * 100}
		writeRoutes(t, file, []experiment.Rules{rules}, service)
	}
	edges := make([]string, 2)
	stops := make([]func(), 2)
	replace := func(i int) {
		t.Helper()
		if stops[i] != nil {
			stops[i]()
		}
		edges[i], stops[i] = k.startProcess(t, "edge", "ROUTES_FILE="+file, "STEER_URL="+stored.url, "RATE_LIMIT_READ=1000000/15m")
		eventually(t, "the edge", func() bool { return send(t, http.MethodGet, edges[i]+"/healthz", "").StatusCode == http.StatusOK })
	}

	var mu sync.Mutex
	counted := make(map[string][2]int64)
	bearers := make([]string, users)
	for user := range bearers {
		bearers[user] = bearerOf(t, issuer, int64(user+1), community(user%communities))
	}
	// ask returns a user's arm, and checks that the same arm served the request and is named to the user and to the function.
	ask := func(edge string, user int) experiment.Arm {
		a, err := try(t.Context(), http.MethodGet, edge+"/m/x", "", "Authorization", bearers[user])
		if err != nil || a.StatusCode != http.StatusOK {
			t.Errorf("user %d: %+v, %v", user, a, err)
			return ""
		}
		arm, served, told := a.Header.Get(headerVariant), a.Header.Get(headerRevision), ""
		if arm == "" {
			arm = "untouched"
		} else {
			told = fmt.Sprintf("likes=%s;community=%s;generation=3;exposes", arm, community(user%communities))
			mu.Lock()
			counted["likes "+arm] = [2]int64{counted["likes "+arm][0] + 1, 0}
			mu.Unlock()
		}
		if served != arm || a.body != told {
			t.Errorf("user %d is in %s and was served by %s, which was told %q", user, arm, served, a.body)
		}
		return experiment.Arm(a.Header.Get(headerVariant))
	}
	everybody := func(edge string) {
		var asking sync.WaitGroup
		for worker := range 10 {
			asking.Go(func() {
				for user := worker; user < users; user += 10 {
					want, _ := rules.Assign(int64(user+1), community(user%communities))
					if arm := ask(edge, user); arm != want {
						t.Errorf("user %d is in %q at %d slots, want %q", user, arm, rules.Open.Control, want)
					}
				}
			})
		}
		asking.Wait()
	}

	ramp(10)
	replace(0)
	replace(1)
	before := make([]experiment.Arm, users)
	for step, percent := range []int{10, 25, 50} {
		ramp(percent)
		for _, edge := range edges {
			eventually(t, "the step", func() bool {
				return allAsked(rules, communities, func(user int) experiment.Arm { return ask(edge, user) })
			})
		}
		for user := range users {
			arm, _ := rules.Assign(int64(user+1), community(user%communities))
			if before[user] != "" && arm != before[user] {
				t.Fatalf("user %d went from %s to %q", user, before[user], arm)
			}
			before[user] = arm
		}
		everybody(edges[0])
		everybody(edges[1])
		replace(step % 2)
		everybody(edges[0])
		everybody(edges[1])
	}
	stops[0]()
	stops[1]()
	if diff := cmp.Diff(counted, stored.sums()); diff != "" || counted["likes control"][0] == 0 || counted["likes treatment"][0] == 0 {
		t.Errorf("stored is not what the users saw: %s", diff)
	}
	t.Logf("%v", counted)
}

func community(i int) string { return fmt.Sprint("community-", i) }

// allAsked reports whether somebody of each community is in the arm that the rules give.
func allAsked(rules experiment.Rules, communities int, ask func(user int) experiment.Arm) bool {
	for user := range communities {
		if want, _ := rules.Assign(int64(user+1), community(user)); ask(user) != want {
			return false
		}
	}
	return true
}
