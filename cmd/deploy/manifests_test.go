package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The repository's manifests have no mistakes, and a mistake is named with its file.
func TestMistakesInManifestsAreNamed(t *testing.T) {
	t.Parallel()
	if _, err := readManifests("../..", "../../knative"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ file, old, new, says string }{
		"not YAML":         {"200-accounts.yaml", "kind: ServiceAccount", "kind: [", "200-accounts.yaml: yaml: line"},
		"a member twice":   {"400-migrate.yaml", "  backoffLimit: 3\n", "  backoffLimit: 3\n  backoffLimit: 4\n", `400-migrate.yaml: yaml: unmarshal errors:`},
		"no namespace":     {"400-migrate.yaml", "  namespace: warble\n", "", `400-migrate.yaml: Job migrate: metadata.namespace is "": expected warble`},
		"another's":        {"500-tweet.yaml", "  namespace: warble\n", "  namespace: default\n", `500-tweet.yaml: Service tweet: metadata.namespace is "default": expected warble`},
		"no name":          {"200-accounts.yaml", "  name: users\n", "", "200-accounts.yaml: ServiceAccount : expected apiVersion, kind and metadata.name"},
		"an object twice":  {"200-accounts.yaml", "name: users", "name: tweet", "200-accounts.yaml: ServiceAccount tweet: the same object is also in 200-accounts.yaml"},
		"no account":       {"200-accounts.yaml", "name: users", "name: user", "500-users.yaml: Service users: serviceAccountName users: no manifest has that ServiceAccount"},
		"a foreign image":  {"400-migrate.yaml", "ko://warble/cmd/migrate", "busybox", "400-migrate.yaml: Job migrate: image busybox: expected ko:// and the import path of a command"},
		"no such command":  {"400-migrate.yaml", "cmd/migrate", "cmd/migrat", "image ko://warble/cmd/migrat: no main package has that import path"},
		"a library":        {"400-migrate.yaml", "warble/cmd/migrate", "warble/shared/store", "image ko://warble/shared/store: no main package has that import path"},
		"malformed route":  {"500-tweet.yaml", "/2/tweets/{id}", "/2/tweets/{id", "500-tweet.yaml: warble.dev/routes: expected patterns of net/http, not /2/tweets/{id"},
		"another's route":  {"500-tweet.yaml", "/2/tweets/{id}", "/2/users/me", "500-users.yaml: warble.dev/routes claims /2/users/me, which belongs to tweet"},
		"no Namespace":     {"100-namespace.yaml", "kind: Namespace", "kind: Secret", "expected one manifest to have the Namespace"},
		"another's member": {"500-tweet.yaml", "containerConcurrency", "containerConcurency", "500-tweet.yaml: error unmarshaling JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			if err := os.CopyFS(folder, os.DirFS("../../knative")); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(folder, tt.file)
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			bad := strings.Replace(string(good), tt.old, tt.new, 1)
			if bad == string(good) {
				t.Fatalf("%q is not in %s", tt.old, tt.file)
			}
			if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := readManifests("../..", folder); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestAFolderWithoutManifestsIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := readManifests("../..", t.TempDir()); err == nil || !strings.Contains(err.Error(), "root of the repository") {
		t.Error(err)
	}
}

func TestPickChoosesALineOfALog(t *testing.T) {
	t.Parallel()
	log := strings.Join([]string{
		`{"level":"info","message":"listening"}`,
		`{"level":"warn","message":"not ready","error":"database: no answer"}`,
		`{"level":"info","message":"draining"}`,
		`not JSON`,
		``,
	}, "\n")
	got := []string{pick(log, complaint), pick(log, lastLine), pick("", lastLine), pick(`{"level":"info","message":"migrated"}`, complaint)}
	if diff := cmp.Diff([]string{"not ready: database: no answer", "not JSON", "", ""}, got); diff != "" {
		t.Error(diff)
	}
}
