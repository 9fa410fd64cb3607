package store_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
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

func TestContractionsAreTheMigrationsMarkedAsSuch(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"001_create.sql": {Data: []byte("create table a ();")},
		"002_drop_b.sql": {Data: []byte("-- Nobody reads b.\n-- serves: 1\ndrop table b;")},
		"010_drop_a.sql": {Data: []byte("-- serves: 9\ndrop table a;")},
	}
	for after, want := range map[int][]migrations.Contraction{
		0:  {{File: "002_drop_b.sql", Serves: 1}, {File: "010_drop_a.sql", Serves: 9}},
		2:  {{File: "010_drop_a.sql", Serves: 9}},
		10: nil,
	} {
		if got, err := migrations.Contractions(files, after); err != nil || !slices.Equal(got, want) {
			t.Errorf("after %d: %v %v, want %v", after, got, err, want)
		}
	}
	for _, text := range []string{"-- serves:", "-- serves: 0", "-- serves: 11", "-- serves: 1.9"} {
		files["010_drop_a.sql"] = &fstest.MapFile{Data: []byte(text)}
		if got, err := migrations.Contractions(files, 2); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

// contracts finds statements that remove something that older code still uses.
var contracts = regexp.MustCompile(`(?i)\b(drop\s+(table|column|view|function|type|sequence|schema)|rename|set\s+not\s+null|alter\s+column\s+\w+\s+type|revoke)\b`)

// own matches a revoke on a function that the migration has just made, which removes nothing from older code.
var own = regexp.MustCompile(`(?i)revoke execute on function \w+\([^)]*\) from public;`)

// Without this test, somebody would forget the mark.
func TestAContractionNamesTheOldestCodeThatItServes(t *testing.T) {
	t.Parallel()
	// Earlier code than that of the thirteenth has no arms: an experiment that it started has to end before an upgrade.
	const first = 13
	says, err := migrations.Contractions(migrations.Files(), 0)
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[first:] {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		said := slices.ContainsFunc(says, func(c migrations.Contraction) bool { return c.File == filepath.Base(name) })
		if found := contracts.Find(own.ReplaceAll(text, nil)); found != nil && !said {
			t.Errorf("%s has %q: expected a line \"-- serves: N\", the oldest migration whose code still runs after it", name, found)
		}
	}
	for _, statement := range []string{"alter table a drop column b", "drop table a", "alter table a rename b to c", "alter table a alter column b set not null"} {
		if !contracts.MatchString(statement) {
			t.Errorf("%q is not seen to contract", statement)
		}
	}
}

// On managed services, the login that migrates owns the database and may make roles, but is no superuser. Here four of them migrate
// at the same time, like four Jobs of a hasty deployment.
func TestSeveralMigrateAtTheSameTimeWithoutASuperuser(t *testing.T) {
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

// ownServer starts a server for one test, which may stop it and start it again on the same folder.
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

// A function's login keeps the plans of its statements. The statements of the readout are planned each time, because that pays off.
func TestLoginsOfFunctionsKeepTheirPlans(t *testing.T) {
	t.Parallel()
	d := pgtest.New(t)
	for login, want := range map[string]string{pgtest.API: "force_generic_plan", pgtest.Auth: "force_generic_plan", pgtest.Ops: "auto", pgtest.Owner: "auto"} {
		var got string
		if err := connect(t, d, login).QueryRow(t.Context(), `show plan_cache_mode`).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", login, got, err, want)
		}
	}
}
