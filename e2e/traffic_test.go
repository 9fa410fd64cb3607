//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A candidate has no traffic, with the traffic targets that `kn service update --traffic` writes.
func TestClusterSplitsTrafficAndKeepsTagsPrivate(t *testing.T) {
	cluster(t)
	w := inside(t)
	const path, percent, requests = "/.well-known/jwks.json", 20, 2000
	old := serviceOf(t, "validate").Status.LatestReadyRevisionName
	targets := func(candidate int) change {
		return change{"add", "/spec/traffic", []traffic{
			{RevisionName: old, Percent: 100 - candidate},
			{Latest: true, Percent: candidate, Tag: "candidate"},
		}}
	}
	patch(t, "validate", newRevision("candidate"), targets(percent))
	candidate := untilReady(t, "validate").Status.LatestReadyRevisionName
	if candidate == old {
		t.Fatalf("%s is no second revision", candidate)
	}
	revision := func() string {
		a := (&user{t: t}).do("GET", path, "")
		if a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
		return a.header.Get("X-Revision")
	}
	within(t, "the candidate", readyLimit, func() bool { return revision() == candidate })

	const share = percent / 100.
	sigma := math.Sqrt(requests * share * (1 - share))
	sample := func() (seen map[string]int, right bool) {
		var (
			all    sync.WaitGroup
			counts sync.Map
		)
		const workers = 8
		for range workers {
			all.Go(func() {
				for range requests / workers {
					n, _ := counts.LoadOrStore(revision(), new(atomic.Int64))
					n.(*atomic.Int64).Add(1)
				}
			})
		}
		all.Wait()
		seen = make(map[string]int)
		counts.Range(func(name, n any) bool {
			seen[name.(string)] = int(n.(*atomic.Int64).Load())
			return true
		})
		t.Logf("%v of %d requests", seen, requests)
		if seen[old]+seen[candidate] != requests {
			t.Errorf("%v, want %s and %s alone", seen, candidate, old)
		}
		return seen, math.Abs(float64(seen[candidate])-requests*share) <= 3*sigma
	}
	// By chance, one sample in 370 is so far off. Then a second sample decides.
	seen, right := sample()
	if !right {
		seen, right = sample()
	}
	if !right {
		t.Errorf("%v of %d requests, want %g ± %.0f of %s, as twice", seen, requests, requests*share, 3*sigma, candidate)
	}

	if err := patchNow(t.Context(), "validate", targets(0)); err != nil {
		t.Fatal(err)
	}
	untilReady(t, "validate")
	within(t, "no traffic of the candidate", readyLimit, func() bool {
		return !slices.ContainsFunc(make([]struct{}, 20), func(struct{}) bool { return revision() == candidate })
	})
	private := "candidate-validate." + namespace + ".svc.cluster.local"
	if f := w.fetch(t, "http://"+private+path, "1"); f.Status != http.StatusOK || f.Header.Get("X-Revision") != candidate {
		t.Errorf("%s inside: %d of %q, want %s", private, f.Status, f.Header.Get("X-Revision"), candidate)
	}
	for _, host := range []string{private, "candidate-validate." + namespace + "." + domain(), "validate." + namespace + "." + domain()} {
		if a := ask(t, host, path); a.status != http.StatusNotFound {
			t.Errorf("%s outside: %d %s, want 404", host, a.status, a.body)
		}
	}
	tagged := (&user{t: t}).do("GET", path, "", "Knative-Serving-Tag", "candidate")
	if got := tagged.header.Get("X-Revision"); got != old {
		t.Errorf("a client that asks for a tag got %s, want %s", got, old)
	}
}

func TestClusterRollsOutUnderLoadFailsNoRequest(t *testing.T) {
	cluster(t)
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, append(reading(ada, id), func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	began := time.Now()
	for _, name := range []string{"tweet", "edge"} {
		patch(t, name, newRevision("rolled-out"))
	}
	for _, name := range []string{"tweet", "edge"} {
		rolled := untilReady(t, name).Status.LatestReadyRevisionName
		if name == "tweet" {
			within(t, "the new revision", readyLimit, func() bool { return ada.do("GET", "/2/tweets/"+id, "").header.Get("X-Revision") == rolled })
		}
	}
	within(t, "the old edge's end", readyLimit, func() bool {
		latest := serviceOf(t, "edge").Status.LatestReadyRevisionName
		return !slices.ContainsFunc(pods(t, "edge"), func(pod string) bool { return !strings.HasPrefix(pod, latest+"-") })
	})
	t.Logf("%d requests while the edge and a function were replaced, in %s", l.stop(), time.Since(began).Round(time.Second))
}

// A deployment migrates first, so the old revisions must work with the new schema. The test uses functions of the commit before
// the last migration.
func TestClusterPreviousRevisionsServeOnTheNewSchema(t *testing.T) {
	cluster(t)
	git := func(args ...string) string {
		text, err := execute(t.Context(), "", "git", args...)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	migrated := git("log", "-1", "--format=%H", "--diff-filter=A", "--", "shared/store/migrations")
	if migrated == "" {
		t.Fatal("no migration in this history: expected a clone that is not shallow")
	}
	folder := t.TempDir() + "/before"
	git("worktree", "add", "--detach", folder, migrated+"^")
	t.Cleanup(func() {
		if _, err := execute(context.Background(), "", "git", "worktree", "remove", "--force", folder); err != nil {
			t.Error(err)
		}
	})
	ko, err := filepath.Abs("../tools/ko/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"register", "tweet", "retweet"} // the functions that write the outbox
	for _, name := range names {
		image, err := executeIn(t.Context(), folder, "", "go", "tool", "-modfile="+ko, "ko", "build", "--base-import-paths", "--sbom=none", "./functions/"+name)
		if err != nil {
			t.Fatal(err)
		}
		patch(t, name, change{"replace", "/spec/template/spec/containers/0/image", image}, newRevision("before-"+migrated[:12]))
	}
	for _, name := range names {
		untilReady(t, name)
	}
	ada, bob := register(t, ""), register(t, "")
	id := ada.post("from the past")
	if a := bob.do("POST", bob.path("/retweets"), object("tweet_id", id)); a.status != http.StatusOK {
		t.Errorf("retweet: %d %s", a.status, a.body)
	}
	if got := ada.all(ada.path("/tweets")); fmt.Sprint(got) != fmt.Sprint([]string{id}) {
		t.Errorf("timeline %v, want %s", got, id)
	}
	eventually(t, bob.id+" among those who retweeted", listLimit, func() bool {
		return slices.Equal(ada.all("/2/tweets/"+id+"/retweeted_by"), []string{bob.id})
	})
	if a := ada.do("DELETE", "/2/tweets/"+id, ""); a.status != http.StatusOK {
		t.Errorf("delete: %d %s", a.status, a.body)
	}
	t.Logf("%s of %q", strings.Join(names, ", "), git("log", "-1", "--format=%s", migrated+"^"))
}
