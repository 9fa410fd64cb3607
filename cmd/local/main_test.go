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

// TestMain lets this program be a function as well: it is what a fleet starts in these tests.
func TestMain(m *testing.M) {
	if revision := os.Getenv("K_REVISION"); revision != "" {
		serveAsFunction(revision)
		return
	}
	pgtest.Main(m)
}

// told is what a process says of its environment at /.
type told struct{ KService, Configuration, Service, Experiment, Arm, Features string }

// serveAsFunction answers with the revision and what else the process was told, or ends at once where its feature is crash.
func serveAsFunction(revision string) {
	if os.Getenv("FEATURES") == "crash" {
		os.Exit(3)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Revision", revision)
		_ = json.NewEncoder(w).Encode(told{
			os.Getenv("K_SERVICE"), os.Getenv("K_CONFIGURATION"), os.Getenv("WARBLE_SERVICE"), os.Getenv("WARBLE_EXPERIMENT"), os.Getenv("WARBLE_ARM"), os.Getenv("FEATURES"),
		})
	})
	server := http.Server{Addr: net.JoinHostPort(os.Getenv("HOST"), os.Getenv("PORT")), Handler: mux, ReadHeaderTimeout: time.Minute}
	_ = server.ListenAndServe() // until it is ended
	os.Exit(4)
}

// functions are some of the manifests, each with this program in place of its own, and the secrets that they want.
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

// stateOf is a new state folder.
func stateOf(t *testing.T) state {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "state"), false)
}

// within polls until a thing is so.
func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
