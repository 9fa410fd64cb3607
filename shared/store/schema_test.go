package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warble/shared/store"
	"warble/shared/store/migrations"
	"warble/shared/store/pgserver"
	"warble/shared/store/pgtest"
)

func TestTheNewestMigrationIsTheOneTheBinaryKnows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) != store.SchemaVersion {
		t.Errorf("%d files, SchemaVersion %d, %v", len(files), store.SchemaVersion, err)
	}
}

// As managed services have it: whoever migrates owns the database and may make roles, and is no superuser. Four do it at
// once, as four Jobs of a hasty deployment would.
func TestManyMigrateAtOnceWithoutASuperuser(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, _ := ownServer(t)
	for _, sql := range []string{
		`create role admin login createrole`,
		`create database empty owner admin`,
	} {
		if err := pgtest.Exec(ctx, server.Superuser("postgres"), sql); err != nil {
			t.Fatal(err)
		}
	}
	migrate := func() (before, after int32) {
		conn, err := store.Connect(ctx, server.URL("admin", "empty"), time.Minute)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		before, after, err = migrations.Apply(ctx, conn)
		if err != nil {
			t.Error(err)
		}
		return before, after
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, after := migrate(); after != store.SchemaVersion {
				t.Errorf("at %d", after)
			}
		})
	}
	all.Wait()
	if before, after := migrate(); before != store.SchemaVersion || after != store.SchemaVersion {
		t.Errorf("again: from %d to %d", before, after)
	}

	conn, err := store.Connect(ctx, server.URL("admin", "empty"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var strangers int
	if err := conn.QueryRow(ctx, `
		select count(*)
		from pg_class
		where relnamespace = 'public'::regnamespace and relowner <> 'warble_owner'::regrole`).Scan(&strangers); err != nil || strangers != 0 {
		t.Errorf("%d tables or indexes are not warble_owner's, %v", strangers, err)
	}
	for range 2 {
		if err := store.CreateLogin(ctx, conn, store.DatabaseLogin{Name: "warble_api_login", Group: "warble_api", Password: "it's \"secret\" \\ $1"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(ctx, `update schema_version set version = $1`, store.SchemaVersion+1); err != nil {
		t.Fatal(err)
	}
	if before, after := migrate(); before != store.SchemaVersion+1 || after != before {
		t.Errorf("a newer schema: from %d to %d", before, after)
	}
}

func TestConnectWaitsForAServerThatStarts(t *testing.T) {
	t.Parallel()
	server, folder := ownServer(t)
	url := server.Superuser("postgres")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Connect(t.Context(), url, time.Second); err == nil || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Errorf("nobody there: %v", err)
	}
	connected := make(chan error, 1)
	go func() {
		conn, err := store.Connect(context.WithoutCancel(t.Context()), url, time.Minute)
		if err == nil {
			err = conn.Close(context.WithoutCancel(t.Context()))
		}
		connected <- err
	}()
	server = startServer(t, folder)
	if err := <-connected; err != nil {
		t.Error(err)
	}
	// Not tried again, or the error would say for how long it was.
	if _, err := store.Connect(t.Context(), server.URL("nobody_here", "postgres"), time.Minute); err == nil || strings.Contains(err.Error(), "no answer within") {
		t.Errorf("an unknown role: %v", err)
	}
}

// ownServer starts a server for one test, which may stop it, and start it again on the same folder.
func ownServer(t *testing.T) (server *pgserver.Server, folder string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "warble-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return startServer(t, folder), folder
}

func startServer(t *testing.T, folder string) *pgserver.Server {
	t.Helper()
	server, err := pgserver.Start(t.Context(), folder, pgserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	return server
}
