package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"warble/shared/clocktest"
	"warble/shared/experiment"
	"warble/shared/function"
	"warble/shared/process"
)

// binaryRoleEnv is the variable that makes this binary run as something other than a test: see TestMain.
const binaryRoleEnv = "WARBLE_TEST_BINARY_IS"

// echo is a function that answers with the assignment from the edge, if the edge has signed it.
func echo() {
	f := function.New()
	f.Serve(function.Routes{"GET /m/{rest...}": handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reason := unsigned(r, f.EdgeKey()); reason != "" {
			http.Error(w, reason, http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, r.Header.Get(experiment.Header))
	})})
}

func command(t *testing.T, what string, environment ...string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable) //nolint:noctx // ended by its test, and by the kernel with this process
	cmd.Env = append(environment, binaryRoleEnv+"="+what, "HOST=127.0.0.1", "PORT=0", "METRICS_PORT=0")
	return cmd
}

// keys has the files that an edge and its functions share.
type keys struct{ private, public, edge string }

func newKeys(t *testing.T) (k keys) {
	t.Helper()
	k.private, k.public = tokenFiles(t)
	k.edge = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(k.edge, function.TestKey, 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

// startProcess starts an edge or a function as a process, with these settings. stop shuts it down; the end of the test does so too.
func (k keys) startProcess(t *testing.T, what string, settings ...string) (url string, stop func()) {
	t.Helper()
	cmd := command(t, what, append(settings, "TOKEN_PUBLIC_KEYS_FILE="+k.public, "EDGE_KEY_FILE="+k.edge)...)
	log, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	exited, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // an unclean end fails the test below
		if err := <-exited; err != nil {
			t.Errorf("the %s ended with %v", what, err)
		}
	})
	t.Cleanup(stop)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Message, Address string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("log line %q: %v", lines.Text(), err)
		}
		if line.Message == "listening" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // until the process ends
			return "http://" + line.Address, stop
		}
	}
	t.Fatal("never listened")
	return "", nil
}

// TestAChangeIsInForceWithin250ms uses a separate process, which checks the file on its own schedule. It takes the fastest of ten
// changes: a slow edge is slow each time, a busy machine is not.
func TestAChangeIsInForceWithin250ms(t *testing.T) {
	t.Parallel()
	const within = 250 * time.Millisecond
	named := func(name string) string {
		url, _ := serveFunction(t, function.Routes{"GET /x": handlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(name)) })})
		return url
	}
	urls := map[string]string{"old": named("old"), "new": named("new")}
	file := filepath.Join(t.TempDir(), "routes.json")
	writeRoutes(t, file, nil, functionEntry{Name: "x", URL: urls["old"], Routes: []string{"/x"}})
	edge, _ := newKeys(t).startProcess(t, "edge", "ROUTES_FILE="+file, "RATE_LIMIT_READ=1000000/15m") // because it gets requests all the time
	eventually(t, "the edge", func() bool { return send(t, http.MethodGet, edge+"/healthz", "").StatusCode == http.StatusOK })
	var all []time.Duration
	for i := range 10 {
		name := []string{"new", "old"}[i%2]
		writeRoutes(t, file, nil, functionEntry{Name: "x", URL: urls[name], Routes: []string{"/x"}})
		all = append(all, clocktest.Took(func() {
			eventually(t, name, func() bool { return send(t, http.MethodGet, edge+"/x", "").body == name })
		}))
	}
	if slices.Min(all) > within {
		t.Errorf("changes were in force after %v, want %s", all, within)
	}
}

// TestAMisconfiguredEdgeNamesEveryMistake and does not serve.
func TestAMisconfiguredEdgeNamesEveryMistake(t *testing.T) {
	t.Parallel()
	cmd := command(t, "edge", "UPSTREAM_TIMEOUT=1h", "TRUSTED_PROXIES=everyone", "RATE_LIMIT_AUTH=many", "EDGE_REPLICAS=0", "STEER_URL=steer")
	output, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 2 { //nolint:errorlint // exec's own error
		t.Errorf("%v, want exit status 2", err)
	}
	for _, want := range []string{
		"UPSTREAM_TIMEOUT is", "TRUSTED_PROXIES is", "RATE_LIMIT_AUTH is", "EDGE_REPLICAS is", "STEER_URL is", "EDGE_KEY_FILE is not set",
		"ROUTES_FILE is not set: expected the path of a JSON file", "TOKEN_PUBLIC_KEYS_FILE is not set",
	} {
		if !strings.Contains(strings.ReplaceAll(string(output), `\"`, `"`), "configuration: "+want) {
			t.Errorf("no line says %q:\n%s", want, output)
		}
	}
}
