//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"warble/shared/apitest"
	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

// guarded starts a PostgreSQL that needs a password for everybody except its superuser, and archives its log.
func guarded(t *testing.T) (server *pgserver.Server, folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "warble-guarded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	log, hba := filepath.Join(folder, "log"), filepath.Join(folder, "hba.conf")
	if err := errors.Join(os.Mkdir(log, 0o700), os.Chmod(log, 0o777), os.Chmod(folder, 0o755), // the server may run as another user
		os.WriteFile(hba, []byte("local all,replication postgres trust\nlocal all all scram-sha-256\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if server, err = pgserver.Start(t.Context(), filepath.Join(folder, "server"), pgserver.Options{Set: []string{
		"hba_file=" + hba, "archive_mode=on", "archive_command=cp %p " + log + "/%f",
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	if err := pgtest.Exec(t.Context(), server.Superuser("postgres"), `create database warble`); err != nil {
		t.Fatal(err)
	}
	return server, folder
}

// runOn starts a local run on the test's own server.
func runOn(t *testing.T, server *pgserver.Server, settings ...string) *apitest.Local {
	t.Helper()
	run, err := apitest.StartLocal(t.Context(), append(settings, "DATABASE_URL="+server.Superuser("warble"))...)
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

// serverProgram returns the path of another of the server's programs.
func serverProgram(t *testing.T, server *pgserver.Server, name string) string {
	t.Helper()
	initdb, err := filepath.EvalSymlinks(filepath.Join(server.Bin(), "initdb")) // the others are in the same folder
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(initdb), name)
}

// using has requests to functions of each group of logins.
func using(u *user, id string) []func() (answer, error) {
	return append(reading(u, id),
		func() (answer, error) { return u.try("POST", "/2/tweets", object("text", "on and on")) },
		func() (answer, error) { return u.try("GET", u.path("/timelines/reverse_chronological"), "") },
		func() (answer, error) {
			return u.try("POST", "/auth/login", object("email", u.email, "password", password))
		},
		func() (answer, error) { return u.try("GET", "/2/users/me", "") },
	)
}

// goesOn waits until every function has got more requests.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	goal := l.sent.Load() + 50
	eventually(t, "requests enough to prove something", readyLimit, func() bool { return t.Failed() || l.sent.Load() >= goal })
}

// groups are the functions' groups of logins. Each has two logins; a run keeps the secret of the one in use.
func groups(t *testing.T, run *apitest.Local) (all []string) {
	t.Helper()
	const before = "warble-database-"
	folders, err := filepath.Glob(filepath.Join(run.State(), before+"*"))
	if err != nil || len(folders) < 3 {
		t.Fatalf("%d secrets of the database, %v", len(folders), err)
	}
	for _, folder := range folders {
		all = append(all, strings.TrimPrefix(filepath.Base(folder), before))
	}
	return all
}

// TestRotatingPasswordsFailsNoRequest follows the steps of docs/day-two.md under requests: migrate gives each group's other login a
// new password, the secret gets that login, and new revisions read it. The test does this twice, so that each login is changed while the other
// is in use. In the end the first login's old password is refused.
func TestRotatingPasswordsFailsNoRequest(t *testing.T) {
	processes(t)
	server, _ := guarded(t)
	run := runOn(t, server)
	ada := registerAt(t, run, "ada@example.org").withURL(run.URL)
	ada.email = "ada@example.org"
	people := start(t, using(ada, ada.post("ada's"))...)
	people.goesOn(t)

	groups := groups(t, run)
	secret := func(group string) string { return filepath.Join(run.State(), "warble-database-"+group, "url") }
	current := make(map[string]*url.URL) // by group
	passwords := make(map[string]string) // by variable
	for _, group := range groups {
		text, err := os.ReadFile(secret(group))
		if err != nil {
			t.Fatal(err)
		}
		if current[group], err = url.Parse(strings.TrimSpace(string(text))); err != nil {
			t.Fatal(err)
		}
		passwords["DATABASE_PASSWORD_"+strings.ToUpper(group)], _ = current[group].User.Password()
	}
	first := *current["api"]
	for turn, second := range []string{"_2", ""} {
		for _, group := range groups {
			passwords["DATABASE_PASSWORD_"+strings.ToUpper(group)+second] = "edition-" + string(rune('2'+turn)) + "-of-" + group
		}
		migrate(t, server, passwords, "logins")
		people.goesOn(t) // with the other login
		for _, group := range groups {
			next := *current[group]
			next.User = url.UserPassword("warble_"+group+"_login"+second, passwords["DATABASE_PASSWORD_"+strings.ToUpper(group)+second])
			if err := os.WriteFile(secret(group), []byte(next.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			current[group] = &next
		}
		if err := run.Replace(t.Context()); err != nil {
			t.Fatal(err)
		}
		onlyLogins(t, server, "_login"+second)
		people.goesOn(t)
	}
	sent := people.stop()
	if err := pgtest.Exec(t.Context(), first.String(), `select`); err == nil {
		t.Error("the first password is still accepted")
	}
	t.Logf("%d requests", sent)
}

// onlyLogins waits until every connection of the functions belongs to a login with this suffix, because the old processes have ended. The
// local run itself keeps one old connection of ops, to move experiments; so for ops, a new connection must exist too.
func onlyLogins(t *testing.T, server *pgserver.Server, end string) {
	t.Helper()
	conn, err := store.Connect(t.Context(), server.Superuser("warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	eventually(t, "connections of the logins that end in "+end+" only", readyLimit, func() bool {
		var names []string
		if err := conn.QueryRow(t.Context(), `
			select coalesce(array_agg(distinct usename::text), '{}')
			from pg_stat_activity
			where usename like 'warble\_%'`).Scan(&names); err != nil {
			t.Fatal(err)
		}
		return slices.Contains(names, "warble_ops"+end) && slices.Contains(names, "warble_api"+end) &&
			!slices.ContainsFunc(names, func(name string) bool {
				return !strings.HasSuffix(name, end) && !strings.HasPrefix(name, "warble_ops")
			})
	})
}

// migrate runs the command migrate.
func migrate(t *testing.T, server *pgserver.Server, settings map[string]string, args ...string) (said string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"run", "./cmd/migrate"}, args...)...)
	command.Dir, command.Env = "..", append(apitest.Environment(), "DATABASE_DIRECT_URL="+server.Superuser("warble"))
	for name, value := range settings {
		command.Env = append(command.Env, name+"="+value)
	}
	text, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("migrate %v: %v\n%s", args, err, text)
	}
	return string(text)
}

// TestARestoreDeletesAgainWhoLeft restores to one second of a load, with the steps of docs/day-two.md: a base backup, the log after it, a new
// server, and Warble on that server. An account that was deleted after that second is back, until migrate deletes it again.
func TestARestoreDeletesAgainWhoLeft(t *testing.T) {
	processes(t)
	server, folder := guarded(t)
	run := runOn(t, server)
	ada, bob := registerAt(t, run, "ada@example.org").withURL(run.URL), registerAt(t, run, "bob@example.org").withURL(run.URL)
	ada.email, bob.email = "ada@example.org", "bob@example.org"
	kept := bob.post("a word that bob takes back")
	people := start(t, using(ada, ada.post("ada's"))...)
	people.goesOn(t)

	restored := filepath.Join(folder, "restored")
	if text, err := exec.CommandContext(t.Context(), serverProgram(t, server, "pg_basebackup"),
		"-d", server.Superuser("postgres"), "-D", filepath.Join(restored, "data"), "--checkpoint=fast", "--wal-method=none", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, text)
	}
	before := ada.post("before the second")
	conn, err := store.Connect(t.Context(), server.Superuser("warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	var second, segment string
	if err := conn.QueryRow(t.Context(), `select clock_timestamp()::text`).Scan(&second); err != nil {
		t.Fatal(err)
	}
	people.goesOn(t)
	if a := bob.do("DELETE", "/auth/account", object("password", password)); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.body)
	}
	after := ada.post("after the second")
	people.goesOn(t)
	people.stop()
	if err := conn.QueryRow(t.Context(), `select pg_walfile_name(pg_switch_wal())`).Scan(&segment); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log in the archive", readyLimit, func() bool {
		_, err := os.Stat(filepath.Join(folder, "log", segment))
		return err == nil
	})

	if err := run.Stop(); err != nil { // so that nobody writes to the old server
		t.Error(err)
	}
	again := restoredAs(t, server, folder, restored, second)
	later := runOn(t, again)
	logInToLater := func(u *user) *user {
		atLater := u.withURL(later.URL)
		s := decode[session](t, atLater.do("POST", "/auth/login", object("email", u.email, "password", password)), http.StatusOK)
		atLater.token = s.Token
		return atLater
	}
	ada, bob = logInToLater(ada), logInToLater(bob) // bob's account is back
	for id, want := range map[string]int{before: http.StatusOK, kept: http.StatusOK, after: http.StatusNotFound} {
		if a := ada.do("GET", "/2/tweets/"+id, ""); a.status != want {
			t.Errorf("tweet %s of the second %s: %d, want %d", id, second, a.status, want)
		}
	}
	if said := migrate(t, again, nil, "deletions", "replay", bob.id); said != "deleted 1 of 1 accounts again\n" {
		t.Errorf("migrate deletions replay: %q", said)
	}
	if said := migrate(t, again, nil, "deletions", "replay", bob.id); said != "deleted 0 of 1 accounts again\n" {
		t.Errorf("migrate deletions replay, once more: %q", said)
	}
	if a := bob.do("POST", "/auth/login", object("email", bob.email, "password", password)); a.status != http.StatusUnauthorized {
		t.Errorf("bob logs in: %d %s", a.status, a.body)
	}
	if a := bob.do("POST", "/2/tweets", object("text", "I am back")); a.status != http.StatusUnauthorized {
		t.Errorf("bob writes: %d %s", a.status, a.body)
	}
	if a := ada.do("GET", "/2/tweets/"+kept, ""); a.status != http.StatusNotFound {
		t.Errorf("bob's word: %d %s", a.status, a.body)
	}
	if a := ada.do("POST", "/2/tweets", object("text", "ada goes on")); a.status != http.StatusCreated {
		t.Errorf("ada writes: %d %s", a.status, a.body)
	}
}

// restoredAs starts a new server from a base backup, restored to one second.
func restoredAs(t *testing.T, old *pgserver.Server, folder, backup, second string) *pgserver.Server {
	t.Helper()
	data, err := os.Stat(filepath.Join(folder, "server", "data"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(backup, "data", "recovery.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owner := data.Sys().(*syscall.Stat_t) // the server must own its folder
	if err := filepath.WalkDir(backup, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	}); err != nil {
		t.Fatal(err)
	}
	if err := old.Stop(); err != nil {
		t.Fatal(err)
	}
	server, err := pgserver.Start(t.Context(), backup, pgserver.Options{Set: []string{
		"hba_file=" + filepath.Join(folder, "hba.conf"), "restore_command=cp " + filepath.Join(folder, "log") + "/%f %p",
		"recovery_target_time=" + second, "recovery_target_action=promote",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}
