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

	"warble/shared/idempotency"
	"warble/shared/process"
	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
)

// The store works behind a pooler that gives each transaction any free connection. Debian 12's PgBouncer does
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
	db, err := store.Open(pgbouncer(t, server).url("pooled"), 8)
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
				key := idempotency.Key{Route: "POST /2/tweets", Key: fmt.Sprint(n / 2), Fingerprint: []byte("f")} // each twice
				if _, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: id + 1, Text: "x"}, key, store.Body{Status: 201}); err != nil {
					t.Error(err)
				}
				horizon, err := db.Horizon(t.Context())
				if err != nil {
					t.Error(err)
				}
				if list, err := db.UserTweets(t.Context(), id+1, store.Page{Limit: 10, Horizon: horizon, Reader: id + 1}); err != nil || len(list) != n/2+1 {
					t.Errorf("%d tweets after %d: %v", len(list), n, err)
				}
			}
		})
	}
	all.Wait()
	eventually(t, "all on the list of somebody else", listLimit, func() bool {
		horizon, err := db.Horizon(t.Context())
		list, reading := db.UserTweets(t.Context(), 1, store.Page{Limit: 10, Horizon: horizon, Reader: 2})
		return err == nil && reading == nil && len(list) == 5
	})
	for id := range int64(users) { // more than there are connections: these leave in batches
		all.Go(func() {
			for range 5 {
				if _, err := db.CreateTweet(t.Context(), store.NewTweet{AuthorID: id + 1, Text: "y"}, idempotency.Key{}, store.Body{Status: 201}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var batched, transactions int
	if err := conn.QueryRow(t.Context(), `select count(*), count(distinct xmin::text) from tweets where text = 'y'`).Scan(&batched, &transactions); err != nil {
		t.Fatal(err)
	}
	if batched != 5*users || transactions >= batched {
		t.Errorf("%d tweets in %d transactions: expected %d, some of which share one", batched, transactions, 5*users)
	}
	var backends, left int
	if err := conn.QueryRow(t.Context(), `select count(*), (select count(*) from pg_locks where locktype = 'advisory') from pg_stat_activity where usename = 'pooled'`).Scan(&backends, &left); err != nil {
		t.Fatal(err)
	}
	if backends > poolSize || left > 0 {
		t.Errorf("%d connections for a pool of %d, %d locks left behind", backends, poolSize, left)
	}
}

// A relay works behind a pooler too, because leases are rows and relays poll.
func TestTheOutboxBehindPgBouncer(t *testing.T) {
	processes(t)
	t.Parallel()
	server := newServer(t)
	conn := ready(t, server, "warble_ops")
	if _, err := conn.Exec(t.Context(), `insert into outbox (user_id, type, data) select n::bigint << 22, 't', '{}' from generate_series(1, 100) n`); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(pgbouncer(t, server).url("pooled"), 8)
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

// newServer starts a PostgreSQL server for one test.
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

// ready migrates the server's database and creates the login pooled in a group. It returns a connection of the superuser.
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

// pooler is a PgBouncer that gives each transaction one of a few connections.
type pooler struct {
	t       testing.TB
	cmd     *exec.Cmd
	exited  <-chan error
	address string
	config  string // the file
	user    *syscall.Credential
}

// pgbouncer starts a PgBouncer in front of the server, with a pool of a few connections for each login, until the test ends.
func pgbouncer(t testing.TB, server *pgserver.Server) *pooler {
	t.Helper()
	to, err := pgx.ParseConfig(server.Superuser("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "warble-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	p := &pooler{t: t, address: address.String(), config: filepath.Join(folder, "pgbouncer.ini")}
	users := filepath.Join(folder, "users.txt") // the logins, without passwords, because the server's socket needs none
	for file, lines := range map[string][]string{
		users: {`"pooled" ""`, `"warble_auth_login" ""`, `"warble_api_login" ""`, `"warble_mail_login" ""`, `"warble_ops_login" ""`},
		p.config: {
			"[databases]",
			fmt.Sprintf("postgres = host=%s dbname=postgres", to.Host),
			"[pgbouncer]",
			"listen_addr = 127.0.0.1",
			fmt.Sprintf("listen_port = %d", address.Port),
			"unix_socket_dir =",
			"auth_type = trust",
			"auth_file = " + users,
			"pool_mode = transaction",
			"server_login_retry = 0.2", // after the server was down; the default is 15 s
			"log_connections = 0",
			"log_disconnections = 0",
			fmt.Sprintf("default_pool_size = %d", poolSize),
		},
	} {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil { //nolint:gosec // for the server's account
			t.Fatal(err)
		}
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // for the server's account
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // PgBouncer does not run as root, and only the server's account may use the socket
		socket, err := os.Stat(to.Host)
		if err != nil {
			t.Fatal(err)
		}
		owner := socket.Sys().(*syscall.Stat_t) // as os.Stat documents for Unix
		p.user = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	p.start()
	t.Cleanup(func() { p.end(syscall.SIGTERM) })
	return p
}

func (p *pooler) start() {
	p.t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // Debian's folder, which PATH may not have
	}
	p.cmd = exec.Command(program, p.config) //nolint:noctx // end ends it
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.user}
	p.cmd.Stderr = p.t.Output()
	if p.exited, err = process.Start(p.cmd, syscall.SIGTERM); err != nil {
		p.t.Fatalf("%v: install pgbouncer", err)
	}
}

func (p *pooler) end(signal syscall.Signal) {
	_ = p.cmd.Process.Signal(signal) // an error means that it has ended
	<-p.exited
}

// revive starts it again if it has ended by itself, like a cluster: PgBouncer 1.18 ends if the server crashes during a cancel request.
func (p *pooler) revive() {
	p.t.Helper()
	select {
	case err := <-p.exited:
		p.t.Logf("PgBouncer ended: %v", err)
		p.start()
	default:
	}
}

// url returns the URL of the pooler for a login.
func (p *pooler) url(login string) string {
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable&default_query_exec_mode=cache_describe", login, p.address)
}
