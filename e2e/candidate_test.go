//go:build e2e

package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// A release is tried out before it gets traffic. If it fails the user's journey, or crashes, the old revisions keep the
// traffic. A good release takes over. No request fails meanwhile.
func TestLongTriesACandidateOutBeforeItHasTraffic(t *testing.T) {
	cluster(t)
	w := inside(t)
	d := newDeployer(t)
	old := patch(t, "tweet", change{"add", "/metadata/annotations/warble.dev~1tried", "yes"}).Status.LatestReadyRevisionName // and back at the end
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, append(reading(ada, id), func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	began := time.Now()

	for _, tt := range []struct{ setting, value, says string }{
		{"FAULTS", "error=100%", "POST /2/tweets: 500"},
		{"DATABASE_MAX_CONNS", "many", "DATABASE_MAX_CONNS"},
	} {
		d.set("tweet", tt.setting, tt.value)
		said, err := d.verb(nil, "-timeout=2m", "candidate")
		if err == nil || !strings.Contains(said, tt.says) || !strings.Contains(said, "the old revisions keep the traffic") {
			t.Fatalf("%s=%s: %v, want %q\n%s", tt.setting, tt.value, err, tt.says, said)
		}
		t.Logf("%s=%s after %s", tt.setting, tt.value, time.Since(began).Round(time.Second))
		servesAlone(t, old)
		if said, err := d.verb(nil, "promote"); err == nil {
			t.Fatalf("what was not tried out, or failed, has traffic: %s", said)
		}
		d.set("tweet", tt.setting, "")
	}

	d.set("tweet", "DATABASE_MAX_CONNS", "5")
	if said, err := d.verb(nil, "candidate"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	candidate := serviceOf(t, "tweet").Status.LatestReadyRevisionName
	if got := ada.do("GET", "/2/tweets/"+id, "").header.Get("X-Revision"); got != old || candidate == old {
		t.Errorf("before its promotion %s serves, beside %s, want %s", got, candidate, old)
	}
	private := "candidate-edge." + namespace + ".svc.cluster.local"
	if got := w.fetch(t, "http://"+private+"/2/tweets/"+id, "1").Header.Get("X-Revision"); got != candidate {
		t.Errorf("%s leads to %q, want %s", private, got, candidate)
	}
	for _, host := range []string{private, "candidate-" + warble.host} {
		if a := ask(t, host, "/2/tweets/"+id); a.status != http.StatusNotFound {
			t.Errorf("%s outside: %d %s, want 404", host, a.status, a.body)
		}
	}
	if said, err := d.verb(nil, "promote"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	within(t, "the candidate serves", readyLimit, func() bool {
		return ada.do("GET", "/2/tweets/"+id, "").header.Get("X-Revision") == candidate
	})
	servesAlone(t, candidate)
	t.Logf("%d requests while two candidates failed and one took over, in %s", l.stop(), time.Since(began).Round(time.Second))
}

// servesAlone waits until a revision of tweet has all of the traffic, and no function has a candidate. Knative needs a moment
// after a verb has written the traffic.
func servesAlone(t *testing.T, revision string) {
	t.Helper()
	within(t, revision+" serves alone", readyLimit, func() bool {
		for _, name := range []string{"tweet", "edge", "users"} {
			for _, target := range serviceOf(t, name).Status.Traffic {
				if target.Tag == "candidate" || name == "tweet" && (target.RevisionName != revision || target.Percent != 100) {
					return false
				}
			}
		}
		return true
	})
}
