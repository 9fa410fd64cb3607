//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/process"
	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
)

// The store works behind a pooler that gives each transaction whichever connection is free. Debian 12's PgBouncer does
// not follow prepared statements by itself, so the URL is as store.FromEnv's comment says.
func TestBehindPgBouncerInTransactionMode(t *testing.T) {
	processes(t)
	t.Parallel()
	const users = 40
	server := newServer(t)
	conn := ready(t, server, "warble_api")
	if _, err := conn.Exec(t.Context(), `insert into users (id, username, name) select n, 'u' || n, 'U' from generate_series(1, $1::int) n`, users); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(pgbouncer(t, server, "pooled")+"&default_query_exec_mode=cache_describe", 8)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Limit(time.Minute)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := db.Ready(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for id := range int64(users) {
		all.Go(func() {
			for n := range 10 {
				key := store.Key{Route: "POST /2/tweets", Key: fmt.Sprint(n / 2), Fingerprint: []byte("f")} // each twice
				if _, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: id + 1, Text: "x"}, key, store.Body{Status: 201}); err != nil {
					t.Error(err)
				}
				if list, err := db.UserTweets(t.Context(), id+1, store.Page{Limit: 10}); err != nil || len(list) != n/2+1 {
					t.Errorf("%d tweets after %d: %v", len(list), n, err)
				}
			}
		})
	}
	all.Wait()
	var backends, left int
	if err := conn.QueryRow(t.Context(), `select count(*), (select count(*) from pg_locks where locktype = 'advisory') from pg_stat_activity where usename = 'pooled'`).Scan(&backends, &left); err != nil {
		t.Fatal(err)
	}
	if backends > poolSize || left > 0 {
		t.Errorf("%d connections for a pool of %d, %d locks left behind", backends, poolSize, left)
	}
}

// Leases are rows, and relays poll: what a relay does works behind a pooler too.
func TestTheOutboxBehindPgBouncer(t *testing.T) {
	processes(t)
	t.Parallel()
	server := newServer(t)
	conn := ready(t, server, "warble_ops")
	if _, err := conn.Exec(t.Context(), `insert into outbox (user_id, type, data) select n::bigint << 22, 't', '{}' from generate_series(1, 100) n`); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(pgbouncer(t, server, "pooled")+"&default_query_exec_mode=cache_describe", 8)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Limit(time.Minute)
	var mine []int16
	for deadline := time.Now().Add(time.Minute); len(mine) == 0; time.Sleep(20 * time.Millisecond) { // the pooler is starting
		if mine, err = db.LeasePartitions(t.Context(), "relay", time.Minute); err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for range 10 {
		var from []store.Cursor
		for _, p := range mine {
			from = append(from, store.Cursor{Partition: p})
		}
		events, err := db.UnpublishedEvents(t.Context(), from, nil, 5, 5)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int64
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		if len(ids) > 0 {
			if err := db.BuryEvent(t.Context(), ids[0], "x"); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.DeleteEvents(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := db.Backlog(t.Context()); err != nil || b.Age != 0 || b.DeadLetters == 0 {
		t.Errorf("%+v, %v", b, err)
	}
	if err := db.ReleasePartitions(t.Context(), "relay"); err != nil {
		t.Fatal(err)
	}
}

const poolSize = 3

// newServer starts a PostgreSQL server that the test may do with as it likes.
func newServer(t *testing.T) *pgserver.Server {
	t.Helper()
	folder, err := os.MkdirTemp("", "warble-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	server, err := pgserver.Start(context.Background(), folder, pgserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}

// ready migrates the server's database and makes the login pooled, of a group. The connection is its superuser's.
func ready(t *testing.T, server *pgserver.Server, group string) *store.Conn {
	t.Helper()
	conn, err := store.Connect(t.Context(), server.Superuser("postgres"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // nothing is pending on it
	if _, _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if err := store.CreateLogin(t.Context(), conn, store.DatabaseLogin{Name: "pooled", Group: group}); err != nil {
		t.Fatal(err)
	}
	return conn
}

// pgbouncer puts a pool of a few connections before the server and returns the URL by which a login gets there.
func pgbouncer(t *testing.T, server *pgserver.Server, login string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // Debian's, which PATH may leave out
	}
	to, err := pgx.ParseConfig(server.Superuser("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "warble-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	file := filepath.Join(folder, "pgbouncer.ini")
	settings := strings.Join([]string{
		"[databases]",
		fmt.Sprintf("postgres = host=%s dbname=postgres user=%s", to.Host, login),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		fmt.Sprintf("listen_port = %d", port),
		"unix_socket_dir =",
		"auth_type = any",
		"pool_mode = transaction",
		"log_connections = 0",
		"log_disconnections = 0",
		fmt.Sprintf("default_pool_size = %d", poolSize),
	}, "\n")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil { //nolint:gosec // for the server's account
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // for the server's account
		t.Fatal(err)
	}
	cmd := exec.Command(program, file) //nolint:noctx // ended below
	if os.Geteuid() == 0 {             // which it refuses, and the socket is for the server's account
		socket, err := os.Stat(to.Host)
		if err != nil {
			t.Fatal(err)
		}
		owner := socket.Sys().(*syscall.Stat_t) // as os.Stat documents for Unix
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	cmd.Stderr = t.Output()
	exited, err := process.Start(cmd, syscall.SIGTERM)
	if err != nil {
		t.Fatalf("%v: install pgbouncer", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-exited
	})
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", login, port)
}
