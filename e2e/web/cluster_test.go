//go:build e2e

package web_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// namespace is Warble's namespace, in a cluster and in a local run.
const namespace = "warble"

// services are the experiment's Services, which its promotion writes.
var services = []string{"like", "timeline", "tweet"}

// deployed returns the Warble of WARBLE_URL and WARBLE_HOST, with a running experiment of a random name. When the test ends, the
// experiment is deleted, and the Services are restored.
func deployed(t *testing.T) *warble {
	t.Helper()
	address, err := url.Parse(os.Getenv("WARBLE_URL"))
	if err != nil || address.Host == "" || os.Getenv("KUBECONFIG") == "" {
		t.Fatalf("WARBLE_URL is %q and KUBECONFIG %q: expected a URL as http://127.0.0.1:8081, and the cluster's kubeconfig, by which the experiment is started and promoted", os.Getenv("WARBLE_URL"), os.Getenv("KUBECONFIG"))
	}
	w := &warble{url: address.Scheme + "://" + address.Host, client: http.DefaultClient, experiment: "web-" + strings.ToLower(rand.Text()[:6]), kn: program(t, "kn-experiment")}
	if database := os.Getenv("DATABASE_DIRECT_URL"); database != "" { // without it the board shows the status, and no figures
		w.reach = []string{"DATABASE_URL=" + database}
	}
	if host := os.Getenv("WARBLE_HOST"); host != "" {
		w.url, w.at = address.Scheme+"://"+host, []string{host, address.Host}
		dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, withPort(address))
		}
		w.client = &http.Client{Transport: &http.Transport{DialContext: dial}}
	}
	w.people(t)
	restoreServices(t)
	t.Cleanup(func() {
		_, _ = w.command(context.Background(), "stop", w.experiment, "--message", "the test ends") // an error means that it has ended, or never begun
		kubectl(context.Background(), t, "", "delete", "experiment", w.experiment, "--ignore-not-found", "--timeout=3m")
	})
	text, err := os.ReadFile("../../" + experimentFile)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "experiment.yaml")
	if err := os.WriteFile(file, bytes.Replace(text, []byte("name: likes-demo"), []byte("name: "+w.experiment), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := w.command(t.Context(), "start", "-f", file, "--anyway", "--message", "a browser looks at it"); err != nil {
		t.Fatalf("start: %v\n%s", err, said)
	}
	return w
}

// people adds communities if there are none, because a newly deployed Warble has none.
func (w *warble) people(t *testing.T) {
	t.Helper()
	var found struct{ Data []json.RawMessage }
	const limit = 3 * time.Minute
	for began := time.Now(); ; time.Sleep(time.Second) { // who answers may have to start first
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/communities", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := w.client.Do(r)
		if err == nil {
			err = json.NewDecoder(answer.Body).Decode(&found)
			_ = answer.Body.Close()
		}
		if err == nil && answer.StatusCode == http.StatusOK {
			break
		}
		if time.Since(began) > limit {
			t.Fatalf("GET /communities: %+v, %v", answer, err)
		}
	}
	if len(found.Data) > 0 {
		return
	}
	migrate := program(t, "migrate")
	for _, slug := range []string{"gophers", "pythonistas"} {
		if said, err := exec.CommandContext(t.Context(), migrate, "communities", "add", slug, slug).CombinedOutput(); err != nil {
			t.Fatalf("communities add %s: %v\n%s", slug, err, said)
		}
	}
}

// withPort returns the host and port of a URL.
func withPort(address *url.URL) string {
	if address.Port() != "" {
		return address.Host
	}
	return net.JoinHostPort(address.Hostname(), address.Scheme) // a port's name is one, too
}

// command runs a verb of kn-experiment.
func (w *warble) command(ctx context.Context, args ...string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.kn, append(args, "--namespace", namespace)...)
	cmd.Env = w.environment()
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// restoreServices restores the Services that the promotion writes, when the test ends.
func restoreServices(t *testing.T) {
	t.Helper()
	type service struct {
		Metadata struct{ Generation int64 }
		Spec     json.RawMessage
	}
	read := func(ctx context.Context, name string) (s service) {
		if err := json.Unmarshal([]byte(kubectl(ctx, t, "", "get", "ksvc", name, "--output=json")), &s); err != nil {
			t.Errorf("ksvc %s: %v", name, err)
		}
		return s
	}
	before := make(map[string]service)
	for _, name := range services {
		before[name] = read(t.Context(), name)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		for name, was := range before {
			if read(ctx, name).Metadata.Generation == was.Metadata.Generation {
				continue
			}
			kubectl(ctx, t, fmt.Sprintf(`[{"op": "replace", "path": "/spec", "value": %s}]`, was.Spec), "patch", "ksvc", name, "--type=json", "--patch-file=/dev/stdin")
			kubectl(ctx, t, "", "wait", "--for=condition=Ready", "--timeout=150s", "ksvc/"+name)
		}
	})
}

// kubectl runs it, and returns what it has written.
func kubectl(ctx context.Context, t *testing.T, in string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "kubectl", append([]string{"--namespace", namespace}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("kubectl %s: %v %s", strings.Join(args, " "), err, &failed)
	}
	return string(out)
}
