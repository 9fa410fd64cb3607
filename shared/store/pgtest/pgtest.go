// Package pgtest gives each test its own database on a real PostgreSQL server.
//
// The first test of a process starts a private server and migrates a template database. Every test clones the template, which takes
// some tens of milliseconds.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
)

// The logins of the test server, one for each group role, and the owner.
const (
	Auth  = "warble_auth_login"
	API   = "warble_api_login"
	Ops   = "warble_ops_login"
	Mail  = "warble_mail_login"
	Owner = "postgres"
)

// Communities are the slugs of the communities in every database.
var Communities = []string{"gophers", "pythonistas", "rustaceans", "sres"}

// shared is the process's only server.
var shared struct {
	mu     sync.Mutex // also serialises clones, because PostgreSQL refuses two of one template at the same time
	server *pgserver.Server
	folder string
	count  int
	main   bool
	err    error
}

// Main must be called by TestMain of every package that uses New. It runs the tests, and then stops the server that they started.
func Main(m *testing.M) {
	shared.main = true
	code := m.Run()
	var err error
	if shared.server != nil {
		err = shared.server.Stop()
	}
	if err = errors.Join(err, os.RemoveAll(shared.folder)); err != nil { // "" removes nothing
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = 1
	}
	os.Exit(code)
}

// Database is a fresh, migrated database.
type Database struct {
	name   string
	server *pgserver.Server
}

// New makes a database. It is deleted together with its server, because dropping it would take as long as making it.
func New(t testing.TB) Database {
	t.Helper()
	if !shared.main {
		t.Fatal("the package needs: func TestMain(m *testing.M) { pgtest.Main(m) }")
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.err = start()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	shared.count++
	name := "test_" + strconv.Itoa(shared.count)
	// Copying the files takes half as long as copying through the log.
	if err := Exec(t.Context(), shared.server.Superuser("postgres"), "create database "+name+" template warble strategy file_copy"); err != nil {
		t.Fatal(err)
	}
	return Database{name, shared.server}
}

// URL returns the URL by which a login (Auth, API, Ops, Mail, Owner) connects to the database.
func (d Database) URL(login string) string { return d.server.URL(login, d.name) }

// patience is how long calls may take in tests: long enough for a machine that is busy with other tests.
const patience = time.Minute

// Open opens the database for a login, with as many connections as a function has by default. Its calls may take a minute, and not only
// store.CallTimeout. A test that needs CallTimeout has to set it with DB.Limit.
func (d Database) Open(t testing.TB, login string) *store.DB {
	t.Helper()
	db, err := store.Open(d.URL(login), 4)
	if err != nil {
		t.Fatal(err)
	}
	db.Limit(patience)
	t.Cleanup(db.Close)
	return db
}

// Open makes a database and opens it: New and Database.Open in one call.
func Open(t testing.TB, login string) *store.DB {
	t.Helper()
	return New(t).Open(t, login)
}

// Exec runs one statement.
func Exec(ctx context.Context, url, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Column returns the first column of all rows of a query, which is of type text.
func Column(ctx context.Context, url, sql string, args ...any) ([]string, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)                    //nolint:errcheck // nothing is pending on it
	rows, _ := conn.Query(ctx, sql, args...) // CollectRows returns its error
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	return found, nil
}

// Hold runs one statement as the owner, in a transaction that stays open, with its locks, until the test ends.
func (d Database) Hold(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.URL(Owner))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // which rolls it back
	if _, err := conn.Exec(t.Context(), "begin"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// makeFolder makes the server's folder, in memory if it can be. A database is a copy of 10 MB that lives for a second, and on a disk, writing
// such copies takes a third of the time of all tests. The name has the id of this process. Folders of processes that are gone, because they
// were interrupted, are removed first: in memory they would stay until the machine restarts.
func makeFolder() (string, error) {
	const prefix = "warble-pgtest-"
	in := os.TempDir()
	if hasMemory() {
		in = memory
	}
	left, err := filepath.Glob(filepath.Join(in, prefix+"*-*"))
	if err != nil {
		return "", err
	}
	for _, folder := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), prefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(folder) // another process may be removing it, too
		}
	}
	return os.MkdirTemp(in, prefix+strconv.Itoa(os.Getpid())+"-")
}

// memory is where Linux mounts a file system that is in memory.
const memory = "/dev/shm"

// hasMemory says whether some GiB are free there. Containers often have 64 MiB.
func hasMemory() bool {
	var free syscall.Statfs_t
	return syscall.Statfs(memory, &free) == nil && free.Bavail*uint64(free.Bsize) >= 4<<30
}

// start starts the server in a temporary folder and makes the template.
func start() (err error) {
	ctx := context.Background()
	if shared.folder, err = makeFolder(); err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	if shared.server, err = pgserver.Start(ctx, shared.folder, pgserver.Options{
		Cache: filepath.Join(cache, "warble"),
		// No autovacuum: it would run all the time over so many databases, and change plans while tests check them.
		Set: []string{"max_connections=300", "autovacuum=off", "wal_level=minimal", "max_wal_senders=0"},
	}); err != nil {
		return err
	}
	if err := Exec(ctx, shared.server.Superuser("postgres"), "create database warble"); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, shared.server.Superuser("warble"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is pending on it
	if _, _, err := migrations.Apply(ctx, conn); err != nil {
		return err
	}
	for _, login := range []store.DatabaseLogin{{Name: Auth, Group: "warble_auth"}, {Name: API, Group: "warble_api"}, {Name: Ops, Group: "warble_ops"}, {Name: Mail, Group: "warble_mail"}} {
		if err := store.CreateLogin(ctx, conn, login); err != nil {
			return err
		}
		if err := Exec(ctx, shared.server.Superuser("warble"), fmt.Sprintf(`alter role %s set statement_timeout = %d`, login.Name, patience.Milliseconds())); err != nil {
			return err
		}
	}
	for _, slug := range Communities {
		if err := store.AddCommunity(ctx, conn, slug, slug); err != nil {
			return err
		}
	}
	return nil
}
