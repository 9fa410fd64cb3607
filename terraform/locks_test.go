//go:build infra

package terraform_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLocksAreCommittedOrNamed runs the script in a temporary repository, with a fake terraform that writes lock files. No registry
// is called.
func TestLocksAreCommittedOrNamed(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("locks.sh")
	if err != nil {
		t.Fatal(err)
	}
	write("terraform/locks.sh", string(script), 0o755)
	write("terraform/01-cluster/cluster.tf", "", 0o644)
	write("bin/terraform", `#!/bin/sh
test "$*" = "-chdir=01-cluster get" && exit
test "$*" = "-chdir=01-cluster providers lock -platform=linux_amd64 -platform=darwin_arm64 -platform=windows_amd64" || exit 2
cp "$HASHES" 01-cluster/.terraform.lock.hcl
`, 0o755)
	write("old", "old hashes\n", 0o644)
	write("new", "new hashes\n", 0o644)
	do := func(hashes, name string, args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), name, args...)
		command.Dir = folder
		command.Env = append(os.Environ(), "PATH="+filepath.Join(folder, "bin")+":"+os.Getenv("PATH"), "STACK=01-cluster", "HASHES="+filepath.Join(folder, hashes),
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
		text, err := command.CombinedOutput()
		return string(text), err
	}
	must := func(hashes, name string, args ...string) {
		t.Helper()
		if said, err := do(hashes, name, args...); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, said)
		}
	}
	must("old", "git", "init", "-q")
	if said, err := do("old", "terraform/locks.sh", "check"); err == nil || !strings.Contains(said, "terraform/01-cluster/.terraform.lock.hcl is not committed: run make locks STACK=01-cluster") {
		t.Errorf("without a lock file: %q %v", said, err)
	}
	must("old", "terraform/locks.sh", "write")
	must("old", "git", "add", "terraform")
	must("old", "git", "commit", "-qm", "locks")
	must("old", "terraform/locks.sh", "check")
	if said, err := do("new", "terraform/locks.sh", "check"); err == nil || !strings.Contains(said, "+new hashes") {
		t.Errorf("with a lock file that lacks hashes: %q %v", said, err)
	}
}
