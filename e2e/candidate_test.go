//go:build e2e

package e2e_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A release is tried out before it has traffic: one that fails a user's journey, and one that crashes, leave what served
// where it was, and a good one takes over, while requests come and none fails.
func TestClusterTriesACandidateOutBeforeItHasTraffic(t *testing.T) {
	cluster(t)
	w := inside(t)
	old := patch(t, "tweet", change{"add", "/metadata/annotations/warble.dev~1tried", "yes"}).Status.LatestReadyRevisionName // and back at the end
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		if _, err := deploy(context.Background(), "knative"); err != nil { // or traffic and tags stay as the failure left them
			t.Error(err)
		}
	})
	ada := register(t, "")
	id := ada.post("ada's")
	l := start(t, append(reading(ada, id), func() (answer, error) { return ada.try("POST", "/2/tweets", object("text", "on and on")) })...)
	began := time.Now()

	for _, tt := range []struct{ setting, value, says string }{
		{"FAULTS", "error=100%", "POST /2/tweets: 500"},
		{"DATABASE_MAX_CONNS", "many", "DATABASE_MAX_CONNS"},
	} {
		said, err := deploy(t.Context(), release(t, tt.setting, tt.value), "-timeout=2m", "candidate")
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "the traffic is where it was") {
			t.Fatalf("%s=%s: %v, want %q\n%s", tt.setting, tt.value, err, tt.says, said)
		}
		t.Logf("%s=%s after %s: %v", tt.setting, tt.value, time.Since(began).Round(time.Second), err)
		servesAlone(t, old)
		if said, err := deploy(t.Context(), release(t, tt.setting, tt.value), "promote"); err == nil {
			t.Fatalf("what was not tried out, or failed, has traffic: %s", said)
		}
	}

	good := release(t, "DATABASE_MAX_CONNS", "5")
	if said, err := deploy(t.Context(), good, "candidate"); err != nil {
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
	if said, err := deploy(t.Context(), good, "promote"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	within(t, "the candidate serves", readyLimit, func() bool {
		return ada.do("GET", "/2/tweets/"+id, "").header.Get("X-Revision") == candidate
	})
	servesAlone(t, candidate)
	t.Logf("%d requests while two candidates failed and one took over, in %s", l.stop(), time.Since(began).Round(time.Second))
}

// release is a copy of the manifests in which tweet has one more setting.
func release(t *testing.T, setting, value string) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "knative")
	if err := os.CopyFS(folder, os.DirFS("../knative")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "500-tweet.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const env = "          env:\n"
	changed := strings.Replace(string(text), env, env+"            - name: "+setting+"\n              value: \""+value+"\"\n", 1)
	if changed == string(text) {
		t.Fatalf("%s has no %q", file, env)
	}
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// deploy is make deploy, of other manifests.
func deploy(ctx context.Context, folder string, args ...string) (string, error) {
	return execute(ctx, "", "go", append([]string{"run", "./cmd/deploy", "-manifests=" + folder}, args...)...)
}

// servesAlone checks that a revision of tweet has all of the traffic, and that no function has a candidate left.
func servesAlone(t *testing.T, revision string) {
	t.Helper()
	for _, name := range []string{"tweet", "edge", "users"} {
		for _, target := range serviceOf(t, name).Status.Traffic {
			if target.Tag == "candidate" || name == "tweet" && (target.RevisionName != revision || target.Percent != 100) {
				t.Errorf("%s: %+v, want %s alone", name, target, revision)
			}
		}
	}
}
