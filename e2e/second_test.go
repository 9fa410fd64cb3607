//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
)

// private is a local run with its own database, which the other tests do not use.
func private(t *testing.T) *apitest.Local {
	t.Helper()
	run, err := apitest.StartLocal(t.Context(), "DATABASE_URL=")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Stop(); err != nil {
			t.Error(err)
		}
	})
	return run
}

// registerAt registers a user at one run.
func registerAt(t *testing.T, run *apitest.Local, email string) *user {
	t.Helper()
	u := (&user{t: t}).withURL(run.URL)
	s := decode[session](t, u.do("POST", "/auth/register", object("name", "Ada", "email", email, "password", password)), http.StatusCreated)
	u.id, u.token = s.Data.ID, s.Token
	return u
}

// isThere checks that the user is in the database of the run at url.
func isThere(t *testing.T, u *user, url string) {
	t.Helper()
	if a := u.withURL(url).do("GET", "/2/users/me", ""); a.status != http.StatusOK || !strings.Contains(a.body, u.id) {
		t.Errorf("%s of who registered before: %d %s", url, a.status, a.body)
	}
}

// TestASecondRunInTheSameStateIsRefused: at any address, and even if it would empty the database. The refusal names the first
// run, and says how to start a second one. The first run continues to serve, with its data. A run with another state folder runs
// at the same time. After a run was killed, its folder can be used again.
func TestASecondRunInTheSameStateIsRefused(t *testing.T) {
	processes(t)
	first := private(t)
	ada := registerAt(t, first, "ada@example.org")
	started := descendants(first.PID())
	slices.Sort(started)
	elsewhere := "127.0.0.1:" + freePort(t)
	for name, flags := range map[string][]string{
		"as the first":            nil,
		"emptied":                 {"-fresh"},
		"at another address":      {"-listen", elsewhere},
		"emptied, at another":     {"-listen", elsewhere, "-fresh"},
		"by another of its names": {"-listen", elsewhere, "-fresh", "-state", first.State() + "/../" + filepath.Base(first.State())},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			said, err := first.Again(ctx, flags...)
			if ended, ok := errors.AsType[*exec.ExitError](err); !ok || ended.ExitCode() != 1 {
				t.Errorf("%v, want exit status 1", err)
			}
			for _, part := range []string{"-state " + first.State(), fmt.Sprintf("pid %d at %s", first.PID(), first.URL), `make run ARGS="-listen 127.0.0.1:`, " -state " + first.State() + "-"} {
				if !strings.Contains(said, part) {
					t.Errorf("it does not say %q:\n%s", part, said)
				}
			}
			isThere(t, ada, first.URL)
		})
	}
	after := descendants(first.PID())
	slices.Sort(after)
	if diff := cmp.Diff(started, after); diff != "" {
		t.Errorf("other processes than before the second: %s", diff)
	}
	// If a child process had the lock, the lock would stay after the run.
	lock := filepath.Join(first.State(), "lock")
	for _, pid := range after {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(files) == 0 {
			t.Errorf("process %d has no files: %v: nothing is proven", pid, err)
		}
		for _, file := range files {
			if target, _ := os.Readlink(file); target == lock {
				t.Errorf("process %d has the lock open", pid)
			}
		}
	}

	second := private(t)
	grace := registerAt(t, second, "grace@example.org")
	isThere(t, ada, first.URL)
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	if statusOf(second.URL+"/2/users/me") != 0 {
		t.Errorf("%s answers after its end", second.URL)
	}
	isThere(t, ada, first.URL)
	if a := grace.withURL(first.URL).do("GET", "/2/users/me", ""); a.status != http.StatusUnauthorized {
		t.Errorf("the first knows the second's user: %d %s", a.status, a.body)
	}

	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	// Its PostgreSQL ends by itself, when everything is written.
	eventually(t, "the end of PostgreSQL", time.Minute, func() bool {
		_, err := os.Stat(filepath.Join(first.State(), "postgres", "data", "postmaster.pid"))
		return os.IsNotExist(err)
	})
	if err := first.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	isThere(t, ada, first.URL)
}

// freePort returns a port on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
