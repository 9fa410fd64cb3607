package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/manifest"
)

func open(t *testing.T, folder string, fresh bool) state {
	t.Helper()
	s, err := openState(folder, fresh)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKeysStayForTheNextRun, even with -fresh: nobody has to log in again.
func TestKeysStayForTheNextRun(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "state")
	s := open(t, folder, false)
	keys := func() (texts []string) {
		for _, file := range []string{s.path("warble-token-private", "private.pem"), s.path("warble-token-public", "jwks.json"), s.path("warble-edge", "key")} {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "jwks.json") && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %s", filepath.Base(file), info.Mode())
			}
			texts = append(texts, string(text))
		}
		return texts
	}
	first := keys()
	if len(strings.TrimSpace(first[2])) < 32 {
		t.Errorf("the edge's key has %d bytes", len(first[2]))
	}
	for _, name := range []string{"postgres", "bin"} {
		if err := os.MkdirAll(s.path(name, "kept"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, folder, true)
	if diff := cmp.Diff(first, keys()); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(s.path("postgres")); !os.IsNotExist(err) {
		t.Errorf("-fresh left the database: %v", err)
	}
	if _, err := os.Stat(s.path("bin", "kept")); err != nil {
		t.Error(err)
	}
}

// TestTheEnvironmentIsTheManifests for every function: values unchanged, secrets by name, and files in the state
// folder.
func TestTheEnvironmentIsTheManifests(t *testing.T) {
	t.Parallel()
	s := state("/state")
	services, err := manifest.ReadAll("../../knative")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		secrets := map[manifest.KeyRef]string{}
		want := map[string]string{}
		for _, variable := range service.Container().Env {
			want[variable.Name] = variable.Value
			if variable.ValueFrom != nil {
				secrets[variable.ValueFrom.SecretKeyRef.KeyRef] = "postgres://" + variable.Name
				want[variable.Name] = "postgres://" + variable.Name
			}
		}
		for name, file := range map[string]string{
			"ROUTES_FILE": "/state/warble-routes/routes.json", "EDGE_KEY_FILE": "/state/warble-edge/key",
			"TOKEN_PUBLIC_KEYS_FILE": "/state/warble-token-public/jwks.json", "TOKEN_PRIVATE_KEY_FILE": "/state/warble-token-private/private.pem",
		} {
			if _, set := want[name]; set {
				want[name] = file
			}
		}
		environment, err := s.environment(service, secrets)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, variable := range environment {
			name, value, _ := strings.Cut(variable, "=")
			got[name] = value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", service.Name(), diff)
		}
		if len(secrets) == 0 {
			continue
		}
		if _, err := s.environment(service, nil); err == nil || !strings.Contains(err.Error(), service.Name()+": env.") || !strings.Contains(err.Error(), "has no secret") {
			t.Errorf("%s without its secret: %v", service.Name(), err)
		}
	}
}

// TestAChangedSecretReachesTheNextProcess, as in a cluster: a run writes its secrets into folders, and a function that starts
// later gets what somebody has written there.
func TestAChangedSecretReachesTheNextProcess(t *testing.T) {
	t.Parallel()
	services, err := manifest.ReadAll("../../knative")
	if err != nil {
		t.Fatal(err)
	}
	s := state(t.TempDir())
	for _, service := range services {
		if found := s.currentSecrets(service); len(found) > 0 {
			t.Errorf("%s, of which nothing is kept, has %q", service.Name(), found)
		}
	}
	ref := manifest.KeyRef{Name: "warble-database-api", Key: "url"}
	if err := s.writeSecrets(map[manifest.KeyRef]string{ref: "postgres://first"}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path(ref.Name, ref.Key), []byte("postgres://second"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]string)
	for _, service := range services {
		if found := s.currentSecrets(service); len(found) > 0 {
			got[service.Name()] = found
		}
	}
	if diff := cmp.Diff([]string{"DATABASE_URL=postgres://second"}, got["tweet"]); diff != "" || got["login"] != nil {
		t.Errorf("tweet: %s; login: %q", diff, got["login"])
	}
}
