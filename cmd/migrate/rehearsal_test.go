package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/store"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

// served starts a server that asks everybody except its superuser for a password. It archives its write-ahead log in the folder log
// of the returned folder.
func served(t *testing.T) (server *pgserver.Server, folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "warble-rehearsal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	log := filepath.Join(folder, "log")
	if err := errors.Join(os.Mkdir(log, 0o700), os.Chmod(log, 0o777), os.Chmod(folder, 0o755)); err != nil { // the server may run as another user
		t.Fatal(err)
	}
	hba := filepath.Join(folder, "hba.conf")
	rules := "local all,replication postgres trust\nlocal all all scram-sha-256\n"
	if err := os.WriteFile(hba, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	server, err = pgserver.Start(t.Context(), filepath.Join(folder, "server"), pgserver.Options{Set: []string{
		"hba_file=" + hba, "archive_mode=on", "archive_command=cp %p " + log + "/%f",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	if err := pgtest.Exec(t.Context(), server.Superuser("postgres"), `create database warble`); err != nil {
		t.Fatal(err)
	}
	return server, folder
}

func as(t *testing.T, server *pgserver.Server, login, password string) string {
	t.Helper()
	u, err := url.Parse(server.URL(login, "warble"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, password)
	return u.String()
}

// pod queries the database again and again. It opens a new connection each time, because only a new connection needs the password.
type pod struct {
	url    string
	asked  atomic.Int64
	failed chan error // gets one error at most
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func runPod(t *testing.T, url string) *pod {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &pod{url: url, failed: make(chan error, 1), stop: stop}
	p.done.Go(func() {
		for ctx.Err() == nil {
			if err := pgtest.Exec(context.WithoutCancel(ctx), p.url, `select from communities`); err != nil {
				p.failed <- err
				return
			}
			p.asked.Add(1)
		}
	})
	t.Cleanup(func() { stop(); p.done.Wait() })
	return p
}

// works waits until the pod has made some more queries.
func (p *pod) works(t *testing.T) {
	t.Helper()
	for goal, deadline := p.asked.Load()+5, time.Now().Add(2*time.Minute); p.asked.Load() < goal; time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-p.failed:
			t.Fatalf("after %d statements: %v", p.asked.Load(), err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d statements, and no more", p.asked.Load())
		}
	}
}

// TestRotationFailsNoStatement follows docs/day-two.md: the login that is not in use gets a new password, new pods use that login,
// and pods that still use the other login continue to work.
func TestRotationFailsNoStatement(t *testing.T) {
	t.Parallel()
	server, _ := served(t)
	settings := map[string]string{
		"DATABASE_DIRECT_URL":    server.Superuser("warble"),
		"DATABASE_PASSWORD_AUTH": "auth", "DATABASE_PASSWORD_API": "one", "DATABASE_PASSWORD_MAIL": "mail", "DATABASE_PASSWORD_OPS": "ops",
	}
	rotated := func(passwords map[string]string, args ...string) {
		t.Helper()
		maps.Copy(settings, passwords)
		if out, err := command(t.Context(), settings, args...); err != nil {
			t.Fatalf("migrate %v: %s%v", args, out, err)
		}
	}
	rotated(nil, "up")
	first := runPod(t, as(t, server, "warble_api_login", "one"))
	first.works(t)

	rotated(map[string]string{"DATABASE_PASSWORD_API_2": "two"}, "logins")
	second := runPod(t, as(t, server, "warble_api_login_2", "two"))
	second.works(t)
	first.works(t)
	first.stop()
	first.done.Wait()

	rotated(map[string]string{"DATABASE_PASSWORD_API": "three"}, "logins")
	third := runPod(t, as(t, server, "warble_api_login", "three"))
	third.works(t)
	second.works(t)
	if err := pgtest.Exec(t.Context(), first.url, `select`); err == nil {
		t.Error("the first password is still accepted")
	}

	// For comparison: with only one login for each group, the password of a login in use changes, and pods with the old password
	// can no longer connect.
	rotated(map[string]string{"DATABASE_PASSWORD_API": "four"}, "logins")
	select {
	case <-third.failed:
	case <-time.After(time.Minute):
		t.Error("a pod goes on with a password that was changed under it: expected it to fail, or this test sees nothing")
	}
	second.works(t)
}

// TestRestoreToASecond takes a base backup under load, archives the write-ahead log after it, and restores a new server to the
// state of one second.
func TestRestoreToASecond(t *testing.T) {
	t.Parallel()
	server, folder := served(t)
	log := filepath.Join(folder, "log")
	settings := map[string]string{
		"DATABASE_DIRECT_URL":    server.Superuser("warble"),
		"DATABASE_PASSWORD_AUTH": "auth", "DATABASE_PASSWORD_API": "api", "DATABASE_PASSWORD_MAIL": "mail", "DATABASE_PASSWORD_OPS": "ops",
	}
	if out, err := command(t.Context(), settings, "up"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	conn, err := store.Connect(t.Context(), server.Superuser("warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := make(chan int, 1)
	go func() { // the load: one community after another
		n := 0
		for ; ctx.Err() == nil; n++ {
			if _, err := conn.Exec(context.WithoutCancel(ctx), `insert into communities (slug, name) values ($1, $1)`, fmt.Sprintf("load-%d", n)); err != nil {
				t.Error(err)
				break
			}
		}
		written <- n
	}()

	initdb, err := filepath.EvalSymlinks(filepath.Join(server.Bin(), "initdb")) // PostgreSQL's other programs are in the same folder
	if err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(folder, "restored")
	backup := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(initdb), "pg_basebackup"),
		"-d", server.Superuser("postgres"), "-D", filepath.Join(restored, "data"), "--checkpoint=fast", "--wal-method=none", "--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	other, err := store.Connect(t.Context(), server.Superuser("warble"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	var second, segment string
	var before, after int
	read := func(into *int) {
		t.Helper()
		if err := other.QueryRow(t.Context(), `select count(*) from communities where slug like 'load-%'`).Scan(into); err != nil {
			t.Fatal(err)
		}
	}
	read(&before)
	if err := other.QueryRow(t.Context(), `select clock_timestamp()::text`).Scan(&second); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); after < before+20; read(&after) {
		if time.Now().After(deadline) {
			t.Fatalf("%d rows and then %d: expected the load to go on", before, after)
		}
	}
	stop()
	all := <-written
	if err := other.QueryRow(t.Context(), `select pg_walfile_name(pg_switch_wal())`).Scan(&segment); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(log, segment)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log %s is not archived", segment)
		}
	}

	// The backup belongs to this test's user, for example root. The server accepts only files of its own user.
	if err := os.WriteFile(filepath.Join(restored, "data", "recovery.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := os.Stat(filepath.Join(folder, "server", "data"))
	if err != nil {
		t.Fatal(err)
	}
	give(t, restored, data)
	again, err := pgserver.Start(t.Context(), restored, pgserver.Options{Set: []string{
		"hba_file=" + filepath.Join(folder, "hba.conf"), "restore_command=cp " + log + "/%f %p",
		"recovery_target_time=" + second, "recovery_target_action=promote",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Stop() })
	copied, err := pgx.Connect(t.Context(), again.Superuser("warble"))
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is pending on it
	var has int
	if err := copied.QueryRow(t.Context(), `select count(*) from communities where slug like 'load-%'`).Scan(&has); err != nil {
		t.Fatal(err)
	}
	if has < before || has >= all {
		t.Errorf("the restored server has %d rows: expected at least the %d of before %s, and fewer than all %d", has, before, second, all)
	}
	// Roles and passwords are those of the restored second, and migrate finds nothing to do.
	if err := pgtest.Exec(t.Context(), as(t, again, "warble_api_login", "api"), `select from communities`); err != nil {
		t.Error(err)
	}
	settings["DATABASE_DIRECT_URL"] = again.Superuser("warble")
	want := fmt.Sprintf("the database is at migration %d; this command knows the migrations up to %d\n", store.SchemaVersion, store.SchemaVersion)
	if out, err := command(t.Context(), settings, "version"); err != nil || out != want {
		t.Errorf("migrate version: %q %v, want %q", out, err, want)
	}
}
