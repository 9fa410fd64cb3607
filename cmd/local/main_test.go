package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"warble/shared/manifest"
	"warble/shared/store/pgtest"
)

// TestMain makes this program a function if K_REVISION is set, because the fleets of these tests start it as their functions.
func TestMain(m *testing.M) {
	if revision := os.Getenv("K_REVISION"); revision != "" {
		serveAsFunction(revision)
		return
	}
	pgtest.Main(m)
}

// processInfo is a process's environment, which it answers at /.
type processInfo struct{ KService, Configuration, Service, Experiment, Arm, Features string }

// serveAsFunction answers with the revision and the environment. It ends immediately if FEATURES is crash.
func serveAsFunction(revision string) {
	if os.Getenv("FEATURES") == "crash" {
		os.Exit(3)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Revision", revision)
		_ = json.NewEncoder(w).Encode(processInfo{
			os.Getenv("K_SERVICE"), os.Getenv("K_CONFIGURATION"), os.Getenv("WARBLE_SERVICE"), os.Getenv("WARBLE_EXPERIMENT"), os.Getenv("WARBLE_ARM"), os.Getenv("FEATURES"),
		})
	})
	server := http.Server{Addr: net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), Handler: mux, ReadHeaderTimeout: time.Minute}
	_ = server.ListenAndServe() // until it is ended
	os.Exit(4)
}

// functions returns some of the manifests and their secrets. This program takes the place of each function's program.
func functions(t *testing.T, s state, names ...string) ([]*manifest.Service, *database) {
	t.Helper()
	all, err := manifest.ReadAll("../../knative")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &database{secrets: make(map[manifest.KeyRef]string)}
	var services []*manifest.Service
	for _, m := range all {
		if !slices.Contains(names, m.Name()) {
			continue
		}
		services = append(services, m)
		if err := os.Symlink(program, s.path("bin", m.Name())); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		for _, v := range m.Container().Env {
			if v.ValueFrom != nil {
				d.secrets[v.ValueFrom.SecretKeyRef.KeyRef] = "secret"
			}
		}
	}
	return services, d
}

// stateOf returns a new state folder.
func stateOf(t *testing.T) state {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "state"), false)
}

// within polls until a condition holds, and fails the test after limit.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
